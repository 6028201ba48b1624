package rocketmq

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// mostOpen is how far the newest message that was pulled may be ahead of
	// the oldest that is not settled. It bounds what comes again after a
	// crash, which is what the position does not tell.
	mostOpen = 20_000
	// retryAfter is the pause of a feed behind an error, as in Apache's clients.
	retryAfter = time.Second
	// flowAfter is the pause behind an answer of flow control.
	flowAfter = 20 * time.Millisecond
	// foreignAfter is when a redelivery that is for nobody here comes again.
	foreignAfter = time.Minute
	// finalCommit bounds the commit with which a feed ends.
	finalCommit = 2 * time.Second
	// commitPause is the pause between two attempts of it.
	commitPause = 100 * time.Millisecond
	// lateRevoke is how long a Revoked whose ctx has ended may take to return.
	lateRevoke = 100 * time.Millisecond
)

// feed consumes one queue: its goroutine takes the queue, pulls, and gives the
// queue up when it is told to. A feed of a retry topic serves every
// subscription of the group; the topic that a message was first sent to says
// which.
type feed struct {
	g      *group
	c      *conn
	queue  Queue
	number int // of the queue among those of its topic
	lanes  []*lane
	lease  lease

	ctx  context.Context //nolint:containedctx // ends when the queue is to be given up
	stop context.CancelFunc
	// owned ends when the queue is lost: somebody else may have it.
	owned  context.Context //nolint:containedctx // the time for work on the lanes is within it
	disown context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended
	err    error         // of the last commit, set before done is closed

	// committing is held by who stores the position: of two that are under way
	// the older one may come last.
	committing turn
	pulled     chan struct{} // there is room again, or the position was moved

	mu        sync.Mutex
	next      int64 // offset of the next pull
	open      []*entry
	foreign   int    // messages among open that are for nobody here
	buffered  int    // messages that wait for their first Fetch
	epoch     int    // counts moves of the position
	stopPull  func() // ends the pull under way; nil if there is none
	committed int64  // what the broker is known to know; below zero: it is told, whatever it knows
	by        *link  // to the master that knows it, nil if none does
	gap       *driver.GapError
	replica   int64 // number of the broker to pull from
	begun     bool  // the position is known
	// lastPull is when the last pull went out, lastSettle when something was
	// settled; operators look at them for queues that stand still.
	lastPull, lastSettle time.Time
}

// entry is one message from its pull to its settlement.
type entry struct {
	lane   *lane           // nil if the message is for nobody here
	d      driver.Delivery // also what the first Fetch answers
	first  flight          // that one's
	stored message.Stored
	offset int64
	failed int  // attempts that failed in place
	done   bool // settled
	// due is when a message that was returned may be fetched again.
	due time.Time
	// direct gets the outcome of a message that an operator has consumed, which
	// is none of the queue; nil for every other one.
	direct chan driver.Settlement
}

// flight is one delivery of an entry; the first settlement of it counts.
type flight struct {
	e       *entry
	lane    *lane
	settled bool
}

// newFeed makes the feed of a queue, nil if no subscription is there for it.
// g.mu is held.
func newFeed(g *group, q Queue, number int) *feed {
	f := &feed{
		g: g, c: g.c, queue: q, number: number, done: make(chan struct{}), pulled: make(chan struct{}, 1), committing: newTurn(), committed: -1,
	}
	retry := q.Topic == driver.RetryTopic(g.name)
	for _, s := range g.subs {
		if s.shares(q) {
			f.lanes = append(f.lanes, newLane(f, s, retry))
		}
	}
	if len(f.lanes) == 0 {
		return nil
	}
	f.ctx, f.stop = context.WithCancel(g.c.root)
	f.owned, f.disown = context.WithCancel(context.WithoutCancel(g.c.root))
	f.lease = newLease(f)
	return f
}

// stopping reports whether the feed is to end or has ended.
func (f *feed) stopping() bool { return f.ctx.Err() != nil }

// running reports whether its lanes have been given out and not been taken back.
func (f *feed) running() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun && !f.stopping()
}

