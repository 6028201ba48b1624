package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// Point is a place in a queue.
type Point struct {
	// Kind says which of the others count.
	Kind   PointKind
	Time   time.Time
	Offset int64
}

// PointKind is a way to name a place in a queue.
type PointKind uint8

const (
	// First is the oldest message that is there.
	First PointKind = iota
	// Last is the end, behind the newest message.
	Last
	// AtTime is the first message stored at a time or later.
	AtTime
	// AtOffset is an offset.
	AtOffset
)

// bounds are the ends of one queue.
type bounds struct{ min, max int64 }

// bounds asks for the ends of a queue.
func (c *Cluster) bounds(ctx context.Context, s Share, topic string, queue int) (bounds, error) {
	var b bounds
	for _, x := range []struct {
		code int
		to   *int64
	}{{remoting.ReqGetMinOffset, &b.min}, {remoting.ReqGetMaxOffset, &b.max}} {
		r := request{op: "read the ends of topic " + topic, code: x.code}
		r = r.with(remoting.QueueOffset{Topic: topic, QueueID: int32(queue), Committed: true})
		offset, err := c.askOffset(ctx, s.Addr, r)
		if err != nil {
			return b, err
		}
		*x.to = offset
	}
	return b, nil
}

// askOffset asks for one offset.
func (c *Cluster) askOffset(ctx context.Context, addr string, r request) (int64, error) {
	resp, err := c.ask(ctx, addr, r)
	if err != nil {
		return 0, err
	}
	d := remoting.ReadFields(r.op, resp.Fields)
	offset := d.Int64("offset")
	if err := d.Err(); err != nil {
		return 0, &MalformedError{Op: r.op, Addr: addr, Err: err}
	}
	return offset, nil
}

// locate answers the offset of a point in a queue, within its ends.
func (c *Cluster) locate(ctx context.Context, s Share, topic string, queue int, p Point) (int64, bounds, error) {
	b, err := c.bounds(ctx, s, topic, queue)
	if err != nil {
		return 0, b, err
	}
	at := b.min
	switch p.Kind {
	case First:
	case Last:
		at = b.max
	case AtOffset:
		at = p.Offset
	case AtTime:
		r := request{op: "find a time in topic " + topic, code: remoting.ReqSearchOffsetByTimestamp}
		r = r.with(remoting.SearchOffset{Topic: topic, QueueID: int32(queue), Timestamp: p.Time.UnixMilli()})
		if at, err = c.askOffset(ctx, s.Addr, r); err != nil {
			return 0, b, err
		}
	}
	return min(max(at, b.min), b.max), b, nil
}

// Move is what a reset does to one queue.
type Move struct {
	Group  string `json:"group"`
	Topic  string `json:"topic"`
	Broker string `json:"broker"`
	Queue  int    `json:"queue"`
	// From is where the group was, nil if nowhere.
	From *int64 `json:"from"`
	To   int64  `json:"to"`
}

// Selection is some of the queues of a topic.
type Selection struct {
	// Broker is a name, or "" for all brokers.
	Broker string
	// Queue is a number, or below 0 for all queues.
	Queue int
}

func (x Selection) has(broker string, queue int) bool {
	return (x.Broker == "" || x.Broker == broker) && (x.Queue < 0 || x.Queue == queue)
}

// queueOf is one queue with its broker.
type queueOf struct {
	Share
	queue int
}

// queues answers the readable queues of a topic that x selects; there is at
// least one.
func (c *Cluster) queues(ctx context.Context, topic string, x Selection) ([]queueOf, error) {
	shares, err := c.Route(ctx, topic)
	if err != nil {
		return nil, err
	}
	var all []queueOf
	for _, s := range shares {
		for q := range s.Read {
			if x.has(s.Name, q) {
				all = append(all, queueOf{s, q})
			}
		}
	}
	if len(all) == 0 {
		return nil, noQueue(topic, x, shares, false)
	}
	return all, nil
}

