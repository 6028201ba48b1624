package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Message is one stored message.
type Message struct {
	message.Stored
	// Broker is the name of the broker that has it.
	Broker string
	// Props are the properties, read.
	Props map[string]string
}

// ID is the unique id of its sender, or the offset id if it has none.
func (m *Message) ID() string { return cmp.Or(m.Props[message.UniqKey], m.OffsetID()) }

// OffsetID names this copy.
func (m *Message) OffsetID() string { return message.OffsetID(m.StoreHost, m.PhysicalOffset) }

// Keys are the business keys.
func (m *Message) Keys() []string { return message.SplitKeys(m.Props[message.Keys]) }

// Tag is the tag, "" if there is none.
func (m *Message) Tag() string { return m.Props[message.Tags] }

// Plain is the body, inflated if it was stored compressed.
func (m *Message) Plain() ([]byte, error) {
	if m.SysFlag&message.SysCompressed == 0 {
		return m.Body, nil
	}
	return remoting.Inflate(m.SysFlag, m.Body, remoting.MaxInflated)
}

// decodeAll reads the records of an answer.
func decodeAll(r request, at Broker, body []byte) ([]*Message, error) {
	var all []*Message
	for len(body) > 0 {
		s, n, err := message.Decode(body)
		if n == 0 {
			return all, &MalformedError{Op: r.op, Addr: at.Addr, Err: err}
		}
		body = body[n:]
		if err != nil {
			return all, &MalformedError{Op: r.op, Addr: at.Addr, Err: fmt.Errorf("message at offset %d of queue %d: %w", s.QueueOffset, s.QueueID, err)}
		}
		all = append(all, &Message{Stored: s, Broker: at.Name, Props: message.ParseProperties(s.Properties)})
	}
	return all, nil
}

// queryMost is the most that brokers answer to one query by key.
const queryMost = 64

// Find answers messages of a topic with a business key that were stored
// between two times, the oldest first; a zero time is no bound. Each broker
// answers its newest 64 at most.
func (c *Cluster) Find(ctx context.Context, topic, key string, from, to time.Time) ([]*Message, error) {
	q := remoting.QueryMessage{Topic: topic, Key: key, MaxNum: queryMost, End: math.MaxInt64}
	if !from.IsZero() {
		q.Begin = from.UnixMilli()
	}
	if !to.IsZero() {
		q.End = to.UnixMilli()
	}
	return c.query(ctx, q, func(m *Message) bool { return slices.Contains(m.Keys(), key) })
}

// ByUniqueID answers the messages of a topic that were sent with a unique id:
// one, or more if the sender has tried again.
func (c *Cluster) ByUniqueID(ctx context.Context, topic, id string) ([]*Message, error) {
	q := remoting.QueryMessage{Topic: topic, Key: id, MaxNum: queryMost, End: math.MaxInt64, UniqueKey: true}
	return c.query(ctx, q, func(m *Message) bool { return m.Props[message.UniqKey] == id })
}

// query asks every broker of a topic, and keeps what really has the key:
// brokers compare hashes only.
func (c *Cluster) query(ctx context.Context, q remoting.QueryMessage, has func(m *Message) bool) ([]*Message, error) {
	shares, err := c.Route(ctx, q.Topic)
	if err != nil {
		return nil, err
	}
	parts, err := each(ctx, shares, func(ctx context.Context, s Share) (part, error) {
		r := request{op: "find messages of topic " + q.Topic, code: remoting.ReqQueryMessage, also: []int{remoting.ResQueryNotFound}}.with(q)
		resp, err := c.ask(ctx, s.Addr, r)
		if err != nil || resp.Code != remoting.ResSuccess {
			return part{}, err
		}
		messages, err := decodeAll(r, s.Broker, resp.Body)
		if err == nil && resp.Remark != "" { // one more may match and is damaged, says sluice serve
			err = refused(r.op, s.Addr, resp)
		}
		return part{messages, err}, nil
	})
	all, more := joined(parts)
	all = slices.DeleteFunc(all, func(m *Message) bool { return !has(m) })
	byTime(all)
	return all, errors.Join(err, more)
}

// part is what one broker or queue has answered: messages, and why there may be
// more, as each leaves out what comes with an error.
type part struct {
	messages []*Message
	err      error
}

// joined are the messages and the errors of all parts.
func joined(parts []part) (all []*Message, err error) {
	for _, p := range parts {
		all = append(all, p.messages...)
		err = errors.Join(err, p.err)
	}
	return all, err
}

