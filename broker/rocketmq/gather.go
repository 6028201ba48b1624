package rocketmq

import (
	"context"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// underWay is how many requests with single messages for one queue, or for
	// any queue of a topic at one broker, are under way before further ones
	// gather: one that the broker works on, and one on its way.
	underWay = 2
	// gatherRoom is how many bytes gather in one request.
	gatherRoom = 256 << 10
)

// gatherer puts messages of calls at the same time into one request. Nobody
// waits for others: a message goes out by itself unless [underWay] requests are
// on their way already, and what comes meanwhile goes together when one of them
// is answered. A broker takes one request with many messages for a fraction of
// what as many requests cost. When there is no answer, what has gathered behind
// it is not sent: it would wait once more for a broker that may be gone.
type gatherer struct {
	c    *conn
	root context.Context //nolint:containedctx // requests of many callers end with the client, by its connections

	mu    sync.Mutex
	lanes map[Queue]*gathering
}

// gathering is what is on its way and what waits for one queue; with the number
// -1 for any queue of a topic at a broker.
type gathering struct {
	busy    int
	batches []*gathered
}

// gathered is one request that is not sent yet. Messages are encoded as they
// come, since those who send them may leave.
type gathered struct {
	queue   Queue
	born    time.Time
	memory  *[]byte // of pool bodies
	body    []byte
	waiting []outgoing // without their messages
	ends    []int      // of the messages in body
	done    chan struct{}
}

func newGatherer(c *conn) *gatherer {
	return &gatherer{c: c, root: context.WithoutCancel(c.root), lanes: map[Queue]*gathering{}}
}

// takes reports whether a message may go with others in one request.
func (g *gatherer) takes(o *outgoing) bool {
	return !g.c.cfg.NoGathering && o.due == 0 && !o.fresh && !envelope.Internal(o.m.Topic) && !g.c.compresses(o.m.Body) && o.wireSize() <= gatherRoom
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
	select {
	case <-b.done:
		*o.r = *b.waiting[i].r
	case <-ctx.Done():
		fail(lane, driver.FromContext(ctx, o.op(), true))
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
		l = &gathering{}
		g.lanes[key] = l
	}
	if l.busy < underWay {
		l.busy++
		return l, nil, 0
	}
	var b *gathered
	if n := len(l.batches); n > 0 {
		b = l.batches[n-1]
	}
	if b == nil || len(b.body)+o.wireSize() > gatherRoom || !b.born.Equal(o.m.BornAt) {
		b = &gathered{queue: o.queue, born: o.m.BornAt, memory: bodies.Get().(*[]byte), done: make(chan struct{})} //nolint:forcetypeassert // of its New
		b.body = (*b.memory)[:0]
		l.batches = append(l.batches, b)
	}
	return l, b, b.add(o)
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
	b := g.pop(l, err)
	if b == nil {
		return
	}
	if !g.c.spawn(func() { g.run(l, b) }) {
		g.run(l, b) // the client is closing: it fails at once
	}
}

// pop answers the request that is to go next; without one the turn is over. If
// the one before it got no answer, all that has gathered fails.
func (g *gatherer) pop(l *gathering, err *driver.Error) *gathered {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && !isRefusal(err) && err.Code != driver.Internal {
		for _, b := range l.batches {
			b.results()
			fail(b.waiting, behind(err, b.queue))
			b.end()
		}
		l.batches = nil
	}
	if len(l.batches) == 0 {
		l.busy--
		return nil
	}
	b := l.batches[0]
	l.batches[0] = nil
	l.batches = l.batches[1:]
	return b
}

// run sends what has gathered, and what gathers meanwhile.
func (g *gatherer) run(l *gathering, b *gathered) {
	for b != nil {
		err := g.post(b)
		b.end()
		b = g.pop(l, err)
	}
}

// post sends one request. If the broker will not have it, each of its messages
// goes by itself: what is wrong with one is no fault of the others.
func (g *gatherer) post(b *gathered) *driver.Error {
	b.results()
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

// results makes room for what the senders are to hear.
func (b *gathered) results() {
	all := make([]driver.SendResult, len(b.waiting))
	for i := range b.waiting {
		o := &b.waiting[i]
		o.r = &all[i]
		o.r.ID, o.r.Offset = o.id, -1
		o.number, o.name = b.waiting[0].number, b.waiting[0].name
	}
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
