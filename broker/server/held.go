package server

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// held are the pulls that wait for messages, by queue. A message that comes
// wakes the queue, on the write path of the store; one goroutine then looks at
// the pulls of the queues that were woken and answers those that find something.
// A tick of the server answers those whose time is over.
//
// Lock order: waiters.turn, held.mu, waiters.mu. Only the first is held over a
// call of the store, and nobody on the write path takes it.
type held struct {
	s  *Server
	mu sync.Mutex
	// queues has an entry as long as pulls of the queue are held.
	queues map[queueKey]*waiters
	closed bool

	woken   chan struct{} // buffer 1: there is something in due
	pending atomic.Bool   // the same, to be looked at
	dueMu   sync.Mutex
	due     []*waiters
	working []*waiters // of the goroutine
}

type queueKey struct {
	topic string
	queue int
}

// waiters are the held pulls of one queue.
type waiters struct {
	h    *held
	key  queueKey
	dirt atomic.Bool // it is in due
	stop func()      // ends the watch of the queue

	// turn is held while the pulls are looked at: who looked and found nothing
	// must have put them back before the next message is looked for.
	turn sync.Mutex

	mu    sync.Mutex
	pulls []*pull
	dead  bool // it is no longer in held.queues
}

func newHeld(s *Server) *held {
	return &held{s: s, queues: map[queueKey]*waiters{}, woken: make(chan struct{}, 1)}
}

// add holds a pull for d at the most and answers errLater; the caller must not
// touch p afterwards. It answers nil if the pull has to be answered now, because
// the server closes, and refuses one too many of a connection: "nothing there"
// would make the client ask again at once.
func (h *held) add(p *pull, d time.Duration) error {
	if !p.c.hold() {
		return refuse(remoting.ResSystemBusy, "the connection has %d pulls waiting, as many as it may (%s)", h.s.cfg.Limits.HeldPulls, h.s.cfg.setting("Limits.HeldPulls"))
	}
	p.deadline = h.s.clock.now() + int64(d)
	from, offset := p.from, p.offset // somebody may answer p as soon as it is held
	k := queueKey{p.topic, p.queue}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		p.c.unhold()
		return nil
	}
	w := h.queues[k]
	if w == nil {
		w = &waiters{h: h, key: k}
		h.queues[k] = w
		w.stop = from.Watch(w.wake)
	}
	w.mu.Lock()
	w.pulls = append(w.pulls, p)
	w.mu.Unlock()
	h.mu.Unlock()
	if from.Max() > offset {
		w.wake() // what came between the look and the watch
	}
	return errLater
}

// wake has the pulls of a queue looked at. It runs on the write path.
func (w *waiters) wake() {
	if !w.dirt.CompareAndSwap(false, true) {
		return
	}
	h := w.h
	h.dueMu.Lock()
	h.due = append(h.due, w)
	h.pending.Store(true)
	h.dueMu.Unlock()
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

// first lets woken pulls be answered before the caller writes, which is then to
// answer what has woken them. A write wakes another process, which may be given
// this processor; where both are idle, consumers get a message a seventh sooner.
func (h *held) first() {
	if h.pending.Load() {
		runtime.Gosched()
	}
}

// run answers pulls whose queues were woken, until the server closes.
func (h *held) run() {
	for {
		select {
		case <-h.woken:
		case <-h.s.closing:
			return
		}
		h.dueMu.Lock()
		h.working, h.due = h.due, h.working[:0]
		h.pending.Store(false)
		h.dueMu.Unlock()
		for i, w := range h.working {
			h.working[i] = nil
			w.dirt.Store(false) // before the look: what comes later wakes again
			h.look(w, func(p *pull, resp *remoting.Command) bool {
				return resp.Code != remoting.ResPullNotFound && resp.Code != remoting.ResPullRetryImmediately
			})
		}
	}
}

// look evaluates the pulls of a queue and answers those that ready accepts, and
// those that fail.
func (h *held) look(w *waiters, ready func(p *pull, resp *remoting.Command) bool) {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	pulls := w.pulls
	w.pulls = nil
	w.mu.Unlock()
	kept := pulls[:0]
	for _, p := range pulls {
		if p.c.cause() != nil {
			p.c.unhold()
			p.c.later.Add(-1) // nobody is there to be answered
			continue
		}
		if p.c.out.waiting() > piece && h.s.unsent.exceeded() && !h.s.isClosing() {
			kept = append(kept, p) // a tick looks again
			continue
		}
		resp := remoting.Command{
			Language: remoting.LanguageGo, Version: remoting.Version, Opaque: p.opaque, Flag: p.flag,
		}
		err := p.again(h.s, &resp)
		if err == nil && !ready(p, &resp) {
			kept = append(kept, p)
			continue
		}
		settle(&resp, err)
		p.answer(&resp)
	}
	clear(pulls[len(kept):])
	w.mu.Lock()
	w.pulls = append(kept, w.pulls...)
	w.mu.Unlock()
	if len(kept) == 0 {
		h.drop(w)
	}
}

// again is evaluate for a pull that is held.
func (p *pull) again(s *Server, resp *remoting.Command) (err error) {
	defer s.guard(remoting.ReqPullMessage, p.c, &err)
	return p.evaluate(s, resp)
}

// answer ends a held pull.
func (p *pull) answer(resp *remoting.Command) {
	p.c.unhold()
	p.c.respond(resp)
}

// drop forgets a queue that no pull waits for.
func (h *held) drop(w *waiters) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pulls) > 0 || w.dead {
		return
	}
	w.dead = true
	w.stop()
	if h.queues[w.key] == w {
		delete(h.queues, w.key)
	}
}

// all answers the queues with held pulls.
func (h *held) all() []*waiters {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*waiters, 0, len(h.queues))
	for _, w := range h.queues {
		list = append(list, w)
	}
	return list
}

// expire answers the pulls whose time is over, and looks at those of queues that
// members in this process have given back.
func (h *held) expire() {
	now := h.s.clock.now()
	for _, w := range h.all() {
		h.look(w, func(p *pull, resp *remoting.Command) bool {
			return resp.Code == remoting.ResSuccess || resp.Code == remoting.ResPullOffsetMoved || p.deadline <= now
		})
	}
}

// moved has the pulls of a queue looked at because an operator has moved a
// group on it.
func (h *held) moved(_, topic string, queue int) {
	h.mu.Lock()
	w := h.queues[queueKey{topic, queue}]
	h.mu.Unlock()
	if w != nil {
		w.wake()
	}
}

// close answers everything that is held and holds nothing from now on.
func (h *held) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	for _, w := range h.all() {
		h.look(w, func(*pull, *remoting.Command) bool { return true })
	}
}
