package drivertest

import (
	"bytes"
	"slices"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// halfCases: Prepare and Resolve. Checks are in checkCases.
func halfCases() []testCase {
	const g = "half"
	return []testCase{
		{g, "invisible_until_commit", needTx, halfCommit},
		{g, "rollback_never_visible", needTx, halfRollback},
		{g, "decisions_repeat_and_absorb", needTx, halfAbsorb},
		{g, "undecided_is_no_decision", needTx, func(e *env) {
			h := e.prepare(e.its("producers"), message(e.topic(1), 1))
			for _, d := range []driver.Decision{driver.Undecided, 77} {
				e.wantCode("resolve as "+d.String(), e.ext.Tx.Resolve(e.ctx(), h, d), driver.InvalidArgument)
			}
			e.resolve(h, driver.Rollback)
		}},
		{g, "prepare_twice_is_one_half", needTx, halfPrepareTwice},
		{g, "same_id_of_another_group", needTx, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			msg := message(topic, 1)
			msg.ID = "ID-1"
			a, b := e.prepare(e.its("producers-a"), msg), e.prepare(e.its("producers-b"), msg)
			e.resolve(a, driver.Rollback)
			e.resolve(b, driver.Commit)
			m.take(1)
			m.none("one of the two halves was rolled back")
		}},
		{g, "other_group_is_refused", needTx, halfOtherGroup},
		{g, "unknown_half", needTx, func(e *env) {
			for _, h := range []driver.Half{
				{},
				{TxID: "no-such-half", Group: e.its("producers")},
				{TxID: "no-such-half", Group: e.its("producers"), Handle: []byte("garbage")},
				{TxID: "no-such-half", Group: e.its("producers"), Handle: bytes.Repeat([]byte{0xff}, 64)},
			} {
				e.wantCode("commit an unknown half", e.ext.Tx.Resolve(e.ctx(), h, driver.Commit),
					driver.NotFound, driver.InvalidArgument, driver.FailedPrecondition)
			}
		}},
		{g, "concurrent_opposite_decisions", needTx, halfRace},
		{g, "survives_crash", needTx | needDurable | needCrash, halfCrash},
		{g, "is_one_half_after_crash", needTx | needDecidesOnce | needDurable | needCrash, func(e *env) {
			topic := e.topic(1)
			msg := fullMessage(topic)
			h := e.prepare(e.its("producers"), msg)
			e.crash()
			if again := e.prepare(e.its("producers"), msg); again.TxID != h.TxID || !bytes.Equal(again.Handle, h.Handle) {
				e.Errorf("Prepare again after a crash: got %+v, want the first half, %+v", again, h)
			}
		}},
		{g, "decision_survives_crash", needTx | needDurable | needCrash, func(e *env) { halfDecisionCrash(e) }},
		{g, "decision_binds_after_crash", needTx | needDecidesOnce | needDurable | needCrash, halfBindsAfterCrash},
		{g, "decision_binds_other_clients", needTx | needDecidesOnce, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			other := e.connect("other").Extensions().Tx
			yes, no := e.prepare(e.its("producers"), message(topic, 1)), e.prepare(e.its("producers"), message(topic, 2))
			e.resolve(yes, driver.Commit)
			e.resolve(no, driver.Rollback)
			e.must("commit again", other.Resolve(e.ctx(), yes, driver.Commit))
			e.wantCode("roll back what another client has committed", other.Resolve(e.ctx(), yes, driver.Rollback), driver.FailedPrecondition)
			e.wantCode("commit what another client has rolled back", other.Resolve(e.ctx(), no, driver.Commit), driver.FailedPrecondition)
			m.take(1)[0].ack()
			m.none("one message was committed, once")
		}},
		{g, "message_is_not_kept", needTx, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			msg := message(topic, 1)
			h := e.prepare(e.its("producers"), msg)
			copy(msg.Body, "XX")
			if msg.ID != "" {
				e.Errorf("Prepare set the id of the message to %q", msg.ID)
			}
			e.resolve(h, driver.Commit)
			if a := m.take(1)[0]; string(a.d.Body) != "m1" {
				e.Errorf("got %v, want m1", a)
			}
		}},
	}
}

func (e *env) prepare(group string, m *driver.Message) driver.Half {
	e.Helper()
	h, err := e.ext.Tx.Prepare(e.ctx(), group, m)
	if err != nil {
		e.Fatalf("prepare for group %s: %v", group, err)
	}
	if h.TxID == "" || h.Group != group || m.ID != "" && h.TxID != m.ID {
		e.Errorf("prepare for group %s, id %q: got transaction %q of group %q", group, m.ID, h.TxID, h.Group)
	}
	return h
}

func (e *env) resolve(h driver.Half, d driver.Decision) {
	e.Helper()
	e.must("resolve "+h.TxID+" as "+d.String(), e.ext.Tx.Resolve(e.ctx(), h, d))
}

func fullMessage(topic string) *driver.Message {
	return &driver.Message{
		Topic: topic, ID: "TX-1", Tag: "t", Keys: []string{"a", "b"}, OrderingKey: "o", Body: everyByte(),
		Properties: map[string]string{"p": "v", "größe": "水"},
	}
}

