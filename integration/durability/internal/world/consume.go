package world

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/history"
)

// consumer is a member of a group that fetches when told to.
type consumer struct {
	sub driver.Subscription

	mu    sync.Mutex
	lanes []driver.Lane
}

func (c *consumer) Assigned(l driver.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes = append(c.lanes, l)
}

func (c *consumer) Revoked(_ context.Context, l driver.Lane) { c.drop(l) }
func (c *consumer) Lost(l driver.Lane)                       { c.drop(l) }

func (c *consumer) drop(l driver.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes = slices.DeleteFunc(c.lanes, func(o driver.Lane) bool { return o == l })
}

// owned answers the lanes in the order of their names.
func (c *consumer) owned() []driver.Lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.lanes)
	slices.SortFunc(out, func(a, b driver.Lane) int {
		if a.Name() < b.Name() {
			return -1
		}
		return 1
	})
	return out
}

// join answers a member of group on t; nil if it could not join.
func (w *World) join(t *topic, group string) *consumer {
	key := group + " " + t.name
	if c := w.consumers[key]; c != nil {
		return c
	}
	c := &consumer{}
	sub, err := w.conn.Subscribe(w.ctx(), driver.SubscribeSpec{Group: group, Topic: t.name}, c)
	o := w.outcome("join "+key, err)
	t.used(o)
	if o != history.OK {
		return nil
	}
	c.sub = sub
	w.consumers[key] = c
	w.idle()
	return c
}

// fetch fetches up to n messages of each lane and notes them.
func (w *World) fetch(t *topic, c *consumer, group string, n int, each func(l driver.Lane, d *driver.Delivery, noted *history.Delivery)) {
	w.Helper()
	for _, l := range c.owned() {
		ds, err := w.fetchAll(l, n)
		if err != nil {
			w.outcome("fetch from "+l.Name(), err, driver.Corrupt)
			continue
		}
		for _, d := range ds {
			at := laneAt(l.Name(), d.Offset)
			w.note("  %s got %.40q from %s, attempt %d", group, d.Body, at, d.Attempt)
			if group == Group && t.sealed[at] {
				w.Failf("%.40q came again from %s though it was settled for good", d.Body, at)
			}
			if v, err := history.Parse(d.Body); err == nil && w.owner(v) != t {
				w.Failf("%.40q came from %s, though its topic was deleted", d.Body, at)
			}
			each(l, d, t.h.Deliver(group, d.Body, l.Name(), d.Offset))
		}
	}
}

// fetchAll fetches up to n messages. Messages that become due at the same moment
// are shown one by one, and Fetch may answer the first of them alone; a world
// waits for the others.
func (w *World) fetchAll(l driver.Lane, n int) ([]*driver.Delivery, error) {
	ctx, cancel := context.WithTimeout(w.ctx(), patience)
	defer cancel()
	ds, err := l.Fetch(ctx, n)
	if err != nil || len(ds) == 0 || len(ds) == n {
		return ds, err
	}
	w.idle()
	now, cancel := context.WithTimeout(w.ctx(), time.Nanosecond)
	defer cancel()
	more, err := l.Fetch(now, n-len(ds))
	if driver.CodeOf(err) == driver.Timeout {
		err = nil
	}
	return append(ds, more...), err
}

func laneAt(lane string, offset int64) string { return fmt.Sprintf("%s/%d", lane, offset) }

// consume fetches some messages and settles each as told.
func (w *World) consume(t *topic, o Op, how driver.Outcome) {
	w.Helper()
	c := w.join(t, Group)
	if c == nil {
		return
	}
	i := 0
	w.fetch(t, c, Group, o.N, func(l driver.Lane, d *driver.Delivery, noted *history.Delivery) {
		w.results = append(w.results, fmt.Sprintf("got %s at %s/%d attempt %d", d.ID, l.Name(), d.Offset, d.Attempt))
		if i++; o.X%4 == 3 && i%2 == 0 && !w.Plain {
			return // left open
		}
		s := driver.Settlement{Delivery: d, Outcome: how}
		if how == driver.Retry || how == driver.Return {
			s.Delay = []time.Duration{0, 5 * time.Millisecond, 2 * time.Second}[o.X%3]
			if w.Plain && how == driver.Return {
				s.Delay = max(s.Delay, 5*time.Millisecond)
			}
		}
		w.settle(t, l, s, noted)
	})
}

func (w *World) settle(t *topic, l driver.Lane, s driver.Settlement, noted *history.Delivery) {
	err := l.Settle(w.ctx(), []driver.Settlement{s})
	o := w.outcome("settle as "+s.Outcome.String(), err)
	ending := map[driver.Outcome]history.Ending{
		driver.Ack: history.Acked, driver.Retry: history.Again, driver.DeadLetter: history.Dead, driver.Return: history.Again,
	}[s.Outcome]
	switch {
	case o == history.Unknown && s.Outcome != driver.Ack:
		t.h.Settle(noted, history.Unsure)
	case o == history.OK:
		t.h.Settle(noted, ending)
		if s.Outcome == driver.Retry || s.Outcome == driver.DeadLetter {
			w.acks++
		}
		// A message that was returned without a delay waits in its place.
		if s.Outcome != driver.Return || s.Delay > 0 {
			t.open[laneAt(l.Name(), s.Delivery.Offset)] = true
		}
	}
}

// leave ends the membership, which makes positions durable.
func (w *World) leave(t *topic) {
	key := Group + " " + t.name
	c := w.consumers[key]
	if c == nil {
		return
	}
	delete(w.consumers, key)
	if w.outcome("leave", c.sub.Close(w.ctx())) != history.OK || !w.healthy() {
		t.h.Fault("a leave that failed") // what was settled may come again
		return
	}
	w.seal(t)
	w.seeLag(false)
}

// healthy asks the broker.
func (w *World) healthy() bool {
	w.idle()
	return w.conn != nil && w.conn.Health(w.ctx()) == nil && w.alive()
}

// seeLag notes where the group is; quiet says that nothing was settled for a
// while.
func (w *World) seeLag(quiet bool) {
	if !w.healthy() {
		return
	}
	if quiet {
		w.sealAll()
	}
	lags, err := w.conn.Extensions().Groups.Lag(w.ctx(), Group)
	if err != nil {
		w.outcome("lag", err, driver.NotFound)
		return
	}
	for _, l := range lags {
		w.note("  %s is at %d of %d on %s, %d in flight", Group, l.Committed, l.Max, l.Name, l.InFlight)
		if t := w.topics[l.Lane.Topic]; t != nil && !t.dying {
			durable := !w.Lenient && (quiet || w.consumers[Group+" "+t.name] == nil)
			t.h.Position(Group, l.Name, l.Committed, l.Max, durable)
		}
	}
}
