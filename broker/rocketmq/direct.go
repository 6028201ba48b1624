package rocketmq

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// directWait is how long an operator waits for a listener; brokers give up
// after 10 s.
const directWait = 9 * time.Second

// consumeDirectly lets the listener of a group consume one stored message for an
// operator who wants to see what comes of it. The message comes by a lane that
// this member has, because that is where listeners take messages from; its
// outcome is the answer, and nothing else: nothing is stored, no position moves.
// A member without a lane of the topic says so.
func (c *conn) consumeDirectly(req *remoting.Command) *remoting.Command {
	refuse := func(why string) *remoting.Command {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: why}
	}
	x, err := remoting.DecodeConsumeDirectly(req.Fields)
	if err != nil {
		return refuse(err.Error())
	}
	s, _, err := message.Decode(req.Body)
	if err != nil {
		return refuse(err.Error())
	}
	d, err := deliver(&s)
	if err != nil {
		return refuse(err.Error())
	}
	g := c.group(x.Group)
	if g == nil {
		return refuse("no such group here")
	}
	l := g.laneOf(d.Topic, Queue{s.Topic, x.BrokerName, int(s.QueueID)})
	if l == nil {
		return refuse("this member has no lane of topic " + d.Topic + " now; ask one that has")
	}
	c.log.Info("an operator has a message consumed", slog.String("group", g.name), slog.String("topic", d.Topic), slog.String("id", d.ID))
	began := time.Now()
	e := l.offer(d, s)
	end := time.NewTimer(directWait)
	defer end.Stop()
	var settled driver.Settlement
	select {
	case settled = <-e.direct:
	case <-l.over:
		return refuse("the lane was given away meanwhile")
	case <-c.root.Done():
		return refuse("the client is closed")
	case <-end.C:
		if l.withdraw(e) {
			return refuse("the listener took no message; it is paused or busy")
		}
		return refuse("the listener has the message and is not done yet")
	}
	res := remoting.DirectResult{
		AutoCommit: true, Order: l.sub.spec.Ordered, Result: directResult(settled.Outcome), SpentMillis: time.Since(began).Milliseconds(),
		Remark: cmp.Or(settled.Properties[driver.DeadError], settled.Properties[driver.DeadReason]),
	}
	return &remoting.Command{Code: remoting.ResSuccess, Body: res.AppendTo(nil)}
}

// directResult is an outcome in the words of operators' tools.
func directResult(o driver.Outcome) string {
	switch o {
	case driver.Ack:
		return remoting.DirectSuccess
	case driver.DeadLetter:
		return remoting.DirectException
	default:
		return remoting.DirectLater
	}
}

// laneOf answers a lane by which a subscription gets messages of a topic: that
// of the queue if the member has it, else any; nil if there is none.
func (g *group) laneOf(topic string, q Queue) *lane {
	var other *lane
	for _, f := range g.every() {
		if !f.running() {
			continue
		}
		for _, l := range f.lanes {
			if l.sub.spec.Topic != topic {
				continue
			}
			if f.queue == q {
				return l
			}
			if other == nil || other.info.Retry {
				other = l
			}
		}
	}
	return other
}

// offer puts a message in front of a lane that is not one of its queue now.
func (l *lane) offer(d *driver.Delivery, s message.Stored) *entry {
	e := &entry{lane: l, d: *d, stored: s, offset: s.QueueOffset, direct: make(chan driver.Settlement, 1)}
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	e.d.Queue = l.f.number
	l.offered = append(l.offered, e)
	l.nudge()
	return e
}

// withdraw takes an offer back; false: it was fetched.
func (l *lane) withdraw(e *entry) bool {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	i := slices.Index(l.offered, e)
	if i < 0 {
		return false
	}
	l.offered = slices.Delete(l.offered, i, i+1)
	return true
}
