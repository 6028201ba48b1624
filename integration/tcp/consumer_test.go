package tcp

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/sluicemq/sluice/broker/drivertest/history"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// consumer takes its lanes, which are always the same ones: what two members
// divide anew has positions that go back, and here none may.
type consumer struct {
	l     *ledger
	name  string
	addr  string
	r     *rand.Rand
	lanes []*lane
}

// lane is one queue and how far its consumer is, which outlives the server.
type lane struct {
	topic string
	queue int
	next  int64
}

func (l *lane) name() string { return laneOf(l.topic, l.queue) }

// run consumes until all ends.
func (c *consumer) run(all context.Context) {
	for all.Err() == nil {
		conn := dialAgain(all, c.addr, nil)
		if conn == nil {
			return
		}
		c.l.connected()
		c.live(all, conn)
		_ = conn.Close()
	}
}

// live uses one connection as long as it is there.
func (c *consumer) live(all context.Context, conn *rpc.Conn) {
	life := c.l.now()
	subs := make([]remoting.SubscriptionData, 0, 2)
	for _, t := range []string{topic, retryTopic} {
		subs = append(subs, remoting.SubscriptionData{Topic: t, SubString: "*", ExpressionType: remoting.ExpressionTag, SubVersion: 1})
	}
	beat := remoting.Heartbeat{ClientID: c.name, Consumers: []remoting.ConsumerData{{
		Group: liveGroup, ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering,
		ConsumeFromWhere: remoting.FromFirstOffset, Subscriptions: subs,
	}}}
	if _, err := done(all, conn, &remoting.Command{Code: remoting.ReqHeartbeat, Body: beat.AppendTo(nil)}); err != nil {
		c.l.complain("heartbeat", err)
		return
	}
	var wg sync.WaitGroup
	for _, l := range c.lanes {
		p := &puller{consumer: c, lane: l, conn: conn, life: life, all: all, r: fork(c.r)}
		wg.Go(func() {
			if !p.begin() {
				return
			}
			for all.Err() == nil && alive(conn) && p.pull() {
			}
		})
	}
	wg.Wait()
}

// puller consumes one lane by one connection.
type puller struct {
	*consumer
	*lane
	conn *rpc.Conn
	life int
	all  context.Context // the puller lives no longer
	r    *rand.Rand

	arrived []*history.Delivery // to be settled by the next commit
	position
}

// position is how far the group is on the lane of a puller.
type position struct {
	confirmed int64 // by the server
	commits   int
}

// begin asks where the group is. A client that was there before goes on where
// it was; a quarter of them are new, and go on where the server says.
func (p *puller) begin() bool {
	at, ok := p.look()
	if !ok {
		return false
	}
	if p.r.IntN(4) == 0 {
		p.next = at
		p.l.mu.Lock()
		p.l.replays++
		p.l.mu.Unlock()
	}
	p.confirmed = at
	return true
}

// look asks for position and end of the lane, and notes them.
func (p *puller) look() (at int64, ok bool) {
	placed := p.l.reached(p.name())
	at, end, err := standing(p.all, p.conn, p.lane)
	if err != nil {
		p.l.complain("look at "+p.name(), err)
		return 0, false
	}
	p.l.found(p.life, p.name(), at, end, placed)
	return max(at, 0), true
}

// standing answers the position of the live group, -1 for none, and the end of
// a lane.
func standing(ctx context.Context, conn *rpc.Conn, l *lane) (at, end int64, err error) {
	query := request(remoting.ReqQueryConsumerOffset, remoting.QueryOffset{Group: liveGroup, Topic: l.topic, QueueID: int32(l.queue)})
	a, err := call(ctx, conn, query)
	switch {
	case err != nil:
		return 0, 0, err
	case a.Code == remoting.ResQueryNotFound:
		at = -1
	case a.Code != remoting.ResSuccess:
		return 0, 0, &refusedError{query.Code, a.Code, a.Remark}
	default:
		if at, err = strconv.ParseInt(a.Fields.Get("offset"), 10, 64); err != nil {
			return 0, 0, err
		}
	}
	end, err = maxOffset(ctx, conn, l.topic, l.queue)
	return at, end, err
}

func (p *puller) name() string { return p.lane.name() }

// maxOffset is where a queue ends.
func maxOffset(ctx context.Context, conn *rpc.Conn, topic string, queue int) (int64, error) {
	a, err := done(ctx, conn, request(remoting.ReqGetMaxOffset, remoting.QueueOffset{Topic: topic, QueueID: int32(queue), Committed: true}))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(a.Fields.Get("offset"), 10, 64)
}

