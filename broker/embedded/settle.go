package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Settle ends deliveries; see [driver.Lane].
func (l *lane) Settle(ctx context.Context, ss []driver.Settlement) error {
	op := "settle on " + l.name
	if len(ss) == 0 {
		return nil
	}
	if err := l.checkSettlements(ss); err != nil {
		return withOp(err, op)
	}
	copies, err := l.begin(ss)
	if err != nil {
		return l.lost(op)
	}
	if len(copies) == 0 {
		return nil
	}
	if err := l.store(ctx, copies); err != nil {
		return withOp(err, op)
	}
	return nil
}

// checkSettlements refuses the whole call before anything is done.
func (l *lane) checkSettlements(ss []driver.Settlement) *driver.Error {
	for i, s := range ss {
		bad := func(format string, args ...any) *driver.Error {
			return driver.Errorf(driver.InvalidArgument, "", "settlement %d: %w", i, fmt.Errorf(format, args...))
		}
		if s.Delivery == nil {
			return bad("it has no delivery")
		}
		t, ok := s.Delivery.Token.(*token)
		if !ok || t.lane.slot != l.slot {
			return bad("the delivery did not come by this lane")
		}
		if t.lane != l {
			return laneLost("")
		}
		if s.Outcome < driver.Ack || s.Outcome > driver.Return {
			return bad("outcome %d; it takes Ack, Retry, DeadLetter or Return", s.Outcome)
		}
		for k, v := range s.Properties {
			if err := driver.ValidProperty(k, v); err != nil {
				return bad("%w", err)
			}
			if envelope.Reserved(k) {
				return bad("property %q is the broker's own", k)
			}
		}
	}
	return nil
}

// begin applies what needs no copy and marks what does.
func (l *lane) begin(ss []driver.Settlement) (copies []settlement, err error) {
	s := l.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane != l {
		return nil, errLaneLost
	}
	inPlace := s.order || s.client != "" // no stored redeliveries
	now := time.Now()
	moved := false
	for _, x := range ss {
		t := x.Delivery.Token.(*token)
		if !s.win.Begin(t.flight) {
			continue // settled before
		}
		switch {
		case x.Outcome == driver.Ack:
			s.win.Settle(t.flight)
		case x.Outcome == driver.Return && (x.Delay <= 0 || inPlace), x.Outcome == driver.Retry && inPlace:
			s.win.Return(t.flight, now.Add(max(x.Delay, 0)), x.Outcome == driver.Retry)
		default:
			copies = append(copies, settlement{Settlement: x, token: t})
			continue
		}
		moved = true
	}
	if moved {
		s.changed()
	}
	return copies, nil
}

// settlement is one that stores a copy.
type settlement struct {
	driver.Settlement
	token *token
	frame frame
	dead  bool
}

// settleJob stores copies for redelivery or as dead letters. The originals
// count as settled once their copies are stored.
type settleJob struct {
	lane   *lane
	copies []settlement
	out    outgoing
	err    *driver.Error
}

// store appends the copies and waits for them.
func (l *lane) store(ctx context.Context, copies []settlement) *driver.Error {
	j := &settleJob{lane: l, copies: copies}
	size := 0
	for i := range copies {
		if err := j.encode(&copies[i]); err != nil {
			j.undo()
			return err
		}
		size += copies[i].frame.size()
	}
	// Not the client's done channel: lanes settle while it closes.
	err := l.slot.e.w.do(ctx, nil, j, size)
	switch {
	case err == nil:
		return j.err
	case !err.MaybeDone:
		j.undo()
	}
	return err
}

// encode makes the copy of one message.
func (j *settleJob) encode(c *settlement) *driver.Error {
	e, sl := j.lane.slot.e, j.lane.slot
	s, _, _, err := e.read(c.token.pos, c.token.size)
	if err != nil {
		return readError(err, "")
	}
	copied := envelope.NewCopy(&s, message.OffsetID(s.StoreHost, s.PhysicalOffset))
	made := s
	made.SysFlag &^= message.SysTransaction
	made.PreparedTransactionOffset = 0
	if c.Outcome == driver.DeadLetter {
		c.dead = true
		made.Topic, made.ReconsumeTimes = driver.DeadLetterTopic(sl.group), 0
		copied.Dead(sl.group, sl.info.Queue, e.log.Now())
	} else {
		made.Topic = retryTopic(sl.group)
		if c.Outcome == driver.Retry {
			made.ReconsumeTimes++
		}
		if c.Delay > 0 {
			c.frame.fact.msg.due = envelope.Millis(e.log.Now().Add(c.Delay))
		}
	}
	encoded := copied.Encode(c.Properties)
	if err := j.out.around(&c.frame, &made, func(b []byte) []byte { return append(b, encoded...) }); err != nil {
		return encodeError(err)
	}
	j.out.copyFact(&c.frame, made.Topic, encoded)
	return nil
}

func (j *settleJob) stage(w *writer) {
	sl := j.lane.slot
	for i := range j.copies {
		c := &j.copies[i]
		var err *driver.Error
		at := 0
		if !c.dead {
			at, err = w.ensureRetryQueue(sl.group, sl.topic)
		}
		var t *topicPlan
		if err == nil {
			t, err = w.ensureTopic(c.frame.fact.msg.topic)
		}
		if err != nil {
			c.frame.err = err
			continue
		}
		w.appendMessage(&c.frame, t, at)
	}
}

func (j *settleJob) finish() {
	s := j.lane.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range j.copies {
		c := &j.copies[i]
		if c.frame.err != nil {
			j.err = c.frame.err
			s.win.Undo(c.token.flight)
			continue
		}
		s.win.Settle(c.token.flight)
	}
	s.changed()
}

// undo gives back what was marked, before the writer saw it.
func (j *settleJob) undo() {
	s := j.lane.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range j.copies {
		s.win.Undo(j.copies[i].token.flight)
	}
	s.changed()
}
