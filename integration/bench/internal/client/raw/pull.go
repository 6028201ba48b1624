package raw

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// Batch is how many messages a pull asks for.
const Batch = 32

// offsetAt is what is set anew in the frame of a pull.
type offsetAt struct {
	request
	place int
}

// newPull is a request for [Batch] messages that does not wait for more. The
// offset has ten digits, leading zeros included, and can be overwritten.
func newPull(topic string, queue int) offsetAt {
	const mark = "9999999999"
	r := newRequest(codePull, []field{
		{"commitOffset", "0"},
		{"consumerGroup", "raw"},
		{"expressionType", "TAG"},
		{"maxMsgNums", strconv.Itoa(Batch)},
		{"queueId", strconv.Itoa(queue)},
		{"queueOffset", mark},
		{"subVersion", "0"},
		{"subscription", "*"},
		{"suspendTimeoutMillis", "0"},
		{"sysFlag", "4"},
		{"topic", topic},
	}, nil)
	for at := range r.frame {
		if string(r.frame[at:min(at+len(mark), len(r.frame))]) == mark {
			return offsetAt{r, at}
		}
	}
	return offsetAt{request: r}
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
		n, err := conns[q].drain(newPull(topic, q))
		total.Add(int64(n))
		return err
	})
	return int(total.Load()), errors.Join(err, closeAll(conns))
}

// drain pulls until there is nothing more.
func (c *conn) drain(pull offsetAt) (int, error) {
	for n := 0; ; {
		setNumber(pull.frame, pull.place, n)
		if _, err := c.Write(pull.frame); err != nil {
			return n, fmt.Errorf("send pull: %w", err)
		}
		a, err := c.next()
		switch {
		case err != nil:
			return n, err
		case a.code == codeNotFound:
			return n, nil
		case a.code != codeSuccess:
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
