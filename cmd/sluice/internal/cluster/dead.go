package cluster

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// DeadLetters are those of one group.
type DeadLetters struct {
	Group string `json:"group"`
	Topic string `json:"topic"`
	// Messages is how many there are, Waiting how many of them were not sent
	// again yet by a redrive.
	Messages int64 `json:"messages"`
	Waiting  int64 `json:"waiting"`
	// Newest is when the last one came; zero if there is none.
	Newest Time `json:"newest,omitzero"`
}

// DeadLetters answers the groups that have dead letters, by their names.
func (c *Cluster) DeadLetters(ctx context.Context) ([]DeadLetters, error) {
	names, err := c.TopicNames(ctx)
	if err != nil {
		return nil, err
	}
	var topics []string
	for _, n := range names {
		if strings.HasPrefix(n, DeadPrefix) {
			topics = append(topics, n)
		}
	}
	return each(ctx, topics, func(ctx context.Context, topic string) (DeadLetters, error) {
		d, err := c.DeadLettersOf(ctx, strings.TrimPrefix(topic, DeadPrefix))
		if notFound(err) {
			err = nil // purged meanwhile
		}
		return d, err
	})
}

// DeadLettersOf answers how many dead letters a group has. It is a
// [*NotFoundError] if it never had one.
func (c *Cluster) DeadLettersOf(ctx context.Context, group string) (DeadLetters, error) {
	d := DeadLetters{Group: group, Topic: DeadPrefix + group}
	shares, err := c.Route(ctx, d.Topic)
	if err != nil {
		return d, c.deadless(ctx, group, err)
	}
	stats, err := c.stats(ctx, d.Topic, shares)
	if err != nil {
		return d, err
	}
	for _, q := range stats {
		done, err := c.redriven(ctx, queueAt(shares, q), d.Topic, bounds{q.Min, q.Max})
		if err != nil {
			return d, err
		}
		d.Messages += q.Messages()
		d.Waiting += q.Max - done
		if q.Stored.After(d.Newest.Time) {
			d.Newest = q.Stored
		}
	}
	return d, nil
}

// queueAt is the queue that a statistic is about.
func queueAt(shares []Share, q QueueStat) queueOf {
	for _, s := range shares {
		if s.Name == q.Broker {
			return queueOf{s, q.Queue}
		}
	}
	return queueOf{shares[0], q.Queue}
}

// redriven answers the offset of the first dead letter in a queue that was not
// sent again yet.
func (c *Cluster) redriven(ctx context.Context, q queueOf, topic string, b bounds) (int64, error) {
	at, ok, err := c.position(ctx, q, RedriveGroup, topic)
	if err != nil {
		return 0, err
	}
	if !ok || at < b.min || at > b.max { // beyond the end: of a topic before this one
		at = b.min
	}
	return at, nil
}

// Peek reads dead letters of a group as of now, the oldest first.
func (c *Cluster) Peek(ctx context.Context, group string, o BrowseOptions) ([]DeadMessage, error) {
	all, err := c.Browse(ctx, DeadPrefix+group, o)
	dead := make([]DeadMessage, len(all))
	for i, m := range all {
		dead[i] = newDead(m)
	}
	return dead, c.deadless(ctx, group, err)
}

// deadless says of a group without a topic for dead letters that it has none, if
// there is such a group.
func (c *Cluster) deadless(ctx context.Context, group string, err error) error {
	if !notFound(err) {
		return err
	}
	if err := c.known(ctx, group); err != nil {
		return err
	}
	return &NotFoundError{What: "a dead letter of group " + group, Group: group}
}

// RedriveOptions say which dead letters are sent again, and how.
type RedriveOptions struct {
	// Limit is how many, 0 for all that are there now.
	Limit int
	// Rate is how many a second at most, above 0.
	Rate float64
	// To replaces the topic that each one was sent to. Defaults to none.
	To string
	// Again begins with the first one, whatever was sent again before.
	Again bool
	// DryRun only tells what would be sent.
	DryRun bool
}