// shares reports whether the messages of a queue may be for s.
func (s *subscription) shares(q Queue) bool {
	return !s.leaving() && (q.Topic == s.spec.Topic || q.Topic == driver.RetryTopic(s.spec.Group) && !s.spec.Ordered && !s.spec.Broadcast)
}

// serves reports whether a lane of f belongs to s.
func (f *feed) serves(s *subscription) bool {
	return slices.ContainsFunc(f.lanes, func(l *lane) bool { return l.sub == s })
}

func (f *feed) spec() driver.SubscribeSpec { return f.lanes[0].sub.spec }

// run is the goroutine of the feed.
func (f *feed) run() {
	defer f.g.ended(f)
	defer close(f.done)
	defer f.stop()
	defer f.lease.release()
	defer f.disown() // nothing is stored behind the release
	if !f.lease.acquire() {
		return
	}
	if !f.start() {
		return
	}
	f.mu.Lock()
	lost := f.isLost()
	f.mu.Unlock()
	if lost { // before anybody had a lane of it
		return
	}
	for _, l := range f.lanes {
		l.sub.ev.Assigned(l)
	}
	f.pull()
	f.finish()
}

// finish lets the lanes settle their work and stores the position.
func (f *feed) finish() {
	var wg sync.WaitGroup
	for _, l := range f.lanes {
		wg.Go(l.revoke)
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), finalCommit)
	defer cancel()
	err := f.commitLast(ctx)
	if f.owned.Err() == nil && !f.sure() && (err == nil || err.Code != driver.NotFound && !isRefusal(err)) {
		f.g.remember(f)
	}
	if err != nil {
		f.err = err
		f.c.log.Warn("the last position on a queue was not stored; if this client ends before the broker is back, what was settled behind the one before comes again",
			slog.String("group", f.g.name), slog.String("queue", f.queue.String()), slog.Any("error", err))
	}
}

// commitLast stores the position until a master has it or ctx ends: the broker
// may just be coming back, or somebody else has become it. That a slave has it is
// no error: there is no master to be had.
func (f *feed) commitLast(ctx context.Context) *driver.Error {
	for {
		err := f.commit(ctx)
		f.mu.Lock()
		kept := f.committed == f.positionLocked()
		f.mu.Unlock()
		if err == nil && kept || f.owned.Err() != nil || f.c.root.Err() != nil {
			return err
		}
		sleep(ctx, commitPause)
		if ctx.Err() != nil {
			return err
		}
		if _, gone := f.c.routes.renew(ctx, f.queue.Topic, commitPause); gone != nil && gone.Code == driver.NotFound {
			return gone // the topic was deleted
		}
	}
}

