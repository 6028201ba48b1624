package server

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/remoting"
)

const (
	// handOver is the size from which a body is sent from where it lies. Below,
	// copying it is cheaper than one more piece of a vectored write.
	handOver = 4 << 10
	// crowdedWrite is how long a peer may take nothing of a lot while all peers
	// together take too little.
	crowdedWrite = 2 * tick
	// piece is how much one write takes at most: progress is seen by pieces.
	piece = 256 << 10
	// spareMost is the largest buffer that is kept for the next answers.
	spareMost = 64 << 10
	// chunksMost is the same for the list of pieces.
	chunksMost = 128
	// overflow times the budget is what no peer gets: answers to requests that
	// were accepted before it filled up may go beyond the budget, but not
	// without end.
	overflow = 4
)

// outbox holds what is to be sent to one peer. Frames are encoded one behind
// the other into one buffer and leave in one write, from whichever goroutine
// finds nobody else writing.
type outbox struct {
	to     net.Conn
	budget int64
	// copies: bodies are copied as well, since the connection cannot take
	// several pieces in one write.
	copies bool
	clock  *clock
	// wakeup wakes the writing goroutine. One signal is enough: it takes
	// everything there is.
	wakeup chan struct{}
	// room gets a signal when a full outbox has room again, or a request was
	// answered, and somebody has asked for it by starved.
	room    chan struct{}
	starved atomic.Bool
	// since is when the write that is under way began or made progress; zero
	// while there is none.
	since atomic.Int64
	// last is when something was taken by the peer.
	last atomic.Int64
	// size is how many bytes are not yet written, all the same of all peers
	// together. size changes under mu, and all with it; see grow.
	size atomic.Int64
	all  *quota

	mu     sync.Mutex
	arena  []byte   // frames, from start on not yet in chunks
	start  int      // in arena
	chunks [][]byte // what to write before arena[start:]
	busy   bool     // somebody writes
	taken  int64    // bytes of the batch that is being written
	err    error    // why nothing is sent any more
	spare  []byte   // the next arena
	free   [][]byte // the next chunks
}

func newOutbox(budget int, all *quota, clock *clock) *outbox {
	return &outbox{budget: int64(budget), all: all, clock: clock, wakeup: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// grow changes how many bytes are not yet written. The caller holds mu.
func (o *outbox) grow(n int64) {
	o.size.Add(n)
	o.all.add(n)
}

// put appends a frame. It answers whether the writing goroutine is needed, if
// the caller does not flush. A body of handOver bytes or more must not change
// any more.
func (o *outbox) put(cmd *remoting.Command) (idle bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return false, o.err
	}
	if o.size.Load() > overflow*o.budget {
		return false, errOverflow
	}
	before := len(o.arena)
	if len(cmd.Body) < handOver || o.copies {
		arena, err := remoting.AppendFrame(o.arena, cmd)
		if err != nil {
			return false, err
		}
		o.arena = arena
		o.grow(int64(len(arena) - before))
		return !o.busy, nil
	}
	arena, err := remoting.AppendFrameHead(o.arena, cmd, len(cmd.Body))
	if err != nil {
		return false, err
	}
	o.arena = arena
	o.chunks = append(o.chunks, arena[o.start:len(arena):len(arena)], cmd.Body)
	o.start = len(arena)
	o.grow(int64(len(arena) - before + len(cmd.Body)))
	return !o.busy, nil
}

// waiting is how many bytes wait to be sent.
func (o *outbox) waiting() int64 { return o.size.Load() }

// wake lets the writing goroutine send what is there.
func (o *outbox) wake() {
	select {
	case o.wakeup <- struct{}{}:
	default:
	}
}

// relieve tells who waits for room that there is some.
func (o *outbox) relieve() {
	if o.starved.Load() {
		select {
		case o.room <- struct{}{}:
		default:
		}
	}
}

// flush sends what is there, unless somebody else is sending: then that one
// goes on. One pass is enough for the reading goroutine, which has requests to
// read; what came meanwhile is left to the writing goroutine.
func (o *outbox) flush(passes int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ; passes != 0 && !o.busy && o.err == nil && o.size.Load() > 0; passes-- {
		o.busy = true
		arena, batch := o.arena, o.chunks
		if o.start < len(arena) {
			batch = append(batch, arena[o.start:])
		}
		o.chunks, o.arena, o.start, o.taken = o.free, o.spare, 0, o.size.Load()
		o.free, o.spare = nil, nil
		o.mu.Unlock()
		err := o.write(batch)
		o.mu.Lock()
		o.busy = false
		o.wrote(o.taken) // after an error nobody will
		if err != nil {
			o.fail(err)
		}
		if cap(arena) <= spareMost {
			o.spare = arena[:0]
		}
		if cap(batch) <= chunksMost {
			clear(batch)
			o.free = batch[:0]
		}
	}
	if o.size.Load() > 0 && !o.busy && o.err == nil {
		o.wake()
	}
	return o.err
}

// write sends a batch piece by piece.
func (o *outbox) write(batch [][]byte) error {
	defer o.since.Store(0)
	for len(batch) > 0 {
		o.since.Store(o.clock.now())
		var n int
		var err error
		if len(batch) == 1 {
			n, err = o.to.Write(batch[0][:min(len(batch[0]), piece)])
			if batch[0] = batch[0][n:]; len(batch[0]) == 0 {
				batch = batch[1:]
			}
		} else {
			var vector net.Buffers
			vector, batch = cut(batch)
			var written int64
			written, err = vector.WriteTo(o.to)
			n = int(written)
		}
		o.mu.Lock()
		o.wrote(int64(n))
		o.mu.Unlock()
		o.last.Store(o.clock.now())
		o.relieve()
		if err != nil {
			return err
		}
	}
	return nil
}

// cut takes the first piece off a batch.
func cut(batch [][]byte) (first net.Buffers, rest [][]byte) {
	left := piece
	for i, b := range batch {
		if len(b) > left {
			first = append(first, b[:left])
			batch[i] = b[left:]
			return first, batch[i:]
		}
		first = append(first, b)
		left -= len(b)
	}
	return first, nil
}

// wrote notes that n bytes of the batch need no more memory. The caller holds mu.
func (o *outbox) wrote(n int64) {
	o.taken -= n
	o.grow(-n)
}

// fail drops everything, but for what is being written: that is still in
// memory. The caller holds mu.
func (o *outbox) fail(err error) {
	if o.err == nil {
		o.err = err
	}
	o.arena, o.chunks, o.start, o.spare, o.free = nil, nil, 0, nil, nil
	o.grow(o.taken - o.size.Load())
}

// close makes further puts answer err.
func (o *outbox) close(err error) {
	o.mu.Lock()
	o.fail(err)
	o.mu.Unlock()
	o.relieve()
}
