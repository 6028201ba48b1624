package rocketmq

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// underWay is how many requests with single messages for one queue, or for any
// queue of a topic at one broker, are under way before further ones gather: one
// that the broker works on, and one on its way.
const underWay = 2

// idleQueues is how many queues are remembered although nobody sends to them.
const idleQueues = 1024

// gatherer puts messages of calls at the same time into one request. Without
// [Config].Linger nobody waits for others: a message goes out by itself unless
// [underWay] requests are on their way already, and what comes meanwhile goes
// together when one of them is answered. With it every request first waits for
// company, until that time is over or it is full. A broker takes one request
// with many messages for a fraction of what as many requests cost. When there
// is no answer, what has gathered behind it is not sent: it would wait once
// more for a broker that may be gone.
type gatherer struct {
	c    *conn
	root context.Context //nolint:containedctx // requests of many callers end with the client, by its connections

	mu     sync.Mutex
	closed bool
	lanes  map[Queue]*gathering
	most   int // lanes before those that are idle are forgotten
}

// gathering is what is on its way and what waits for one queue; with the number
// -1 for any queue of a topic at a broker. Only the last of batches may linger.
type gathering struct {
	busy    int
	batches []*gathered
}

// gathered is one request that is not sent yet. Messages are encoded as they
// come.
type gathered struct {
	queue   Queue
	born    time.Time
	memory  *[]byte // of pool bodies
	body    []byte
	waiting []outgoing // without their messages
	ends    []int      // of the messages in body
	gone    []int      // the places of those whose senders have left
	// lingers: it is not to go yet. Sent: it is on its way.
	lingers, sent bool
	full          chan struct{} // closed when it lingers no more for being full; nil: it never did
	results       []driver.SendResult
	done          chan struct{}
}

func newGatherer(c *conn) *gatherer {
	return &gatherer{c: c, root: context.WithoutCancel(c.root), lanes: map[Queue]*gathering{}, most: idleQueues}
}

// takes reports whether a message may go with others in one request.
func (g *gatherer) takes(o *outgoing) bool {
	return !g.c.cfg.NoGathering && o.due == 0 && !o.asks && !o.fresh && !envelope.Internal(o.m.Topic) && !g.c.compresses(o.m.Body) && o.wireSize() <= g.c.cfg.BatchSize
}

// send sends one message.
func (g *gatherer) send(ctx context.Context, lane []outgoing) {
	o := &lane[0]
	l, b, i := g.join(o)
	if b == nil {
		err := g.c.sendOne(ctx, lane, false)
		if err != nil {
			fail(lane, err)
		}
		if ctx.Err() != nil {
			err = nil // it is the sender's end, not the broker's
		}
		g.next(l, err)
		return
	}
	var over <-chan time.Time
	if o.spare { // the others in the request may have more time
		wait := time.NewTimer(g.c.patience(lane) + g.c.cfg.Linger)
		defer wait.Stop()
		over = wait.C
	}
	select {
	case <-b.done:
		*o.r = b.results[i]
		return
	case <-ctx.Done():
	case <-over:
	}
	sent := !g.leave(l, b, i)
	err := unanswered(ctx, o.op(), errAttempt, sent)
	fail(lane, err)
	if sent && ctx.Err() == nil {
		g.c.sendFailed(b.queue, err)
	}
}

// join answers the request that a message goes with and its place there, or nil
// if it goes alone.
func (g *gatherer) join(o *outgoing) (*gathering, *gathered, int) {
	key := o.queue
	if o.anywhere {
		key.ID = -1
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lanes[key]
	if l == nil {
		g.forget()
		l = &gathering{}
		g.lanes[key] = l
	}
	linger := g.c.cfg.Linger > 0
	if g.closed || !linger && l.busy < underWay {
		l.busy++
		return l, nil, 0
	}
	var b *gathered
	if n := len(l.batches); n > 0 {
		b = l.batches[n-1]
	}
	room := g.c.cfg.BatchSize
	if b != nil && (len(b.body)+o.wireSize() > room || !together(b.born, o.m.BornAt)) {
		b.fill()
		b = nil
	}
	if b == nil {
		b = &gathered{queue: o.queue, born: o.m.BornAt, memory: bodies.Get().(*[]byte), lingers: linger, done: make(chan struct{})} //nolint:forcetypeassert // of its New
		b.body = (*b.memory)[:0]
		l.batches = append(l.batches, b)
		if linger {
			b.full = make(chan struct{})
			g.c.spawn(func() { g.linger(l, b) }) // or Close ends it
		}
	}
	i := b.add(o)
	if len(b.body) >= room {
		b.fill()
	}
	return l, b, i
}

// forget drops the queues that nobody sends to, once there are many; g.mu is held.
func (g *gatherer) forget() {
	if len(g.lanes) < g.most {
		return
	}
	maps.DeleteFunc(g.lanes, func(_ Queue, l *gathering) bool { return l.busy == 0 && len(l.batches) == 0 })
	g.most = max(idleQueues, 2*len(g.lanes))
}

// fill ends the time in which others may come; g.mu is held.
func (b *gathered) fill() {
	if b.lingers {
		b.lingers = false
		close(b.full)
	}
}

// linger gives others time to come, and sends what there is then, unless
// requests under way will.
func (g *gatherer) linger(l *gathering, b *gathered) {
	end := time.NewTimer(g.c.cfg.Linger)
	defer end.Stop()
	select {
	case <-b.full:
	case <-end.C:
	case <-b.done:
		return
	}
	g.mu.Lock()
	b.lingers = false
	var next *gathered
	if l.busy < underWay {
		l.busy++
		next = l.pop()
	}
	g.mu.Unlock()
	g.run(l, next)
}

// leave takes the message of a sender who waits no longer out of a request; it
// reports false if that is on its way.
func (g *gatherer) leave(l *gathering, b *gathered, i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b.sent {
		return false
	}
	b.gone = append(b.gone, i)
	if at := slices.Index(l.batches, b); at >= 0 && len(b.gone) == len(b.waiting) {
		l.batches = slices.Delete(l.batches, at, at+1)
		b.end()
	}
	return true
}

// close fails what has gathered: it is not sent.
func (g *gatherer) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, l := range g.lanes {
		l.fail(func(q Queue) *driver.Error { return closed(sendTo(q.String())) })
	}
}

