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

// OnCorruption is what a broker does about stored bytes that have changed.
type OnCorruption uint8

const (
	// Refuse: a damaged store does not open, and a lane does not get past a
	// message whose bytes are found to have changed: its Fetch answers
	// [driver.Corrupt] until somebody decides. Opening reads what the last
	// checkpoint does not tell; damage in older bytes is met when they are
	// read, or by package offline.
	Refuse OnCorruption = iota
	// Quarantine: the store opens and serves everything else. The damaged
	// range stays where it is, is never used again, is listed by
	// [Broker.Stats], and every group hears of what it lost by a
	// [driver.GapError].
	Quarantine
)

// String returns "refuse" or "quarantine".
func (c OnCorruption) String() string {
	if c == Quarantine {
		return "quarantine"
	}
	return "refuse"
}

// Retention says when messages are removed, whether they were consumed or not.
// A group that has not come to them hears of it by a [driver.GapError].
// Messages go by whole files of the log, of Config.SegmentBytes, the oldest
// first; the file that is written to stays. A file that holds a message which
// is not due yet, or an undecided half message, stays as well, and so does
// everything behind it.
type Retention struct {
	// Age is how long a message is kept at least. Defaults to 72 hours, as in
	// RocketMQ; below zero there is no limit.
	Age time.Duration
	// Bytes is the size of the log beyond which the oldest messages go, however
	// young. Defaults to 0, no limit.
	Bytes int64
	// PerPass is how many files one pass removes at most; there is a pass every
	// ten seconds. It keeps a clock that jumps from emptying the store at once.
	// Defaults to 10, as in RocketMQ.
	PerPass int
}

const (
	defaultRetention = 72 * time.Hour
	defaultPerPass   = 10
)

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
	// SegmentBytes is the size of the files of the log, at least 64 KiB above
	// the largest message. Defaults to 64 MiB, in memory to 16 MiB.
	SegmentBytes int64
	// OnCorruption says what to do about stored bytes that have changed.
	// Defaults to Refuse.
	OnCorruption OnCorruption
	// Retention says when stored messages are removed. Its zero value keeps
	// them for 72 hours.
	Retention Retention
	// Logger receives lifecycle and degradation events. Defaults to none.
	Logger *slog.Logger
}

const (
	maxBody      = 4 << 20
	maxQueues    = 1024
	maxFrame     = 8 << 20
	memSegment   = 16 << 20
	diskSegment  = 64 << 20
	maxSegment   = 1 << 30
	minimumSlack = 64 << 10
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
	fill(&c.Retention.Age, defaultRetention)
	fill(&c.Retention.PerPass, defaultPerPass)
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
	bad(c.OnCorruption > Quarantine, "OnCorruption is %d, it takes Refuse or Quarantine", c.OnCorruption)
	bad(c.Retention.Bytes < 0, "Retention.Bytes is %d, it takes 0 and more", c.Retention.Bytes)
	bad(c.Retention.PerPass < 1, "Retention.PerPass is %d, it takes 1 and more", c.Retention.PerPass)
	least := int64(c.MaxBody + minimumSlack)
	bad(c.SegmentBytes > maxSegment, "SegmentBytes is %d, at most %d are allowed", c.SegmentBytes, int64(maxSegment))
	bad(c.SegmentBytes < least, "SegmentBytes is %d, with MaxBody %d it takes %d and more", c.SegmentBytes, c.MaxBody, least)
	return errors.Join(errs...)
}
