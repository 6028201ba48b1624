package drivertest

import (
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// recallCases: delayed messages that are taken back.
func recallCases() []testCase {
	const g = "recall"
	return []testCase{
		{g, "is_not_delivered", needRecall | needDelay, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			due := time.Now().Add(5 * time.Second)
			var handles []string
			for i := range 3 {
				msg := message(topic, i)
				msg.DeliverAt = due
				handles = append(handles, e.send(msg)[0].Recall)
			}
			for range 2 { // repeating it is no error
				e.must("recall", e.ext.Recall.Recall(e.ctx(), topic, handles[1]))
			}
			got := m.takeWithin(2, 5*time.Second+e.lim.Within)
			for _, a := range got {
				if string(a.d.Body) == "m1" {
					e.Errorf("%v was recalled", a)
				}
				e.onTime("beside one that was recalled", a, due)
			}
			ackAll(got)
			m.none("one message was recalled")
			e.wantCode("recall what was delivered", e.ext.Recall.Recall(e.ctx(), topic, handles[0]), driver.FailedPrecondition)
		}},
		{g, "refusals", needRecall | needDelay, func(e *env) {
			topic, other := e.topic(1), e.topic(1)
			if r := e.send(message(topic, 1))[0]; r.Recall != "" {
				e.Errorf("a message that is not delayed has the handle %q", r.Recall)
			}
			msg := message(topic, 1)
			msg.DeliverAt = time.Now().Add(time.Hour)
			handle := e.send(msg)[0].Recall
			e.wantCode("recall by another topic", e.ext.Recall.Recall(e.ctx(), other, handle), driver.InvalidArgument)
			for _, bad := range []string{"", "no handle", "AAAA"} {
				e.wantCode("recall by a handle that is none", e.ext.Recall.Recall(e.ctx(), topic, bad), driver.InvalidArgument)
			}
			e.must("recall", e.ext.Recall.Recall(e.ctx(), topic, handle))
			c := e.connect("other")
			x := c.Extensions().Recall
			e.must("close a client", c.Close(e.ctx()))
			e.wantCode("recall on a closed client", x.Recall(e.ctx(), topic, handle), driver.Closed)
		}},
	}
}