// readable is why nobody may read messages of queues, which are there.
func readable(topic string, queues []queueOf) error {
	if slices.ContainsFunc(queues, func(q queueOf) bool { return q.Perm.Has(remoting.PermRead) }) {
		return nil
	}
	return &NoQueueError{Topic: topic, Reason: fmt.Sprintf("gives no messages: its permission is %s; sluice topic update %s -perm rw changes it", queues[0].Perm, topic)}
}

// noQueue is why x selects none of the queues of a topic, to write to or to
// read.
func noQueue(topic string, x Selection, shares []Share, write bool) error {
	var names []string
	at, most := "", 0
	var perm Perm
	for _, s := range shares {
		names = append(names, s.Name)
		if x.Broker != "" && x.Broker != s.Name {
			continue
		}
		n := s.Read
		if write {
			n = s.Write
		}
		if perm |= s.Perm; !write || s.Perm.Has(remoting.PermWrite) {
			most = max(most, n)
		}
	}
	if x.Broker != "" {
		if at = " on broker " + x.Broker; !slices.Contains(names, x.Broker) {
			return &NoQueueError{Topic: topic, Broker: x.Broker, Brokers: names}
		}
	}
	e := &NoQueueError{Topic: topic}
	switch {
	case write && !perm.Has(remoting.PermWrite):
		e.Reason = fmt.Sprintf("takes no messages%s: its permission is %s", at, perm)
	case most == 0 && write:
		e.Reason = fmt.Sprintf("takes no messages%s: it has no queue to write to", at)
	case most == 0:
		e.Reason = "has no queue to read" + at
	case most == 1:
		e.Reason = fmt.Sprintf("has no queue %d%s, it has queue 0 only", x.Queue, at)
	default:
		e.Reason = fmt.Sprintf("has no queue %d%s, it has 0 to %d", x.Queue, at, most-1)
	}
	return e
}

// Plan answers what Reset would do. It is a [*NotFoundError] if nobody knows
// the group.
func (c *Cluster) Plan(ctx context.Context, group, topic string, x Selection, to Point) ([]Move, error) {
	queues, err := c.queues(ctx, topic, x)
	if err != nil {
		return nil, err
	}
	if err := c.seen(ctx, group); err != nil {
		return nil, err
	}
	return each(ctx, queues, func(ctx context.Context, q queueOf) (Move, error) {
		m := Move{Group: group, Topic: topic, Broker: q.Name, Queue: q.queue}
		if at, ok, err := c.position(ctx, q, group, topic); err != nil {
			return m, err
		} else if ok {
			m.From = &at
		}
		var err error
		m.To, _, err = c.locate(ctx, q.Share, topic, q.queue, to)
		return m, err
	})
}

// position answers where a group is on a queue.
func (c *Cluster) position(ctx context.Context, q queueOf, group, topic string) (at int64, ok bool, err error) {
	r := request{op: "read the position of group " + group, code: remoting.ReqQueryConsumerOffset, also: []int{remoting.ResQueryNotFound}}
	r = r.with(remoting.QueryOffset{Group: group, Topic: topic, QueueID: int32(q.queue)})
	resp, err := c.ask(ctx, q.Addr, r)
	if err != nil || resp.Code != remoting.ResSuccess {
		return 0, false, err
	}
	d := remoting.ReadFields(r.op, resp.Fields)
	at = d.Int64("offset")
	if err := d.Err(); err != nil {
		return 0, false, &MalformedError{Op: r.op, Addr: q.Addr, Err: err}
	}
	return at, true, nil
}

// commit sets the position of a group on a queue. It leaves alone what members
// of the group on the same queue know better.
func (c *Cluster) commit(ctx context.Context, q queueOf, group, topic string, at int64) error {
	r := request{op: "set the position of group " + group, code: remoting.ReqUpdateConsumerOffset, changes: true}
	_, err := c.ask(ctx, q.Addr, r.with(remoting.UpdateOffset{Group: group, Topic: topic, QueueID: int32(q.queue), CommitOffset: at}))
	return err
}

