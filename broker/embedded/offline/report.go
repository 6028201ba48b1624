package offline

import (
	"errors"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
)

// Errors that callers branch on; what is returned wraps them.
var (
	// ErrNotAStore: the directory is empty or holds something else.
	ErrNotAStore = commitlog.ErrNotAStore
	// ErrVersion: the store was written by a newer program.
	ErrVersion = commitlog.ErrVersion
	// ErrDamaged: a part of the log could not be shown by [Dump].
	ErrDamaged = errors.New("the store is damaged")
)

// Report is what [Verify] found. Positions are those of the log, in bytes.
type Report struct {
	StoreID uint64
	// FormatVersion is that of the manifest, 0 if none could be read.
	FormatVersion int
	// Manifest is the file that was used, empty if none could be read.
	Manifest string
	// Created is when the store was made, the zero time if unknown.
	Created time.Time
	// Clean: the store was closed in order the last time. One that is open is
	// not clean.
	Clean bool
	// Start is the position of the first frame that is kept, End that behind
	// the last one. Everything before Synced was durable when the manifest was
	// written.
	Start, Synced, End int64
	// Segments is the number of files of the log.
	Segments int
	// Kinds counts the frames by what they hold, in the order of the kinds.
	// Kinds without a frame are left out.
	Kinds []KindCount
	// Frames is the number of frames, FrameBytes their size, PayloadBytes that
	// of what is in them.
	Frames                   int
	FrameBytes, PayloadBytes int64
	// Messages is the number of messages in queues, BodyBytes the size of their
	// bodies.
	Messages  int
	BodyBytes int64
	// Delayed and Undecided are the messages that wait for their time, and the
	// half messages that wait for a decision, also those of deleted topics.
	Delayed, Undecided int
	// TornBytes is the length of a torn tail, which the next start cuts off.
	TornBytes int64
	// Quarantined are the ranges that the store knows to be damaged and has
	// gone on without.
	Quarantined []Damage
	// Damage is everything else that is not as it was written.
	Damage []Damage
	// Notes are about files that need no attention.
	Notes []Note
}

// KindCount is how many frames there are of a kind, and their size in bytes.
type KindCount struct {
	Kind   Kind
	Frames int
	Bytes  int64
}

// Damage is a place in a file that is not as it was written.
type Damage struct {
	File string
	// Offset is where it begins in the file, and Length how long it is, in
	// bytes; 0 and 0 for the whole file. In a file of the log the length may go
	// beyond the end of the file, into the next one.
	Offset, Length int64
	Reason         string
	// Derived: the file can be deleted while the store is closed, and is made
	// again from the log.
	Derived bool
}

// Note is something about a file, or about several that its text counts, that
// is no damage.
type Note struct {
	File, Text string
}