func halfCommit(e *env) {
	topic := e.topic(2)
	m := e.member(e.its("group"), topic)
	msg := fullMessage(topic)
	h := e.prepare(e.its("producers"), msg)
	m.none("a half message is invisible")
	if e.ext.Query != nil {
		for q := range 2 {
			ds, err := e.ext.Query.Browse(e.ctx(), topic, q, 0, 10)
			if err == nil && len(ds) > 0 {
				e.Errorf("Browse shows %q, a half message", ds[0].Body)
			}
		}
	}
	e.resolve(h, driver.Commit)
	a := m.take(1)[0]
	e.sameMessage("the committed message", a.d, msg)
	if a.d.Attempt != 1 {
		e.Errorf("%v: want attempt 1", a)
	}
	a.ack()
	m.none("a commit makes it visible once")
}

func halfRollback(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	h := e.prepare(e.its("producers"), message(topic, 1))
	e.resolve(h, driver.Rollback)
	m.none("the message was rolled back")
	e.advance(e.lim.CheckAfter + 2*e.lim.CheckEvery)
	m.none("the message was rolled back")
}

func halfAbsorb(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	for i, first := range []driver.Decision{driver.Commit, driver.Rollback} {
		opposite := driver.Commit + driver.Rollback - first
		h := e.prepare(e.its("producers"), message(topic, i))
		e.resolve(h, first)
		for range 3 {
			e.resolve(h, first)
			e.wantCode(opposite.String()+" after "+first.String(), e.ext.Tx.Resolve(e.ctx(), h, opposite), driver.FailedPrecondition)
		}
		e.resolve(h, first)
	}
	if a := m.take(1)[0]; string(a.d.Body) != "m0" {
		e.Errorf("got %v, want m0, which was committed first", a)
	}
	m.none("one message was committed, once")
}

func halfPrepareTwice(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	msg := fullMessage(topic)
	first := e.prepare(e.its("producers"), msg)
	same := func(when string) driver.Half {
		h := e.prepare(e.its("producers"), msg)
		if h.TxID != first.TxID || !bytes.Equal(h.Handle, first.Handle) {
			e.Errorf("Prepare again %s: got %+v, want the first half, %+v", when, h, first)
		}
		return h
	}
	e.resolve(same("before the decision"), driver.Commit)
	m.take(1)[0].ack()
	e.resolve(same("after the commit"), driver.Commit)
	e.wantCode("roll back after the commit", e.ext.Tx.Resolve(e.ctx(), first, driver.Rollback), driver.FailedPrecondition)
	m.none("the same group and id are one half message")
}

func halfOtherGroup(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	h := e.prepare(e.its("producers"), message(topic, 1))
	stranger := h
	stranger.Group = e.its("strangers")
	for _, d := range []driver.Decision{driver.Commit, driver.Rollback} {
		e.wantCode(d.String()+" by another group", e.ext.Tx.Resolve(e.ctx(), stranger, d),
			driver.NotFound, driver.FailedPrecondition, driver.PermissionDenied, driver.InvalidArgument)
	}
	m.none("the half message belongs to another group")
	e.resolve(h, driver.Commit) // nothing was changed
	m.take(1)
}

func halfRace(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	visible := 0
	for i := range 20 {
		h := e.prepare(e.its("producers"), message(topic, i))
		var wg sync.WaitGroup
		var errs [6]error
		for j := range errs {
			wg.Go(func() {
				errs[j] = e.ext.Tx.Resolve(e.ctx(), h, []driver.Decision{driver.Commit, driver.Rollback}[j%2])
			})
		}
		wg.Wait()
		commits, rollbacks := 0, 0
		for j, err := range errs {
			switch {
			case err != nil:
				e.wantCode("the decision that came second", err, driver.FailedPrecondition)
			case j%2 == 0:
				commits++
			default:
				rollbacks++
			}
		}
		if commits+rollbacks != 3 || commits*rollbacks != 0 {
			e.Errorf("of three commits and three rollbacks %d and %d succeeded; want all of one kind", commits, rollbacks)
		}
		visible += min(commits, 1)
	}
	m.take(visible)
	m.none("what was rolled back is invisible, what was committed came once")
}

func halfCrash(e *env) {
	topic := e.topic(1)
	msg := fullMessage(topic)
	h := e.prepare(e.its("producers"), msg)
	other := e.prepare(e.its("producers"), message(topic, 2))
	e.crash()
	m := e.member(e.its("group"), topic)
	m.none("a half message is invisible after a crash, too")
	e.resolve(h, driver.Commit) // the handle survives
	e.sameMessage("a message committed after a crash", m.take(1)[0].d, msg)
	e.resolve(other, driver.Rollback)
	m.none("the other was rolled back")
}

func halfDecisionCrash(e *env) (m *member, yes, no driver.Half) {
	topic := e.topic(1)
	yes, no = e.prepare(e.its("producers"), message(topic, 1)), e.prepare(e.its("producers"), message(topic, 2))
	e.resolve(yes, driver.Commit)
	e.resolve(no, driver.Rollback)
	e.crash()
	m = e.member(e.its("group"), topic)
	if got := bodies(m.take(1)); !slices.Equal(got, []string{"m1"}) {
		e.Errorf("after a crash: got %q, want m1, which was committed", got)
	}
	m.none("the other was rolled back before the crash")
	return m, yes, no
}

func halfBindsAfterCrash(e *env) {
	m, yes, no := halfDecisionCrash(e)
	e.resolve(yes, driver.Commit)
	e.resolve(no, driver.Rollback)
	e.wantCode("roll back after commit and crash", e.ext.Tx.Resolve(e.ctx(), yes, driver.Rollback), driver.FailedPrecondition)
	e.wantCode("commit after rollback and crash", e.ext.Tx.Resolve(e.ctx(), no, driver.Commit), driver.FailedPrecondition)
	m.none("both were decided before the crash")
}
