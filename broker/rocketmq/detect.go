package rocketmq

import (
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

const (
	// probeEvery is the pause between two questions to a broker that does not
	// answer, probeTimeout how long its answer may take; both are those of
	// Apache's producers.
	probeEvery   = 2 * time.Second
	probeTimeout = 200 * time.Millisecond
)

// sendFailed notes that a broker did not store what was sent to it. One that
// did not answer at all is asked in the background until it does: it comes back
// to the sends at once then, and stays left out meanwhile.
func (c *conn) sendFailed(q Queue, err *driver.Error) {
	c.suspect(q.Topic)
	c.avoid.failed(q.Broker)
	if isRefusal(err) || !c.avoid.probe(q.Broker) {
		return
	}
	begun := c.spawn(func() {
		defer c.avoid.probed(q.Broker)
		c.probe(q)
	})
	if !begun {
		c.avoid.probed(q.Broker)
	}
}

// probe asks a broker for the end of a queue, which costs it nothing, until it
// answers, whatever that is. It gives up when nothing is sent to it any more.
func (c *conn) probe(q Queue) {
	req := &remoting.Command{Code: remoting.ReqGetMaxOffset}
	remoting.QueueOffset{Topic: q.Topic, QueueID: int32(q.ID), Committed: true}.AppendTo(&req.Fields)
	req.Fields.Add("bname", q.Broker)
	for sleep(c.root, probeEvery); c.root.Err() == nil; sleep(c.root, probeEvery) {
		addr, ok := c.routes.master(q.Broker)
		if !ok || !c.routes.takes(q) {
			return
		}
		_, err := c.links.call(c.root, probeTimeout, addr, req)
		if err == nil {
			c.avoid.back(q.Broker)
			return
		}
	}
}

// share is the part of the time that is left for a send which one attempt may
// take while another broker could have the message.
const share = 3

// patience is how long a request with the messages of a lane may wait for its
// broker: as long as one of their senders may. That is Config.Timeout, and with
// another broker to go to, a share of what is left of the deadline. Otherwise a
// broker that is silent would use up what all attempts have together.
func (c *conn) patience(lane []outgoing) (longest time.Duration) {
	for i := range lane {
		d := c.cfg.Timeout
		if o := &lane[i]; o.spare && !o.end.IsZero() {
			d = min(d, time.Until(o.end)/share)
		}
		longest = max(longest, d)
	}
	return longest
}
