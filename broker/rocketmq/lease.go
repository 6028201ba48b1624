package rocketmq

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// leaseEvery is the period in which locks are renewed, leaseValid how long
	// one counts after its renewal, as in Apache's clients. Behind that nothing
	// new begins. Brokers keep a lock for leaseKept: until then nobody else has
	// the queue, and a broker that is back in time finds its lanes as they were.
	leaseEvery = 5 * time.Second
	leaseValid = 30 * time.Second
	leaseKept  = time.Minute
	// leaseRetry is the pause before a lock that a peer has is asked for again.
	leaseRetry = 250 * time.Millisecond
	// leasePatience is what a lane of a group without order waits for its peer
	// beyond the time that the peer has to settle its work.
	leasePatience = 5 * time.Second
	// leaseGroup is what the name of a group has behind it in locks that keep
	// two members of Sluice from having a queue at the same time. They must
	// not be in the name of the group itself: a broker takes a group with locks
	// for an ordered one and sends its redeliveries to the dead letters.
	leaseGroup = "%LEASE"
)

// lease is the lock of a feed at its broker. Ordered lanes need it: when somebody
// else may have it they are lost. For others it keeps a hand-over from
// overlapping, while there is a peer that honours it; a lane goes on without it.
type lease struct {
	f     *feed
	group string
	kind  leaseKind

	// Guarded by f.mu:
	until    time.Time   // when the lock stops to count
	expiry   *time.Timer // looks at a strict lease when the broker may give it away
	held     bool        // the broker may have it in the name of this client
	released bool
}

type leaseKind uint8

const (
	noLease     leaseKind = iota // broadcast: everybody has every queue
	softLease                    // a courtesy
	strictLease                  // ordered
)

func newLease(f *feed) lease {
	l := lease{f: f, group: leaseName(f.g.name), kind: softLease}
	switch spec := f.spec(); {
	case spec.Broadcast:
		l.kind = noLease
	case spec.Ordered:
		l.group, l.kind = f.g.name, strictLease
	}
	return l
}

// leaseName is the name of the locks of a group without order. It is no longer
// than a group may be.
func leaseName(group string) string {
	const hash = 8
	if most := maxGroup - len(leaseGroup) - hash; len(group) > most {
		group = fmt.Sprintf("%s%0*x", group[:most], hash, uint32(message.TagCode(group)))
	}
	return group + leaseGroup
}

// acquire waits for the lock; false: the feed is to end.
func (l *lease) acquire() bool {
	f := l.f
	if l.kind == noLease {
		return f.ctx.Err() == nil
	}
	began := time.Now()
	for f.ctx.Err() == nil {
		// To the end, whatever happens meanwhile: a lock whose answer nobody has
		// heard would keep others away for a minute.
		asked := time.Now()
		got, err := f.c.lock(context.WithoutCancel(f.ctx), f.queue.Broker, l.group, []Queue{f.queue})
		if err == nil && len(got) == 1 || err != nil && err.MaybeDone {
			f.mu.Lock()
			l.held = true // so that it is released
			if err == nil {
				l.extend(asked)
			}
			f.mu.Unlock()
		}
		if err == nil && len(got) == 1 {
			return f.ctx.Err() == nil
		}
		if l.kind == softLease && l.without(err, time.Since(began)) {
			return true
		}
		sleep(f.ctx, leaseRetry)
	}
	return false
}

// without reports whether a lane that need not have the lock begins without it.
func (l *lease) without(err *driver.Error, waited time.Duration) bool {
	f := l.f
	if err != nil {
		switch err.Code {
		case driver.Unsupported, driver.PermissionDenied, driver.InvalidArgument:
			f.c.log.Warn("the broker gives no locks; a queue that changes its owner may be delivered twice",
				slog.String("group", f.g.name), slog.String("queue", f.queue.String()), slog.Any("error", err))
			return true
		default:
			return waited > leasePatience
		}
	}
	peers, departed := f.g.others()
	for _, id := range departed {
		// It cannot unlock any more, and would do so for a minute.
		f.c.unlock(f.ctx, f.queue.Broker, l.group, id, []Queue{f.queue})
	}
	return peers == 0 || waited > f.c.cfg.RevokeTimeout+leasePatience
}

// release gives the lock back.
func (l *lease) release() {
	f := l.f
	f.mu.Lock()
	held := l.held
	l.held, l.released = false, true
	if l.expiry != nil {
		l.expiry.Stop()
	}
	f.mu.Unlock()
	if !held {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), leaveTimeout)
	defer cancel()
	f.c.unlock(ctx, f.queue.Broker, l.group, f.c.id, []Queue{f.queue})
}

// extend makes the lock count from when it was asked for. f.mu is held.
func (l *lease) extend(asked time.Time) {
	l.until = asked.Add(leaseValid)
	switch left := time.Until(asked.Add(leaseKept)); {
	case l.kind != strictLease || l.released:
	case l.expiry == nil:
		l.expiry = time.AfterFunc(left, l.look)
	default:
		l.expiry.Reset(left)
	}
}

