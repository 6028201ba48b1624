package rocketmq

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// asked answers a request of a broker; nil: not supported. It must not wait,
// unless waits says that it may: requests of one broker come one after the
// other.
func (c *conn) asked(addr string, req *remoting.Command) *remoting.Command {
	switch req.Code {
	case remoting.ReqNotifyConsumerIDsChanged:
		if g := c.group(req.Fields.Get("consumerGroup")); g != nil {
			g.rebalance()
		}
		return &remoting.Command{Code: remoting.ResSuccess}
	case remoting.ReqCheckTransactionState:
		c.checkBack(addr, req)
		return &remoting.Command{Code: remoting.ResSuccess}
	case remoting.ReqResetConsumerClientOffset:
		return c.reset(req)
	case remoting.ReqGetConsumerRunningInfo:
		return c.runningInfo(req)
	case remoting.ReqConsumeMessageDirectly:
		return c.consumeDirectly(req)
	case remoting.ReqPushReply:
		return c.asks.replied(req)
	default:
		return nil
	}
}

// waits reports whether the answer to a request takes time.
func waits(code int) bool { return code == remoting.ReqConsumeMessageDirectly }

func (c *conn) group(name string) *group {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.groups[name]
}

// reset follows an operator who moves a group.
func (c *conn) reset(req *remoting.Command) *remoting.Command {
	g := c.group(req.Fields.Get("group"))
	table, err := remoting.DecodeOffsetTable(req.Body)
	if g == nil || err != nil {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: "no such group here, or a body that cannot be read"}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range table.Queues {
		f := g.feeds[Queue{p.Topic, p.Broker, p.Queue}]
		if f == nil || p.Offset < 0 {
			continue
		}
		c.log.Info("an operator moves a group", slog.String("group", g.name), slog.String("queue", f.queue.String()), slog.Int64("offset", p.Offset))
		f.move(p.Offset) // here: of two resets the last one counts
		c.wg.Go(func() {
			ctx, cancel := context.WithTimeoutCause(c.root, c.cfg.Timeout, errAttempt)
			defer cancel()
			if err := f.commit(ctx); err != nil {
				c.log.Warn("a reset was not stored yet", slog.Any("error", err))
			}
		})
	}
	return &remoting.Command{Code: remoting.ResSuccess}
}

// runningInfo tells an operator what this member is doing.
func (c *conn) runningInfo(req *remoting.Command) *remoting.Command {
	g := c.group(req.Fields.Get("consumerGroup"))
	if g == nil {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: "no such group here"}
	}
	info := remoting.RunningInfo{Properties: remoting.Fields{
		{Name: remoting.PropConsumeType, Value: remoting.ConsumePassively},
		{Name: "PROP_NAMESERVER_ADDR", Value: strings.Join(c.cfg.NameServers, ";")},
		{Name: remoting.PropStartTimestamp, Value: strconv.FormatInt(c.began.UnixMilli(), 10)},
		{Name: remoting.PropClientVersion, Value: "V5_3_3"},
	}}
	data, _ := g.consumerData()
	info.Subscriptions = data.Subscriptions
	ordered := false
	g.mu.Lock()
	for _, s := range g.subs {
		ordered = ordered || s.spec.Ordered
		info.Topics = append(info.Topics, remoting.TopicStatus{Topic: s.spec.Topic})
	}
	g.mu.Unlock()
	info.Properties.AddBool(remoting.PropOrderly, ordered)
	for _, f := range g.every() {
		info.Queues = append(info.Queues, f.status())
	}
	return &remoting.Command{Code: remoting.ResSuccess, Body: info.AppendTo(nil)}
}

// status tells what the feed has of its queue: cached is what waits for a
// Fetch, transaction what is with handlers, and consumed what was settled.
func (f *feed) status() remoting.QueueRunning {
	n := f.inFlight()
	f.mu.Lock()
	defer f.mu.Unlock()
	q := remoting.QueueRunning{
		MessageQueue: remoting.MessageQueue{Topic: f.queue.Topic, Broker: f.queue.Broker, Queue: f.queue.ID},
		CommitOffset: f.positionLocked(), CachedCount: int32(f.buffered + f.foreign), TransactionCount: int32(n),
		Locked: f.lease.held, Dropped: f.stopping(), LastPull: millis(f.lastPull), LastConsume: millis(f.lastSettle),
	}
	if f.lease.held {
		q.LastLock = f.lease.until.Add(-leaseValid).UnixMilli()
	}
	if len(f.open) > 0 {
		q.CachedMin, q.CachedMax = f.open[0].offset, f.open[len(f.open)-1].offset
	}
	return q
}

// millis is a time as tools read it, 0 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

var _ driver.Conn = (*conn)(nil)