// Redriven is a dead letter that was sent again, or would be in a dry run;
// then Sent has the topic only.
type Redriven struct {
	DeadMessage
	Sent Sent
}

// Redrive sends dead letters of a group again, the oldest of each queue first,
// to the topics they came from, and tells each one. They keep body, unique id,
// tag, keys, ordering key and the properties of their sender.
//
// How far it came is kept at the brokers as the position of group
// [RedriveGroup], so that the next call goes on there. A crash between a send
// and its position sends one message twice. The dead letters stay until they
// are purged or retention removes them.
func (c *Cluster) Redrive(ctx context.Context, group string, o RedriveOptions, tell func(Redriven) error) error {
	topic := DeadPrefix + group
	queues, err := c.queues(ctx, topic, Selection{Queue: -1})
	if err != nil {
		return c.deadless(ctx, group, err)
	}
	if err := readable(topic, queues); err != nil {
		return err
	}
	d := &redrive{c: c, topic: topic, o: o, tell: tell, senders: map[string]*Sender{}}
	for _, q := range queues {
		if err := d.queue(ctx, q); err != nil || d.enough() {
			return err
		}
	}
	return nil
}

// redrive is one call of Redrive.
type redrive struct {
	c       *Cluster
	topic   string
	o       RedriveOptions
	tell    func(Redriven) error
	senders map[string]*Sender
	done    int
	due     time.Time // of the next send
}

func (d *redrive) enough() bool { return d.o.Limit > 0 && d.done >= d.o.Limit }

// queue goes through the dead letters of one queue that are there now.
func (d *redrive) queue(ctx context.Context, q queueOf) error {
	b, err := d.c.bounds(ctx, q.Share, d.topic, q.queue)
	if err != nil {
		return err
	}
	at := b.min
	if !d.o.Again {
		if at, err = d.c.redriven(ctx, q, d.topic, b); err != nil {
			return err
		}
	}
	for at < b.max && !d.enough() {
		part, next, err := d.c.pull(ctx, q, d.topic, at, Filter{})
		if err != nil {
			return err
		}
		for _, m := range part {
			if m.QueueOffset < at || m.QueueOffset >= b.max || d.enough() {
				continue
			}
			if err := d.one(ctx, q, newDead(m)); err != nil {
				return fmt.Errorf("redrive message %s at offset %d of queue %d: %w", m.ID(), m.QueueOffset, q.queue, err)
			}
		}
		if next <= at {
			return nil
		}
		at = next
	}
	return nil
}

// one sends one dead letter again, and keeps that it was.
func (d *redrive) one(ctx context.Context, q queueOf, m DeadMessage) error {
	to := m.Topic
	if d.o.To != "" {
		to = d.o.To
	}
	if to == "" {
		return errNoOrigin
	}
	if d.o.DryRun {
		d.done++
		return d.tell(Redriven{m, Sent{ID: m.ID(), Topic: to}})
	}
	s := d.senders[to]
	if s == nil {
		var err error
		if s, err = d.c.Sender(ctx, to, Selection{Queue: -1}); err != nil {
			return err
		}
		d.senders[to] = s
	}
	if err := d.pace(ctx); err != nil {
		return err
	}
	// What has begun is noted, too, though its user has ended it: the next call
	// would send it twice.
	ctx = context.WithoutCancel(ctx)
	sent, err := s.Send(ctx, Outgoing{Body: m.Body, Flag: m.Flag, SysFlag: m.SysFlag & compression, Props: revived(m.Props)})
	if err != nil {
		return err
	}
	d.done++
	if err := d.keep(ctx, q, m.QueueOffset+1); err != nil {
		return fmt.Errorf("it was sent again, but this was not noted: %w", err)
	}
	return d.tell(Redriven{m, sent})
}