// invalidFor is how long the lane has to wait at least; zero if it may go on.
// f.mu is held.
func (l *lease) invalidFor() time.Duration {
	if l.kind != strictLease || time.Now().Before(l.until) {
		return 0
	}
	return leaseRetry
}

// look gives the queue up if somebody else may have its lock.
func (l *lease) look() {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.f.isLost()
}

// renewed notes what a renewal has brought.
func (l *lease) renewed(asked time.Time, got bool) {
	f := l.f
	f.mu.Lock()
	was, released := l.held, l.released
	l.held = got
	switch {
	case got:
		l.extend(asked)
	case was && l.kind == strictLease:
		f.lose()
	}
	f.mu.Unlock()
	if released && f.g.after(f) == nil { // it has unlocked before this
		l.release()
	}
}

// after answers the feed that has the queue of f behind it, nil if there is none.
func (g *group) after(f *feed) *feed {
	g.mu.Lock()
	defer g.mu.Unlock()
	if next := g.feeds[f.queue]; next != f {
		return next
	}
	return nil
}

// lose ends a feed whose queue somebody else has, or may have soon: what is in
// flight cannot be settled and the position not be stored by this member any
// more. f.mu is held.
func (f *feed) lose() {
	if f.owned.Err() != nil {
		return
	}
	f.c.log.Warn("the lock of a queue was lost; what is in flight comes again at its new owner",
		slog.String("group", f.g.name), slog.String("queue", f.queue.String()))
	f.disown()
	f.stop()
	for _, l := range f.lanes {
		l.endLocked()
	}
}

// isLost reports whether the queue was lost, by the clock of now. f.mu is held.
func (f *feed) isLost() bool {
	if f.begun && f.lease.kind == strictLease && !time.Now().Before(f.lease.until.Add(leaseKept-leaseValid)) {
		f.lose()
	}
	return f.owned.Err() != nil
}

// renewLeases renews the locks of a group, at all brokers side by side: one that
// is silent must not cost those of the others.
func (g *group) renewLeases(ctx context.Context) {
	type place struct{ broker, group string }
	at := map[place][]*feed{}
	g.mu.Lock()
	for _, f := range g.feeds {
		if f.lease.kind != noLease { // also what is being revoked: it is settled until that is over
			p := place{f.queue.Broker, f.lease.group}
			at[p] = append(at[p], f)
		}
	}
	g.mu.Unlock()
	var wg sync.WaitGroup
	for p, feeds := range at {
		wg.Go(func() { g.renewAt(ctx, p.broker, p.group, feeds) })
	}
	wg.Wait()
}

// renewAt renews locks of one name at one broker.
func (g *group) renewAt(ctx context.Context, broker, name string, feeds []*feed) {
	var queues []Queue
	for _, f := range feeds {
		queues = append(queues, f.queue)
	}
	asked := time.Now()
	got, err := g.c.lock(ctx, broker, name, queues)
	if err != nil {
		g.c.log.Debug("locks were not renewed", slog.String("group", name), slog.String("broker", broker), slog.Any("error", err))
		return // they count until they are over
	}
	for _, f := range feeds {
		f.lease.renewed(asked, slices.Contains(got, f.queue))
	}
}

// lock asks the master of a broker for queues and answers those that this
// client has now.
func (c *conn) lock(ctx context.Context, broker, group string, queues []Queue) ([]Queue, *driver.Error) {
	op := "lock queues of group " + group
	addr, err := c.master(op, broker)
	if err != nil {
		return nil, err
	}
	a, err := c.call(ctx, op, addr, &remoting.Command{Code: remoting.ReqLockBatch, Body: lockBody(group, c.id, queues)}, true)
	if err != nil {
		return nil, err
	}
	got, decodeErr := remoting.DecodeLockedQueues(a.Body)
	if decodeErr != nil {
		return nil, driver.Errorf(driver.Internal, op, "%w", decodeErr)
	}
	var out []Queue
	for _, q := range got.Queues {
		out = append(out, Queue{q.Topic, q.Broker, q.Queue})
	}
	return out, nil
}

// unlock gives up queues of a client; a broker that does not hear of it frees
// them after a minute.
func (c *conn) unlock(ctx context.Context, broker, group, clientID string, queues []Queue) {
	op := "unlock queues of group " + group
	addr, err := c.master(op, broker)
	if err == nil {
		_, err = c.call(ctx, op, addr, &remoting.Command{Code: remoting.ReqUnlockBatch, Body: lockBody(group, clientID, queues)}, true)
	}
	if err != nil {
		c.log.Debug("queues were not unlocked", slog.String("group", group), slog.String("broker", broker), slog.Any("error", err))
	}
}

func lockBody(group, clientID string, queues []Queue) []byte {
	b := remoting.LockBatch{ClientID: clientID, Group: group}
	for _, q := range queues {
		b.Queues = append(b.Queues, remoting.MessageQueue{Topic: q.Topic, Broker: q.Broker, Queue: q.ID})
	}
	return b.AppendTo(nil)
}
