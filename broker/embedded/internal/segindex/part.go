package segindex

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// part is the index of one segment. The active one is the last in the set's
// list and belongs to the writer; a sealed one has end set.
type part struct {
	base  int64
	times atomic.Pointer[[]epoch] // replaced, not changed; only while the part is in memory
	disk  atomic.Pointer[disk]    // once it can be read from a file
	gone  atomic.Bool             // trimmed

	// Set when it is sealed, before it is published as such.
	end    int64
	rows   []uint64 // by queue: next offset and flags, as in a directory
	sealed bool

	// The writer's until it is sealed, then of who holds Set.files.
	runs   []*run
	maxMs  int64
	begun  []uint32 // queues that were told to begin in it
	newest uint32   // position minus base of the last entry
	// Room for runs and their first rows; until it is sealed.
	freeRuns []run
	freeRows []row

	mu   sync.Mutex // guards keys and err
	keys keys
	err  error // why it can never be written
}

func newPart(base int64) *part { return &part{base: base, maxMs: math.MinInt64} }

func (p *part) epochs() []epoch {
	if e := p.times.Load(); e != nil {
		return *e
	}
	return nil
}

func (p *part) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// relative answers pos as the part keeps it.
func (p *part) relative(pos int64) (uint32, bool) {
	if rel := pos - p.base; rel >= 0 && rel <= math.MaxUint32 {
		return uint32(rel), true
	}
	p.fail(fmt.Errorf("position %d in the segment that begins at %d: %w", pos, p.base, ErrMisuse))
	return 0, false
}

// packTime answers ms since the epoch of rel, and begins an epoch if need be.
// After the last one times are wrong rather than the index too large.
func (p *part) packTime(rel uint32, ms int64) uint32 {
	epochs := p.epochs()
	if n := len(epochs); n > 0 {
		d := ms - epochs[n-1].ms
		if d >= 0 && d <= math.MaxUint32 {
			p.maxMs = max(p.maxMs, ms)
			return uint32(d)
		}
		if n == maxEpochs || rel <= p.newest {
			d = min(max(d, 0), math.MaxUint32)
			p.maxMs = max(p.maxMs, epochs[n-1].ms+d)
			return uint32(d)
		}
	}
	next := append(append(make([]epoch, 0, len(epochs)+1), epochs...), epoch{rel, ms - epochSlack})
	p.times.Store(&next)
	p.maxMs = max(p.maxMs, ms)
	return epochSlack
}

// snapshot answers where the keys are: in memory or, if the disk is not nil,
// in a file.
func (p *part) snapshot() (keys, *disk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys, p.disk.Load()
}

// release frees what a file holds now, or what nobody will ask for again.
func (p *part) release() {
	for _, r := range p.runs {
		r.queue.forget(r)
	}
	p.runs, p.rows, p.begun = nil, nil, nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys{}
}

// runRoom is how many runs are allocated at once: with thousands of queues each
// of them begins anew in each part.
const runRoom = 64

// room makes a run. It belongs to the writer.
func (p *part) room() *run {
	if len(p.freeRuns) == 0 {
		p.freeRuns = make([]run, runRoom)
	}
	r := &p.freeRuns[0]
	p.freeRuns = p.freeRuns[1:]
	return r
}

// rowRoom makes room for the first rows of a run. It belongs to the writer.
func (p *part) rowRoom() []row {
	if len(p.freeRows) == 0 {
		p.freeRows = make([]row, runRoom*firstRows)
	}
	rs := p.freeRows[0:0:firstRows]
	p.freeRows = p.freeRows[firstRows:]
	return rs
}