// pace waits until the next send is due.
func (d *redrive) pace(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	now := time.Now()
	if wait := d.due.Sub(now); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now = d.due
	}
	d.due = now.Add(time.Duration(float64(time.Second) / d.o.Rate))
	return nil
}

// keep notes how far a queue was sent again. RocketMQ wants the group to be
// there first.
func (d *redrive) keep(ctx context.Context, q queueOf, at int64) error {
	err := d.c.commit(ctx, q, RedriveGroup, d.topic, at)
	if !isCode(err, remoting.ResGroupNotExist) {
		return err
	}
	body := remoting.SubscriptionGroupConfig{
		Name: RedriveGroup, ConsumeEnable: true, ConsumeFromMinEnable: true, BroadcastEnable: true, RetryQueues: 1, RetryMaxTimes: 16,
		TimeoutMinutes: 15, NotifyIDsChanged: true, WhichBrokerWhenSlow: 1,
	}.AppendTo(nil)
	r := request{op: "create group " + RedriveGroup, code: remoting.ReqCreateGroup, body: body, changes: true}
	if _, err := d.c.ask(ctx, q.Addr, r); err != nil {
		return err
	}
	return d.c.commit(ctx, q, RedriveGroup, d.topic, at)
}

// compression are the bits of a system flag that say how a body is compressed.
const compression = message.SysCompressed | message.SysCompressionMask<<message.SysCompressionShift

// revived are the properties of a message as its sender set them, without what
// brokers and consumers have added on its way.
func revived(props map[string]string) map[string]string {
	out := maps.Clone(props)
	maps.DeleteFunc(out, func(name, _ string) bool {
		switch name {
		case message.RetryTopic, message.RealTopic, message.RealQueueID, message.OriginMessageID, message.DLQOriginTopic,
			message.DLQOriginMessageID, message.Delay, message.TimerDeliverMs, message.TimerDelaySec, message.TimerDelayMs,
			message.ReconsumeTime, message.MaxReconsumeTimes, message.Wait, message.TranMsg, message.ProducerGroup, message.TransactionID,
			message.TransactionCheckTimes, message.TranPreparedQueueOffset, message.CheckImmunitySeconds, message.MinOffset,
			message.MaxOffset, message.ConsumeStartTime, message.Cluster, message.MsgRegion, message.TraceOn, message.PopCK,
			message.PopCKOffset, message.FirstPopTime, message.InnerNum, message.InnerBase, message.CRC32Name,
			driver.DeadTopic, driver.DeadQueue, driver.DeadOffset, driver.DeadGroup, driver.DeadAt, driver.DeadFirstAt,
			driver.DeadAttempts, driver.DeadReason, driver.DeadError, driver.DeadStack, "__FIRST_STORED":
			return true
		}
		return strings.HasPrefix(name, "TIMER_") || strings.HasPrefix(name, message.TransientPrefix)
	})
	return out
}

// Purge removes all dead letters of a group, by deleting the topic that holds
// them: the protocol can remove no single message. The next dead letter makes
// the topic anew. It answers how many there were when it began.
func (c *Cluster) Purge(ctx context.Context, group string) (int64, error) {
	topic := DeadPrefix + group
	shares, err := c.Route(ctx, topic)
	if err != nil {
		return 0, c.deadless(ctx, group, err)
	}
	stats, err := c.stats(ctx, topic, shares)
	if err != nil {
		return 0, err
	}
	n := int64(0)
	for _, q := range stats {
		n += q.Messages()
		// RocketMQ keeps positions of deleted topics: a later redrive would
		// pass over the first new dead letters.
		at, ok, err := c.position(ctx, queueAt(shares, q), RedriveGroup, topic)
		if err == nil && ok && at > 0 {
			err = c.commit(ctx, queueAt(shares, q), RedriveGroup, topic, 0)
		}
		if err != nil {
			return 0, err
		}
	}
	return n, c.DeleteTopic(ctx, topic)
}
