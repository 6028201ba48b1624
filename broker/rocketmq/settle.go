package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// returnInPlace is the longest delay for which a returned message waits in
// memory; a longer one would keep the position of its queue behind, so a copy
// is stored.
const returnInPlace = 5 * time.Second

// Settle ends deliveries; see [driver.Lane]. Retry and DeadLetter store a copy
// and end the original when the broker has it.
func (l *lane) Settle(ctx context.Context, ss []driver.Settlement) error {
	for i := range ss {
		if err := l.checkSettlement(&ss[i]); err != nil {
			return driver.Errorf(driver.InvalidArgument, "settle on "+l.name, "settlement %d: %w", i, err)
		}
	}
	copies, lost := l.begin(ss)
	if lost {
		return l.lost("settle on")
	}
	if len(copies) == 0 {
		return nil
	}
	errs := make([]*driver.Error, len(copies))
	var wg sync.WaitGroup
	for i, s := range copies {
		wg.Go(func() { errs[i] = l.storeCopy(ctx, s) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return asDriver(err, "settle on "+l.name)
		}
	}
	return nil
}

func (l *lane) checkSettlement(s *driver.Settlement) error {
	if s.Delivery == nil {
		return errors.New("it has no delivery")
	}
	t, ok := s.Delivery.Token.(*flight)
	switch {
	case !ok || t.lane != l && (t.lane.f.g.name != l.f.g.name || t.lane.name != l.name):
		return errors.New("the delivery did not come by this lane")
	case s.Outcome < driver.Ack || s.Outcome > driver.Return:
		return fmt.Errorf("outcome %d; it takes Ack, Retry, DeadLetter or Return", s.Outcome)
	}
	for k, v := range s.Properties {
		if err := driver.ValidProperty(k, v); err != nil {
			return err
		}
		if envelope.Reserved(k) {
			return fmt.Errorf("property %q is the broker's own", k)
		}
	}
	return nil
}

// begin applies what needs no copy and answers what does; lost: the lane, or
// the one by which a delivery came, was given away.
func (l *lane) begin(ss []driver.Settlement) (copies []driver.Settlement, lost bool) {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.ended || f.isLost() || slices.ContainsFunc(ss, func(s driver.Settlement) bool { return s.Delivery.Token.(*flight).lane != l }) {
		return nil, true
	}
	inPlace := l.sub.spec.Ordered || l.sub.spec.Broadcast
	for _, s := range ss {
		t := s.Delivery.Token.(*flight)
		if t.settled {
			continue
		}
		t.settled = true
		switch {
		case t.e.direct != nil:
			t.e.direct <- s
		case s.Outcome == driver.Ack:
			t.e.done = true
		case s.Outcome == driver.Return && (inPlace || s.Delay <= returnInPlace):
			l.giveBack(t.e, s.Delay)
		case s.Outcome == driver.Retry && inPlace:
			t.e.failed++
			l.giveBack(t.e, s.Delay)
		default:
			copies = append(copies, s)
		}
	}
	f.settledSome()
	return copies, false
}

// storeCopy stores the copy that a settlement asks for and ends the original.
func (l *lane) storeCopy(ctx context.Context, s driver.Settlement) *driver.Error {
	t := s.Delivery.Token.(*flight)
	again := redelivery{
		group: l.f.g.name, from: l.f.queue, number: l.f.number, e: t.e, attempts: s.Delivery.Attempt - 1, delay: s.Delay, added: s.Properties,
	}
	switch s.Outcome {
	case driver.DeadLetter:
		again.dead = true
		again.attempts = max(s.Delivery.Attempt, 1)
	case driver.Retry:
		again.attempts++
	default: // Return costs no attempt
	}
	err := l.f.c.store(ctx, again)
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if err != nil {
		t.settled = false // it is still open
		return err
	}
	l.f.settledLocked(t.e)
	return nil
}

// redelivery is a copy of a message for a retry topic, or for the dead letters.
type redelivery struct {
	group    string
	from     Queue
	number   int // of from among the queues of its topic
	e        *entry
	attempts int // that failed
	delay    time.Duration
	dead     bool
	added    map[string]string
}

// store stores a copy: at the broker that has the original, else at any broker
// that has the retry topic.
//
// It is a send to the retry topic, which, unlike the request to send a message
// back (36), carries properties, any delay and the number of attempts. Dead
// letters go the same way: a send whose attempts are more than it allows is put
// among them by the broker, which makes their topic if there is none.
func (c *conn) store(ctx context.Context, r redelivery) *driver.Error {
	topic := driver.RetryTopic(r.group)
	op := "store a redelivery in " + topic
	h := remoting.SendMessage{
		ProducerGroup: producerGroup, Topic: topic, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: 1,
		SysFlag:       r.e.stored.SysFlag &^ (message.SysTransaction | message.SysBornHostV6 | message.SysStoreHostV6),
		BornTimestamp: r.e.stored.BornTimestamp, Flag: r.e.stored.Flag, ReconsumeTimes: int32(r.attempts),
		MaxReconsumeTimes: mostAttempts,
	}
	var due delay
	if r.dead {
		op = "store a dead letter of group " + r.group
		h.MaxReconsumeTimes = 0 // attempts are at least 1
	} else if r.delay > 0 {
		now := time.Now()
		var err error
		if due, err = c.delay(now.Add(r.delay), now); err != nil {
			return driver.Errorf(driver.Unsupported, op, "%w", err)
		}
	}
	addr, broker, err := c.placeFor(ctx, op, topic, r.from.Broker)
	if err != nil {
		return err
	}
	if err := c.keeps(ctx, c.cfg.Timeout, op, addr, due); err != nil {
		return err
	}
	h.BrokerName, h.Properties = broker, r.properties(due)
	body := r.e.stored.Body
	if len(body) == 0 { // out of a batch
		small, flag, compressErr := c.compress(nil)
		if compressErr != nil {
			return driver.Errorf(driver.Internal, op, "%w", compressErr)
		}
		body, h.SysFlag = small, h.SysFlag|flag
	}
	req := &remoting.Command{Code: remoting.ReqSendMessageV2, Body: body}
	h.AppendTo(req.Code, &req.Fields)
	_, err = c.call(ctx, op, addr, req, true, remoting.ResFlushDiskTimeout, remoting.ResSlaveNotAvailable, remoting.ResFlushSlaveTimeout)
	if err != nil && ctx.Err() == nil {
		c.suspect(topic)
	}
	return err
}

// mostAttempts lets the framework alone decide when attempts are over.
const mostAttempts = 1 << 30

// placeFor answers a master for copies: that of broker, else any of the topic.
func (c *conn) placeFor(ctx context.Context, op, topic, broker string) (addr, name string, err *driver.Error) {
	if addr, ok := c.routes.master(broker); ok {
		return addr, broker, nil
	}
	r, err := c.routes.get(ctx, topic)
	if err != nil {
		return "", "", asDriver(err, op)
	}
	for _, name := range r.brokersOf() {
		if addr, ok := c.routes.master(name); ok {
			return addr, name, nil
		}
	}
	_, err = c.master(op, broker)
	return "", "", err
}

// properties are those of the original and what the copy adds.
func (r redelivery) properties(d delay) string {
	c := envelope.NewCopy(&r.e.stored, r.e.d.OffsetID)
	c.Set(message.Wait, "true")
	if r.dead {
		c.Dead(r.group, r.number, time.Now())
	}
	if name, value := d.property(); name != "" {
		c.Set(name, value)
	}
	return string(c.Encode(r.added))
}