// byTime sorts messages by the time at which they were stored.
func byTime(all []*Message) {
	slices.SortStableFunc(all, func(a, b *Message) int {
		return cmp.Or(cmp.Compare(a.StoreTimestamp, b.StoreTimestamp), cmp.Compare(a.Broker, b.Broker),
			cmp.Compare(a.QueueID, b.QueueID), cmp.Compare(a.QueueOffset, b.QueueOffset))
	})
}

// ByOffsetID answers the one copy that an offset id names. Only brokers of this
// cluster are asked, whatever address is in the id.
func (c *Cluster) ByOffsetID(ctx context.Context, id string) (*Message, error) {
	host, pos, err := message.ParseOffsetID(id)
	if err != nil {
		return nil, &NotFoundError{What: "message " + id}
	}
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range brokers {
		if !c.isAt(ctx, b, host) {
			continue
		}
		r := request{op: "read message " + id, code: remoting.ReqViewMessageByID, also: []int{remoting.ResSystemError, remoting.ResQueryNotFound}}
		r = r.with(remoting.ViewMessage{Offset: pos})
		resp, err := c.ask(ctx, b.Addr, r)
		if err != nil {
			return nil, err
		}
		if resp.Code == remoting.ResSystemError && !strings.HasPrefix(resp.Remark, "can not find message") {
			return nil, refused(r.op, b.Addr, resp)
		}
		if resp.Code != remoting.ResSuccess {
			return nil, &NotFoundError{What: "message " + id}
		}
		all, err := decodeAll(r, b, resp.Body)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, &NotFoundError{What: "message " + id}
		}
		return all[0], nil
	}
	return nil, &NotFoundError{What: fmt.Sprintf("a broker at %s, which the id names,", host)}
}