// pull takes messages once, after a while of waiting if there are none.
func (p *puller) pull() bool {
	x := remoting.PullMessage{
		Group: liveGroup, Topic: p.topic, QueueID: int32(p.queue), QueueOffset: p.next, MaxMessages: 32,
		SysFlag: remoting.PullSuspend | remoting.PullSubscription, SuspendMillis: 200 + int64(p.r.IntN(1500)), Subscription: "*",
	}
	along := p.next > p.confirmed && p.r.IntN(2) == 0
	switch {
	case along: // the position travels with the pull
		x.SysFlag |= remoting.PullCommit
		x.CommitOffset = p.next
		p.l.trying(p.name(), p.next)
	case p.next > p.confirmed:
		if !p.commit() {
			return false
		}
	}
	a, err := call(p.all, p.conn, request(remoting.ReqPullMessage, x))
	if err != nil {
		p.l.complain("pull "+p.name(), err)
		return false
	}
	if along {
		p.confirm()
	}
	switch a.Code {
	case remoting.ResSuccess:
		return p.take(a)
	case remoting.ResPullNotFound, remoting.ResPullRetryImmediately:
		return true
	}
	p.l.bad("a pull of %s at %d was answered %d: %s %v", p.name(), p.next, a.Code, a.Remark, a.Fields)
	return false
}

// commit tells the server how far the group is.
func (p *puller) commit() bool {
	p.l.trying(p.name(), p.next)
	_, err := done(p.all, p.conn, request(remoting.ReqUpdateConsumerOffset, remoting.UpdateOffset{
		Group: liveGroup, Topic: p.topic, QueueID: int32(p.queue), CommitOffset: p.next,
	}))
	if err != nil {
		p.l.complain("commit", err)
		return false
	}
	p.confirm()
	if p.commits++; p.commits%8 == 0 {
		if at, ok := p.look(); ok && at != p.next {
			p.l.bad("%s is at %d, just after %d was committed", p.name(), at, p.next)
		}
	}
	return true
}

// confirm notes that the server has taken the position.
func (p *puller) confirm() {
	p.confirmed = p.next
	p.l.committed(p.life, p.name(), p.next)
	for _, d := range p.arrived {
		p.l.h.Settle(d, history.Acked)
	}
	p.arrived = p.arrived[:0]
}

// take handles messages: most are done, some are sent back.
func (p *puller) take(a *remoting.Command) bool {
	r, err := remoting.DecodePullResult(a.Fields)
	if err != nil {
		p.l.bad("the answer to a pull: %v", err)
		return false
	}
	for rest := a.Body; len(rest) > 0; {
		m, n, err := message.Decode(rest)
		if err != nil {
			p.l.bad("a message of %s at %d: %v", p.name(), p.next, err)
			return false
		}
		rest = rest[n:]
		if m.Topic != p.topic || int(m.QueueID) != p.queue || m.QueueOffset != p.next {
			p.l.bad("%s at %d came as %s/%d at %d", p.name(), p.next, m.Topic, m.QueueID, m.QueueOffset)
			return false
		}
		if redelivery := p.topic == retryTopic; redelivery != (m.ReconsumeTimes > 0) {
			p.l.bad("%s at %d has %d attempts", p.name(), p.next, m.ReconsumeTimes)
		}
		p.handle(&m)
		p.next++
	}
	if r.NextBeginOffset != p.next {
		p.l.bad("a pull of %s led to %d, and says that %d is next", p.name(), p.next, r.NextBeginOffset)
	}
	return true
}

func (p *puller) handle(m *message.Stored) {
	d := p.l.arrived(m.Body, p.name(), m.QueueOffset)
	if p.r.IntN(12) != 0 {
		p.arrived = append(p.arrived, d)
		return
	}
	v, err := history.Parse(m.Body)
	if err != nil {
		return // the history has noted it
	}
	_, err = done(p.all, p.conn, request(remoting.ReqSendBack, remoting.SendBack{
		Offset: m.PhysicalOffset, Group: liveGroup, DelayLevel: 1 + int32(p.r.IntN(2)), OriginTopic: m.Topic, MaxReconsumes: -1,
	}))
	switch {
	case err == nil:
		p.l.givenBack(v, d, history.Again)
	case certainly(err):
		p.l.givenBack(v, d, history.Open)
	default:
		p.l.complain("send back", err)
		p.l.givenBack(v, d, history.Unsure)
	}
}