// fail ends all that has gathered for a queue.
func (l *gathering) fail(why func(Queue) *driver.Error) {
	for _, b := range l.batches {
		b.prepare()
		fail(b.waiting, why(b.queue))
		b.end()
	}
	l.batches = nil
}

// add encodes a message and answers its place. The room was looked at before, so
// it fits.
func (b *gathered) add(o *outgoing) int {
	b.body, _ = message.AppendBatch(b.body, message.BatchElement{Body: o.m.Body, Properties: o.props})
	b.ends = append(b.ends, len(b.body))
	own := *o
	own.m, own.queue = nil, b.queue
	b.waiting = append(b.waiting, own)
	return len(b.waiting) - 1
}

// next lets what has gathered go after a request that is over; err is how it
// ended.
func (g *gatherer) next(l *gathering, err *driver.Error) {
	b := g.after(l, err)
	if b == nil {
		return
	}
	if !g.c.spawn(func() { g.run(l, b) }) {
		g.run(l, b) // the client is closing: it fails at once
	}
}

// after answers the request that is to go after one that ended with err. If that
// got no answer, all that has gathered fails.
func (g *gatherer) after(l *gathering, err *driver.Error) *gathered {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && !isRefusal(err) && err.Code != driver.Internal {
		l.fail(func(q Queue) *driver.Error { return behind(err, q) })
	}
	return l.pop()
}

// pop answers the request that is to go next; without one the turn is over.
func (l *gathering) pop() *gathered {
	if len(l.batches) == 0 || l.batches[0].lingers {
		l.busy--
		return nil
	}
	b := l.batches[0]
	l.batches[0] = nil
	l.batches = l.batches[1:]
	b.sent = true
	return b
}

// run sends what has gathered, and what gathers meanwhile.
func (g *gatherer) run(l *gathering, b *gathered) {
	for b != nil {
		err := g.post(b)
		b.end()
		b = g.after(l, err)
	}
}

// post sends one request. If the broker will not have it, each of its messages
// goes by itself: what is wrong with one is no fault of the others.
func (g *gatherer) post(b *gathered) *driver.Error {
	b.prepare()
	err := g.c.postBatch(g.root, b.queue, b.born, b.body, b.waiting, false)
	if err == nil || !isRefusal(err) || err.Retryable || len(b.waiting) == 1 {
		if err != nil {
			fail(b.waiting, err)
		}
		return err
	}
	start := 0
	for i, end := range b.ends {
		one := b.waiting[i : i+1]
		if err := g.c.postBatch(g.root, b.queue, b.born, b.body[start:end], one, false); err != nil {
			fail(one, err)
		}
		start = end
	}
	return nil
}

// prepare takes out what senders have left behind, and makes room for what the
// others are to hear.
func (b *gathered) prepare() {
	b.results = make([]driver.SendResult, len(b.waiting))
	for i := range b.waiting {
		o := &b.waiting[i]
		o.r = &b.results[i]
		o.r.ID, o.r.Offset = o.id, -1
		o.number, o.name = b.waiting[0].number, b.waiting[0].name
	}
	if len(b.gone) == 0 {
		return
	}
	body, ends, stay, start := b.body[:0], b.ends[:0], b.waiting[:0], 0
	for i, o := range b.waiting {
		part := b.body[start:b.ends[i]]
		if start = b.ends[i]; slices.Contains(b.gone, i) {
			continue
		}
		body = append(body, part...)
		ends, stay = append(ends, len(body)), append(stay, o)
	}
	b.body, b.ends, b.waiting = body, ends, stay
}

// end lets the senders hear, and keeps the memory for others.
func (b *gathered) end() {
	close(b.done)
	if cap(b.body) <= keptBody {
		*b.memory = b.body
	}
	b.body = nil
	bodies.Put(b.memory)
}
