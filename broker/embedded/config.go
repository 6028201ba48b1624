package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Sync says when a message that was answered is on stable storage. It is a
// duration: see [SyncEvery] for values above zero.
//
//	mode          answer means               kill of the process   power cut
//	SyncAlways    on stable storage          nothing lost          nothing lost
//	SyncEvery(d)  with the operating system  nothing lost          at most the last d, always a suffix
//	SyncNever     with the operating system  nothing lost          a suffix
//
// In each mode a message becomes visible no sooner than it is answered.
type Sync time.Duration

const (
	// SyncAlways is the default. Writers that come at the same time share one
	// sync, and nobody waits for company.
	SyncAlways Sync = 0
	// SyncNever leaves it to the operating system, and to Close.
	SyncNever Sync = -1
)

// SyncEvery syncs at most d after a write, in the background. A d of zero or
// less is [SyncAlways].
func SyncEvery(d time.Duration) Sync { return Sync(max(d, 0)) }

// String returns "always", "never" or "every 1s".
func (s Sync) String() string {
	switch {
	case s == SyncAlways:
		return "always"
	case s < 0:
		return "never"
	default:
		return "every " + time.Duration(s).String()
	}
}

// Config configures a [Broker]. The zero value is usable.
type Config struct {
	// Dir is the directory of the store, for [Module] only; [Open] has an
	// argument for it. Defaults to "", which keeps everything in memory.
	Dir string
	// FS replaces the directory, for tests that break it. The broker does not
	// close it. Defaults to the directory.
	FS vfs.FS
	// Sync says when an answer means stable storage. Defaults to SyncAlways.
	Sync Sync
	// Queues is the number of queues of a topic that is created by its first
	// use, 1 to 1024. Defaults to 4.
	Queues int
	// NoAutoCreate refuses to create topics by their first use. Topics for
	// retries and dead letters are created all the same. Defaults to false.
	NoAutoCreate bool
	// MaxBody is the largest body of a message in bytes, at most 4 MiB.
	// Defaults to 4 MiB.
	MaxBody int
	// MaxBatch is the largest number of messages in one Send. Defaults to 1024.
	MaxBatch int
	// RevokeTimeout is how long a member may take to settle its work on a lane
	// that another member is to get. Defaults to 30 s.
	RevokeTimeout time.Duration
	// CheckAfter is the age at which an undecided half message is asked for
	// the first time. Defaults to 6 s.
	CheckAfter time.Duration
	// CheckEvery is the pause after the first check; it doubles with each
	// check up to 16 times itself. Defaults to 30 s.
	CheckEvery time.Duration
	// CheckMax is the number of undecided answers after which a half message
	// is parked. Defaults to 15.
	CheckMax int
	// SegmentBytes is the size of the files of the log, at least 1 MiB above
	// the largest message. Defaults to 64 MiB, in memory to 16 MiB.
	SegmentBytes int64
	// Logger receives lifecycle and degradation events. Defaults to none.
	Logger *slog.Logger
}

const (
	maxBody      = 4 << 20
	maxQueues    = 1024
	maxFrame     = 8 << 20
	memSegment   = 16 << 20
	diskSegment  = 64 << 20
	minimumSlack = 1 << 20
)

// withDefaults fills in what is not set.
func (c Config) withDefaults(memory bool) Config {
	fill(&c.Queues, 4)
	fill(&c.MaxBody, maxBody)
	fill(&c.MaxBatch, 1024)
	fill(&c.RevokeTimeout, 30*time.Second)
	fill(&c.CheckAfter, 6*time.Second)
	fill(&c.CheckEvery, 30*time.Second)
	fill(&c.CheckMax, 15)
	if memory {
		fill(&c.SegmentBytes, memSegment)
	}
	fill(&c.SegmentBytes, diskSegment)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func fill[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

// validate reports everything that is wrong with c, defaults filled in.
func (c Config) validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Queues < 1 || c.Queues > maxQueues, "Queues is %d, it takes 1 to %d", c.Queues, maxQueues)
	bad(c.MaxBody < 1 || c.MaxBody > maxBody, "MaxBody is %d, it takes 1 to %d bytes", c.MaxBody, maxBody)
	bad(c.MaxBatch < 1, "MaxBatch is %d, it takes 1 and more", c.MaxBatch)
	bad(c.RevokeTimeout < 0, "RevokeTimeout is %v, it takes more than 0", c.RevokeTimeout)
	bad(c.CheckAfter < 0, "CheckAfter is %v, it takes more than 0", c.CheckAfter)
	bad(c.CheckEvery < 0, "CheckEvery is %v, it takes more than 0", c.CheckEvery)
	bad(c.CheckMax < 1, "CheckMax is %d, it takes 1 and more", c.CheckMax)
	least := int64(c.MaxBody + minimumSlack)
	bad(c.SegmentBytes < least, "SegmentBytes is %d, with MaxBody %d it takes %d and more", c.SegmentBytes, c.MaxBody, least)
	return errors.Join(errs...)
}
