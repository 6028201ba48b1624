package rocketmq

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// awaitFor is how long a broker that went with the last position of a queue is
// looked for every second; after that as all are, with the routes.
const awaitFor = 10 * time.Minute

// leftover is where this client was on a queue that it gave up while the broker
// could not be told, as when it died and another one is still in the route. The
// broker may come back with an older position or with none, and a group that
// begins at the end would then pass over what came in between. It is kept until
// the broker has it.
type leftover struct {
	at    int64
	since time.Time
}

// sure reports whether the position of a feed is where it belongs: in the file of
// a broadcast group, or at the master that is connected now.
func (f *feed) sure() bool {
	by := f.keeper()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.committed == f.positionLocked() && (f.spec().Broadcast || by != nil && by == f.by)
}

// remember keeps the position with which a feed has ended.
func (g *group) remember(f *feed) {
	f.mu.Lock()
	at := f.positionLocked()
	f.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left[f.queue] = leftover{at, time.Now()}
}

// remembered is the position that was kept for a queue, noPosition if none was or
// the queue ends before it, as one does whose topic was made anew.
func (g *group) remembered(ctx context.Context, q Queue) (int64, *driver.Error) {
	g.mu.Lock()
	l, ok := g.left[q]
	g.mu.Unlock()
	if !ok {
		return noPosition, nil
	}
	end, err := g.c.bound(ctx, "find the end of "+q.String(), remoting.ReqGetMaxOffset, q)
	if err != nil || end < l.at {
		return noPosition, err
	}
	return l.at, nil
}

// forget drops what was kept for a queue.
func (g *group) forget(q Queue) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.left, q)
}

// catchUp tells brokers that are back what was kept for queues of a topic that
// others have now. It reports whether a broker is worth a look again soon.
func (g *group) catchUp(ctx context.Context, topic string, want []Queue, r *route) (awaited bool) {
	there := r.brokersOf()
	var due []Queue
	g.mu.Lock()
	for q, l := range g.left {
		switch {
		case q.Topic != topic || slices.Contains(want, q) || g.feeds[q] != nil: // a feed looks at it first
		case slices.Contains(there, q.Broker):
			due = append(due, q)
		case time.Since(l.since) < awaitFor:
			awaited = true
		}
	}
	g.mu.Unlock()
	for _, q := range due {
		if err := g.hand(ctx, q); err != nil {
			g.c.log.Debug("a position was not stored yet", slog.Any("error", err))
			awaited = true
		}
	}
	return awaited
}

// hand stores what was kept for a queue, unless its broker has a higher position.
func (g *group) hand(ctx context.Context, q Queue) *driver.Error {
	at, err := g.remembered(ctx, q)
	if err != nil {
		return err
	}
	has, err := g.c.position(ctx, g.name, q)
	if err != nil {
		return err
	}
	if has < at {
		kept, err := g.c.storePosition(ctx, "store the last position of group "+g.name+" on "+q.String(), g.name, q, at)
		if !kept {
			return err
		}
	}
	g.forget(q)
	return nil
}
