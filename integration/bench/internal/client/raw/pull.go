package raw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/remoting"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// Batch is how many messages a pull asks for.
const Batch = 32

// pull is a request whose offset is set anew.
type pull struct {
	request
	offset int
}

// newPull is a request for [Batch] messages that does not wait for more. Its
// offset has ten digits, with zeros in front, and can be overwritten.
func newPull(topic string, queue int) (pull, error) {
	const mark = 9_999_999_999
	var fields remoting.Fields
	remoting.PullMessage{
		Group: group, Topic: topic, QueueID: int32(queue), QueueOffset: mark, MaxMessages: Batch,
		SysFlag: remoting.PullSubscription, Subscription: "*", ExpressionType: remoting.ExpressionTag,
	}.AppendTo(&fields)
	r, err := newRequest(remoting.ReqPullMessage, fields, nil)
	return pull{r, bytes.Index(r.frame, fmt.Append(nil, mark))}, err
}

// Drain pulls all messages of a topic from the beginning, one request at a
// time on each of [Queues] connections, a queue each. It answers how many
// there were.
func Drain(broker, topic string) (int, error) {
	total := atomic.Int64{}
	conns := make([]*conn, Queues)
	for q := range conns {
		c, err := dial(broker)
		if err != nil {
			return 0, errors.Join(err, closeAll(conns[:q]))
		}
		conns[q] = c
	}
	_, err := measure.Share(Queues, Queues, func(_, q int) error {
		n, err := conns[q].drain(topic, q)
		total.Add(int64(n))
		return err
	})
	return int(total.Load()), errors.Join(err, closeAll(conns))
}

// drain pulls from one queue until there is nothing more.
func (c *conn) drain(topic string, queue int) (int, error) {
	p, err := newPull(topic, queue)
	if err != nil {
		return 0, err
	}
	for n := 0; ; {
		setNumber(p.frame, p.offset, n)
		if _, err := c.Write(p.frame); err != nil {
			return n, fmt.Errorf("send pull: %w", err)
		}
		a, err := c.next()
		switch {
		case err != nil:
			return n, err
		case a.code == remoting.ResPullNotFound:
			return n, nil
		case a.code != remoting.ResSuccess:
			return n, a.refused()
		}
		more, err := count(a.body)
		if n += more; err != nil {
			return n, err
		}
	}
}

// count walks over stored messages, each of which begins with its size.
func count(body []byte) (int, error) {
	n := 0
	for ; len(body) > 0; n++ {
		if len(body) < 4 {
			return n, fmt.Errorf("%d bytes are left behind message %d", len(body), n)
		}
		size := int(binary.BigEndian.Uint32(body))
		if size < 4 || size > len(body) {
			return n, fmt.Errorf("message %d has %d bytes of %d", n, size, len(body))
		}
		body = body[size:]
	}
	if n == 0 {
		return 0, errors.New("a pull has found no message and says success")
	}
	return n, nil
}
