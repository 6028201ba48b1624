package ours

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/bench/internal/client/member"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// subscribe makes the member of a new group from the earliest message on.
func (s *Store) subscribe(group, topic string, handle func(*driver.Delivery), settled func(n int)) (*member.Member, error) {
	return member.Join(s.conn, group, topic, handle, settled)
}

// Pipeline is publishers and one consumer of one store.
type Pipeline struct {
	*Publisher
	consumer *member.Member
}

// NewPipeline is a [measure.Pipeline] in dir that reports to f.
func NewPipeline(dir string, publishers int, f *measure.Flow) (*Pipeline, error) {
	p, err := NewPublisher(dir, Written, publishers, 1)
	if err != nil {
		return nil, err
	}
	c, err := p.subscribe("flow", topic, func(d *driver.Delivery) { f.Handled(d.Body) }, f.Settled)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &Pipeline{p, c}, nil
}

// Publish stores one message.
func (p *Pipeline) Publish(worker int, stamp int64) error {
	measure.PutStamp(p.batches[worker][0].Body, stamp)
	return p.send(p.batches[worker])
}

// Close ends the consumer and closes the store.
func (p *Pipeline) Close() error { return errors.Join(p.consumer.Close(), p.Publisher.Close()) }

// Drain opens the store in dir and gives a new group so many of its messages;
// it answers microseconds for each.
func Drain(dir, group string, messages int) (float64, error) {
	s, err := Open(dir, embedded.Config{Sync: Written})
	if err != nil {
		return 0, err
	}
	took, err := s.drain(group, messages)
	return measure.Micros(took) / float64(messages), errors.Join(err, s.Close())
}

// drain takes so many messages and tells how long that took from the first
// handler to the last settlement.
func (s *Store) drain(group string, messages int) (time.Duration, error) {
	var begin, settled atomic.Int64
	epoch, done := time.Now(), make(chan time.Duration, 1)
	c, err := s.subscribe(group, topic, func(*driver.Delivery) {
		if begin.Load() == 0 {
			begin.CompareAndSwap(0, int64(time.Since(epoch)))
		}
	}, func(n int) {
		if now := settled.Add(int64(n)); now >= int64(messages) && now-int64(n) < int64(messages) {
			done <- time.Since(epoch) - time.Duration(begin.Load())
		}
	})
	if err != nil {
		return 0, err
	}
	select {
	case took := <-done:
		return took, c.Close()
	case <-c.Broken():
		return 0, c.Close()
	}
}