// isAt reports whether a broker has an address. Brokers may go by names, ids
// hold numbers.
func (c *Cluster) isAt(ctx context.Context, b Broker, host netip.AddrPort) bool {
	name, port, err := net.SplitHostPort(b.Addr)
	if err != nil || port != strconv.Itoa(int(host.Port())) {
		return false
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap() == host.Addr().Unmap()
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(limited, "ip", name)
	return err == nil && slices.ContainsFunc(ips, func(ip netip.Addr) bool { return ip.Unmap() == host.Addr().Unmap() })
}

// Filter is which messages of a topic are wanted.
type Filter struct {
	// Expression is tags with || between, or SQL92 with SQL; "" is all.
	Expression string
	SQL        bool
}

// all reports whether every message is wanted.
func (f Filter) all() bool { return !f.SQL && (f.Expression == "" || f.Expression == "*") }

// wants compares tags; brokers compare their hashes only.
func (f Filter) wants(m *Message) bool {
	if f.SQL || f.all() {
		return true
	}
	for tag := range strings.SplitSeq(f.Expression, "||") {
		if strings.TrimSpace(tag) == m.Tag() && m.Tag() != "" {
			return true
		}
	}
	return false
}

// BrowseOptions say what Browse reads.
type BrowseOptions struct {
	// Queues is which queues.
	Queues Selection
	// From is where to begin. With Last the newest messages are read.
	From Point
	// Limit is how many messages, at least 1.
	Limit  int
	Filter Filter
}

// Browse reads messages of a topic as of now, the oldest first. It moves
// nobody's position. What was read of a queue before an error comes with it.
func (c *Cluster) Browse(ctx context.Context, topic string, o BrowseOptions) ([]*Message, error) {
	queues, err := c.queues(ctx, topic, o.Queues)
	if err != nil {
		return nil, err
	}
	if err := readable(topic, queues); err != nil {
		return nil, err
	}
	parts, err := each(ctx, queues, func(ctx context.Context, q queueOf) (part, error) {
		messages, err := c.browseQueue(ctx, q, topic, o)
		return part{messages, err}, nil
	})
	all, more := joined(parts)
	err = errors.Join(err, more)
	byTime(all)
	if len(all) > o.Limit {
		if o.From.Kind == Last {
			all = all[len(all)-o.Limit:]
		} else {
			all = all[:o.Limit]
		}
	}
	return all, err
}

// browseQueue is Browse of one queue.
func (c *Cluster) browseQueue(ctx context.Context, q queueOf, topic string, o BrowseOptions) ([]*Message, error) {
	at, b, err := c.locate(ctx, q.Share, topic, q.queue, o.From)
	switch {
	case err != nil:
		return nil, err
	case o.From.Kind != Last:
		return c.readUpTo(ctx, q, topic, at, b.max, o.Limit, o.Filter)
	}
	return c.readNewest(ctx, q, topic, b, o)
}

// readNewest reads the newest messages of a queue: with a filter it goes back
// in growing steps until there are enough.
func (c *Cluster) readNewest(ctx context.Context, q queueOf, topic string, b bounds, o BrowseOptions) ([]*Message, error) {
	var all []*Message
	end, step := b.max, int64(o.Limit)
	for end > b.min && len(all) < o.Limit {
		begin := max(b.min, end-step)
		part, err := c.readUpTo(ctx, q, topic, begin, end, math.MaxInt, o.Filter)
		all = append(part, all...)
		if err != nil {
			return all[max(0, len(all)-o.Limit):], err
		}
		end, step = begin, step*4
	}
	return all[max(0, len(all)-o.Limit):], nil
}

// readUpTo reads messages of a queue from an offset on, up to an end that does
// not belong to it.
func (c *Cluster) readUpTo(ctx context.Context, q queueOf, topic string, at, end int64, limit int, f Filter) ([]*Message, error) {
	var all []*Message
	for at < end && len(all) < limit {
		part, next, err := c.pull(ctx, q, topic, at, f)
		if err != nil {
			return all, err
		}
		for _, m := range part {
			if m.QueueOffset < end && len(all) < limit && f.wants(m) {
				all = append(all, m)
			}
		}
		if next <= at {
			break // the end has come nearer, or the broker makes no progress
		}
		at = next
	}
	return all, nil
}

// pullMost is how many messages one pull asks for, as RocketMQ's clients do.
const pullMost = 32

// pull reads some messages of a queue, and answers where to go on. It is a
// [*UnreadableError] if the first of them cannot be read; others end the answer
// in front of them.
func (c *Cluster) pull(ctx context.Context, q queueOf, topic string, at int64, f Filter) ([]*Message, int64, error) {
	r := request{op: "read topic " + topic, code: remoting.ReqPullMessage, also: []int{
		remoting.ResPullNotFound, remoting.ResPullRetryImmediately, remoting.ResPullOffsetMoved,
	}}
	x := remoting.PullMessage{
		Group: message.ToolsGroup, Topic: topic, QueueID: int32(q.queue), QueueOffset: at, MaxMessages: pullMost,
		SysFlag: remoting.PullSubscription, Subscription: cmp.Or(f.Expression, "*"), BrokerName: q.Name,
	}
	if f.SQL {
		x.ExpressionType = remoting.ExpressionSQL92
	}
	r = r.with(x)
	resp, err := c.ask(ctx, q.Addr, r)
	if isCode(err, remoting.ResSystemError) {
		return nil, 0, &UnreadableError{Broker: q.Name, Queue: q.queue, Offset: at, Behind: !f.all(), Err: err}
	}
	if err != nil {
		return nil, 0, err
	}
	result, err := remoting.DecodePullResult(resp.Fields)
	if err != nil {
		return nil, 0, &MalformedError{Op: r.op, Addr: q.Addr, Err: err}
	}
	if resp.Code != remoting.ResSuccess {
		return nil, result.NextBeginOffset, nil
	}
	part, err := decodeAll(r, q.Broker, resp.Body)
	return part, result.NextBeginOffset, err
}

// DeadMessage is a message among the dead letters of a group, with what is
// known of how it came there.
type DeadMessage struct {
	*Message
	// Topic is where it was sent to, "" if it does not say.
	Topic string
	// Attempts is how often it failed, 0 if it does not say.
	Attempts int
	// At is when it was given up.
	At Time
	// Reason is a word, Err the last error; both may be missing.
	Reason, Err string
}

// newDead reads what brokers and Sluice's own consumers leave on dead letters.
func newDead(m *Message) DeadMessage {
	p := m.Props
	d := DeadMessage{Message: m, Topic: OriginTopic(m), Reason: p[driver.DeadReason], Err: p[driver.DeadError], At: Millis(m.StoreTimestamp)}
	d.Attempts = int(m.ReconsumeTimes)
	if n, err := strconv.Atoi(p[driver.DeadAttempts]); err == nil {
		d.Attempts = n
	}
	return d
}

// OriginTopic is the topic that a dead letter was sent to, "" if it does not
// say.
func OriginTopic(m *Message) string {
	return cmp.Or(m.Props[driver.DeadTopic], m.Props[message.RetryTopic], m.Props[message.DLQOriginTopic])
}

var errNoOrigin = errors.New("it does not say which topic it came from")