// pull fetches until the feed is to end.
func (f *feed) pull() {
	for f.ctx.Err() == nil {
		if !f.room() {
			select {
			case <-f.pulled:
			case <-f.ctx.Done():
			}
			continue
		}
		if pause := f.pullOnce(); pause > 0 {
			sleep(f.ctx, pause)
			continue
		}
		runtime.Gosched() // handlers begin before the next request is written
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// room reports whether another pull may be sent; it makes room in a retry queue
// that is full of messages for nobody.
func (f *feed) room() bool {
	f.mu.Lock()
	most := f.c.cfg.Prefetch
	crowded := f.foreign >= max(1, most/2)
	ok := f.buffered+f.foreign < most && f.next-f.positionLocked() < mostOpen
	f.mu.Unlock()
	if crowded {
		f.passOn()
	}
	return ok
}

// nudge lets pull look again.
func (f *feed) nudge() {
	select {
	case f.pulled <- struct{}{}:
	default:
	}
}

// request is one pull.
type request struct {
	epoch  int
	offset int64
	most   int // messages
	addr   string
	master bool
	began  time.Time
}

// pullOnce sends one pull and takes what it answers. It answers how long to
// wait before the next one.
func (f *feed) pullOnce() time.Duration {
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	q, ok := f.begin(cancel)
	if !ok {
		f.c.suspect(f.queue.Topic)
		return retryAfter
	}
	req := &remoting.Command{Code: remoting.ReqPullMessage}
	f.pullMessage(q).AppendTo(&req.Fields)
	a, err := f.c.links.call(ctx, f.c.cfg.PullWait+pullGrace, q.addr, req)
	f.mu.Lock()
	f.stopPull = nil
	f.mu.Unlock()
	if err != nil {
		if f.ctx.Err() != nil || f.moved(q.epoch) {
			return 0
		}
		f.c.suspect(f.queue.Topic)
		f.otherReplica(q.master)
		f.c.log.Debug("pull failed", slog.String("queue", f.queue.String()), slog.Any("error", err))
		return retryAfter
	}
	return f.answered(q, a)
}

// begin notes a pull that is about to be sent.
func (f *feed) begin(cancel func()) (request, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := request{epoch: f.epoch, offset: f.next, most: max(pullBatch, f.c.cfg.Prefetch-f.buffered-f.foreign), began: time.Now()}
	var ok bool
	q.addr, q.master, ok = f.c.routes.replica(f.queue.Broker, f.replica)
	f.stopPull, f.lastPull = cancel, q.began
	return q, ok
}

func (f *feed) moved(epoch int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch != epoch
}

// otherReplica makes the next pull go to a slave when the master does not
// answer, and the other way round.
func (f *feed) otherReplica(master bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replica = masterID
	if master {
		f.replica = masterID + 1
	}
}

// pullMessage makes the fields of a pull. It stores no position by the way, as
// the pulls of Apache's clients do: brokers serve pulls and commits side by side,
// and one that was sent before a commit and is served after it would put the
// position back.
func (f *feed) pullMessage(q request) remoting.PullMessage {
	p := remoting.PullMessage{
		Group: f.g.name, Topic: f.queue.Topic, QueueID: int32(f.queue.ID), QueueOffset: q.offset, MaxMessages: int32(q.most),
		SysFlag: remoting.PullSuspend | remoting.PullSubscription, SuspendMillis: f.c.cfg.PullWait.Milliseconds(),
		Subscription: "*", ExpressionType: remoting.ExpressionTag, BrokerName: f.queue.Broker,
	}
	if f.lanes[0].info.Retry {
		return p // filters were applied to the originals
	}
	p.Subscription, p.ExpressionType = expression(f.spec().Filter)
	return p
}

// expression is a filter as brokers read it.
func expression(f driver.Filter) (text, kind string) {
	if f.SQL != "" {
		return f.SQL, remoting.ExpressionSQL92
	}
	return f.String(), remoting.ExpressionTag
}

// answered takes the answer of a pull.
func (f *feed) answered(q request, a *remoting.Command) time.Duration {
	switch a.Code {
	case remoting.ResSuccess, remoting.ResPullNotFound, remoting.ResPullRetryImmediately, remoting.ResPullOffsetMoved:
	case remoting.ResFlowControl:
		return flowAfter
	default:
		f.c.log.Debug("pull refused", slog.String("queue", f.queue.String()), slog.Int("code", a.Code), slog.String("remark", a.Remark))
		f.c.suspect(f.queue.Topic)
		if isUnknown(a.Code) {
			f.g.wantBeat()
		}
		f.otherReplica(q.master)
		return retryAfter
	}
	res, err := remoting.DecodePullResult(a.Fields)
	if err != nil {
		f.c.log.Warn("the answer of a pull cannot be read", slog.String("queue", f.queue.String()), slog.Any("error", err))
		return retryAfter
	}
	entries, err := f.decode(a)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.epoch != q.epoch {
		return 0
	}
	f.replica = res.SuggestBroker
	if a.Code == remoting.ResPullOffsetMoved {
		return f.offsetMoved(q, res)
	}
	for _, e := range entries {
		f.take(e)
	}
	if err != nil {
		f.c.log.Error("a message cannot be read; the queue waits with it",
			slog.String("queue", f.queue.String()), slog.Int64("offset", f.next), slog.Any("error", err))
		return retryAfter
	}
	f.next = max(f.next, res.NextBeginOffset)
	if f.next == q.offset {
		return f.inVain(q)
	}
	return 0
}

// isUnknown reports whether a broker that answers so does not know the member, or
// what it subscribes to.
func isUnknown(code int) bool {
	switch code {
	case remoting.ResSubscriptionNotExist, remoting.ResSubscriptionNotLatest, remoting.ResGroupNotExist,
		remoting.ResFilterDataNotExist, remoting.ResFilterDataNotLatest:
		return true
	default:
		return false
	}
}

// inVain is the pause behind an answer that leads nowhere: one of a slave that
// does not have the offset, or does not serve reads, while there is a master to
// ask, and of a broker that does not hold a pull until there is something. f.mu
// is held.
func (f *feed) inVain(q request) time.Duration {
	pause := min(retryAfter, f.c.cfg.PullWait) - time.Since(q.began)
	if _, there := f.c.routes.master(f.queue.Broker); pause > 0 && !q.master && there {
		f.replica = masterID
		return flowAfter
	}
	return pause
}

// offsetMoved follows a broker that says where the queue really is. Messages
// that are gone become a gap that Fetch reports. f.mu is held.
func (f *feed) offsetMoved(q request, res remoting.PullResult) time.Duration {
	if !q.master && res.NextBeginOffset < q.offset {
		return f.inVain(q) // a slave that lags knows less, not better
	}
	if res.MinOffset > q.offset { // elsewhere somebody has moved the group
		f.gap = &driver.GapError{Lane: f.lanes[0].name, From: q.offset, To: res.MinOffset, Reason: driver.Retention}
	}
	f.c.log.Warn("the broker has moved the position on a queue", slog.String("group", f.g.name), slog.String("queue", f.queue.String()),
		slog.Int64("was", q.offset), slog.Int64("is", res.NextBeginOffset), slog.Int64("min", res.MinOffset), slog.Int64("max", res.MaxOffset))
	f.moveLocked(max(res.NextBeginOffset, 0))
	for _, l := range f.lanes {
		l.nudge()
	}
	return 0
}

// decode reads the messages of an answer; with an error those before it.
func (f *feed) decode(a *remoting.Command) ([]*entry, error) {
	if a.Code != remoting.ResSuccess {
		return nil, nil
	}
	entries := make([]entry, countRecords(a.Body)) // one memory for all of an answer, whose bodies have one as well
	out := make([]*entry, 0, len(entries))
	for rest := a.Body; len(rest) > 0; {
		s, n, err := message.DecodeOf(f.queue.Topic, rest)
		if err != nil {
			return out, fmt.Errorf("decode: %w", err)
		}
		rest = rest[n:]
		e := &entries[len(out)]
		if err := show(&e.d, &s); err != nil {
			return out, fmt.Errorf("decode: %w", err)
		}
		e.stored, e.offset = s, s.QueueOffset
		out = append(out, e)
	}
	return out, nil
}

// countRecords is how many records an answer has by the sizes in it, the last
// of which may be wrong.
func countRecords(b []byte) (n int) {
	for ; len(b) > 0; n++ {
		size := message.LeastSize
		if len(b) >= 4 {
			size = max(size, int(binary.BigEndian.Uint32(b)))
		}
		b = b[min(size, len(b)):]
	}
	return n
}

// take puts a message that was pulled in front of its lane. f.mu is held.
func (f *feed) take(e *entry) {
	if e.offset < f.next {
		return // a batch is answered from its first message on
	}
	f.next = e.offset + 1
	retry := f.lanes[0].info.Retry
	if !retry && !f.spec().Filter.MatchTag(e.d.Tag) {
		return // its hash is that of another tag
	}
	for _, l := range f.lanes {
		if !retry || l.sub.spec.Topic == e.d.Topic {
			e.lane = l
			break
		}
	}
	e.d.Queue = f.number
	f.open = append(f.open, e)
	if e.lane == nil {
		f.foreign++
		return
	}
	f.buffered++
	e.lane.ready = append(e.lane.ready, e)
	e.lane.nudge()
}

// settledLocked ends an entry. f.mu is held.
func (f *feed) settledLocked(e *entry) {
	e.done = true
	f.settledSome()
}

// settledSome follows entries that are done. f.mu is held.
func (f *feed) settledSome() {
	f.lastSettle = time.Now()
	f.positionLocked()
	f.nudge()
}

// positionLocked is the lowest offset that is not settled. f.mu is held.
func (f *feed) positionLocked() int64 {
	n := 0
	for n < len(f.open) && f.open[n].done {
		n++
	}
	if n > 0 {
		clear(f.open[:n])
		f.open = f.open[n:]
	}
	if len(f.open) > 0 {
		return f.open[0].offset
	}
	return f.next
}

// moveLocked sets the position; what was pulled before does not count any
// more. f.mu is held.
func (f *feed) moveLocked(offset int64) {
	f.epoch++
	f.next, f.open, f.foreign, f.buffered, f.committed = offset, nil, 0, 0, -1
	for _, l := range f.lanes {
		l.ready, l.returned = nil, nil
	}
	if f.stopPull != nil {
		f.stopPull()
	}
	f.nudge()
}

// move sets the position, which is to be stored.
func (f *feed) move(offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moveLocked(offset)
	f.gap = nil
}

// commit stores the position, if it has changed, or if the master may not have it
// any more: another one has taken its place, or the connection to it was lost. A
// higher position that the master has then stays, for it is somebody else's. What
// was lost is not stored.
func (f *feed) commit(ctx context.Context) *driver.Error {
	if !f.committing.take(ctx) {
		return driver.FromContext(ctx, "store a position of group "+f.g.name+" on "+f.queue.String(), false)
	}
	defer f.committing.give()
	by := f.keeper()
	f.mu.Lock()
	at, epoch := f.positionLocked(), f.epoch
	changed, moved, doubtful := f.committed != at, f.committed < 0, by != nil && by != f.by
	lost := f.isLost()
	f.mu.Unlock()
	if !changed && !doubtful {
		return nil
	}
	op := fmt.Sprintf("store position %d of group %s on %s", at, f.g.name, f.queue)
	if lost {
		return driver.Errorf(driver.LaneLost, op, "the lock of the queue was lost")
	}
	if doubtful && !moved {
		has, err := f.c.position(ctx, f.g.name, f.queue)
		if err != nil {
			return err
		}
		if has > at {
			f.told(epoch, at, nil)
			return nil
		}
	}
	kept, err := f.store(ctx, op, at)
	if kept {
		f.told(epoch, at, by)
	}
	return err
}

// told notes the position that a broker knows, unless it was moved since.
func (f *feed) told(epoch int, at int64, by *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.epoch == epoch {
		f.committed, f.by = at, by
	}
}

// passOn stores the oldest message for nobody here once more behind the
// others: it waits for a member that subscribes to its topic.
func (f *feed) passOn() {
	f.mu.Lock()
	i := slices.IndexFunc(f.open, func(e *entry) bool { return e.lane == nil && !e.done })
	var e *entry
	if i >= 0 {
		e = f.open[i]
	}
	f.mu.Unlock()
	if e == nil {
		return
	}
	f.c.log.Warn("a redelivery is for a topic that no member here subscribes to; it waits",
		slog.String("group", f.g.name), slog.String("topic", e.d.Topic), slog.String("id", e.d.ID))
	ctx, cancel := context.WithTimeout(f.ctx, f.c.cfg.Timeout)
	defer cancel()
	again := redelivery{group: f.g.name, from: f.queue, e: e, attempts: int(e.stored.ReconsumeTimes), delay: f.c.roughly(foreignAfter)}
	if err := f.c.store(ctx, again); err != nil {
		f.c.log.Warn("it could not be put behind the others", slog.String("group", f.g.name), slog.String("id", e.d.ID), slog.Any("error", err))
		sleep(f.ctx, retryAfter)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !e.done {
		f.foreign--
		f.settledLocked(e)
	}
}

// inFlight is how many messages of a lane are with handlers.
func (f *feed) inFlight() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := -f.buffered - f.foreign
	for _, e := range f.open {
		if !e.done {
			n++
		}
	}
	return max(n, 0)
}

// isRetry reports whether the queue is one of a retry topic.
func (q Queue) isRetry() bool { return strings.HasPrefix(q.Topic, driver.RetryTopic("")) }