// Reset moves a group to a point on the queues that x selects, forwards or
// back, whether or not it has members now.
func (c *Cluster) Reset(ctx context.Context, group, topic string, x Selection, to Point) ([]Move, error) {
	plan, err := c.Plan(ctx, group, topic, x, to)
	if err != nil {
		return nil, err
	}
	shares, err := c.Route(ctx, topic)
	if err != nil {
		return nil, err
	}
	parts, err := each(ctx, shares, func(ctx context.Context, s Share) ([]Move, error) {
		mine := slices.DeleteFunc(slices.Clone(plan), func(m Move) bool { return m.Broker != s.Name })
		switch {
		case len(mine) == 0:
			return nil, nil
		case x.Queue < 0 && to.Kind != AtOffset:
			return c.resetAll(ctx, s, mine, to)
		}
		return c.resetSome(ctx, s, mine)
	})
	moves := slices.Concat(parts...)
	slices.SortFunc(moves, func(a, b Move) int { return cmp.Or(cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.Queue, b.Queue)) })
	return moves, err
}

// resetAll moves all queues of a broker to a time, or to an end, which is what
// brokers of every version can do.
func (c *Cluster) resetAll(ctx context.Context, s Share, moves []Move, to Point) ([]Move, error) {
	ms := int64(0) // before every message
	if to.Kind == Last {
		ms = -1
	}
	if to.Kind == AtTime {
		ms = to.Time.UnixMilli()
	}
	return c.reset(ctx, s, moves, remoting.ResetOffset{Timestamp: ms, QueueID: -1, Offset: -1})
}

// resetSome moves queues one by one, which takes RocketMQ 5: older brokers do
// not read the number of the queue, and would move all of them.
func (c *Cluster) resetSome(ctx context.Context, s Share, moves []Move) ([]Move, error) {
	r := request{op: "ask for the version", code: remoting.ReqGetMaxOffset}
	resp, err := c.ask(ctx, s.Addr, r.with(remoting.QueueOffset{Topic: moves[0].Topic, QueueID: int32(moves[0].Queue), Committed: true}))
	if err != nil {
		return nil, err
	}
	if resp.Version < remoting.VersionOf(5, 0, 0) {
		return nil, &RefusedError{
			Op: "reset group " + moves[0].Group, Addr: s.Addr, Code: remoting.ResUnsupported,
			Remark: "a broker before RocketMQ 5 moves all queues of a topic only",
		}
	}
	done := make([]Move, 0, len(moves))
	for _, m := range moves {
		moved, err := c.reset(ctx, s, []Move{m}, remoting.ResetOffset{QueueID: int32(m.Queue), Offset: m.To})
		if err != nil {
			return done, err
		}
		done = append(done, moved...)
	}
	return done, nil
}

// reset sends one request, and answers the moves as they were made.
func (c *Cluster) reset(ctx context.Context, s Share, moves []Move, x remoting.ResetOffset) ([]Move, error) {
	x.Topic, x.Group, x.Force = moves[0].Topic, moves[0].Group, true
	r := request{op: "reset group " + x.Group, code: remoting.ReqInvokeBrokerToResetOffset, also: []int{remoting.ResConsumerNotOnline}, changes: true}
	resp, err := c.ask(ctx, s.Addr, r.with(x))
	if err != nil {
		return nil, err
	}
	if resp.Code == remoting.ResConsumerNotOnline { // RocketMQ 4.9 leaves it to the tool
		for _, m := range moves {
			if err := c.commit(ctx, queueOf{s, m.Queue}, m.Group, m.Topic, m.To); err != nil {
				return nil, err
			}
		}
		return moves, nil
	}
	table, err := decode(r, s.Addr, resp, remoting.DecodeOffsetTable)
	if err != nil {
		return nil, err
	}
	for i := range moves {
		for _, q := range table.Queues {
			if q.Topic == moves[i].Topic && q.Queue == moves[i].Queue {
				moves[i].To = q.Offset
			}
		}
	}
	return moves, nil
}
