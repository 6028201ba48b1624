package sluice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"

	"github.com/sluicemq/sluice/integration/bench/internal/client/member"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	// drainLimit is how long a backlog may take.
	drainLimit = 2 * time.Minute
	// joinLimit is how long a consumer may take until it gets messages.
	joinLimit = 40 * time.Second
	// mark is the stamp of messages that only ask whether the consumer is there.
	mark = -1
)

// Drain lets a new group take so many waiting messages, from the first handler
// to the last. servers are the processes that give them.
func Drain(nameServer, topic string, messages int, servers []int) (measure.Result, error) {
	conn, err := open(nameServer, "drain-"+topic)
	if err != nil {
		return measure.Result{}, err
	}
	backlog := measure.NewBacklog(messages, servers...)
	m, err := member.Join(conn, "sluice-"+topic, topic, func(*driver.Delivery) { backlog.Handled() }, func(int) {})
	if err != nil {
		return measure.Result{}, errors.Join(err, conn.Close(context.Background()))
	}
	r, err := backlog.Await(drainLimit)
	return r, errors.Join(err, m.Close(), conn.Close(context.Background()))
}

// Pipeline is publishers and one consumer, each side with a client of its own.
type Pipeline struct {
	sending, taking driver.Conn
	topic           string
	body            []byte
	member          *member.Member
	publishers      []*publisher
	wait            bool
}

// NewPipeline is a [measure.Pipeline] that reports to f. With wait publishers
// wait for each answer. The topic is new.
func NewPipeline(nameServer, topic string, publishers int, f *measure.Flow, wait bool) (*Pipeline, error) {
	p := &Pipeline{topic: topic, body: measure.Body(), wait: wait}
	var err error
	if p.sending, err = open(nameServer, "sends-"+topic); err != nil {
		return nil, err
	}
	if p.taking, err = open(nameServer, "takes-"+topic); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	there, marks := make(chan struct{}, 1), atomic.Int64{}
	p.member, err = member.Join(p.taking, "group-"+topic, topic, func(d *driver.Delivery) {
		if measure.Stamp(d.Body) != mark {
			f.Handled(d.Body)
			return
		}
		marks.Add(1)
		select {
		case there <- struct{}{}:
		default:
		}
	}, func(n int) { f.Settled(n - int(marks.Swap(0))) })
	if err == nil {
		err = p.join(there)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	for range publishers {
		p.publishers = append(p.publishers, newPublisher(p.sending))
	}
	return p, nil
}

// join sends marks until the consumer has got one.
func (p *Pipeline) join(there <-chan struct{}) error {
	limit := time.After(joinLimit)
	for {
		if err := send(p.sending, []*driver.Message{p.message(mark)}); err != nil {
			return err
		}
		select {
		case <-there:
			return nil
		case <-limit:
			return fmt.Errorf("the consumer gets nothing for %v", joinLimit)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *Pipeline) message(stamp int64) *driver.Message {
	body := slices.Clone(p.body)
	measure.PutStamp(body, stamp)
	return &driver.Message{Topic: p.topic, Body: body}
}

// Publish sends one message and waits, or has it sent.
func (p *Pipeline) Publish(worker int, stamp int64) error {
	if p.wait {
		return send(p.sending, []*driver.Message{p.message(stamp)})
	}
	return p.publishers[worker].take(p.message(stamp))
}

// Close ends publishers and consumer.
func (p *Pipeline) Close() error {
	var err error
	for _, one := range p.publishers {
		err = errors.Join(err, one.close())
	}
	if p.member != nil {
		err = errors.Join(err, p.member.Close())
	}
	for _, conn := range []driver.Conn{p.sending, p.taking} {
		if conn != nil {
			err = errors.Join(err, conn.Close(context.Background()))
		}
	}
	return err
}
