package ours

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// delayers add messages at the same time, in batches of [Window].
const delayers = 8

// trickle is how many delayed messages become due in a second while their
// lateness is measured.
const trickle = 2000

// Plain stores so many messages, then publishes one at a time: what adding
// delayed messages, and other traffic beside them, is compared with.
func Plain(dir string, messages int, l measure.Loop) (measure.Figures, error) {
	s, err := Open(dir, embedded.Config{Sync: Written})
	if err != nil {
		return nil, err
	}
	f := measure.Figures{}
	took, err := s.publisher(delayers, Window).publishAll(messages, nil)
	if err == nil {
		f["add_rate"] = float64(messages) / took.Seconds()
		err = s.meanwhile(l, f)
	}
	return f, errors.Join(err, s.Close())
}

// meanwhile adds the rate of plain publishing, one message a call, to f.
func (s *Store) meanwhile(l measure.Loop, f measure.Figures) error {
	r, err := l.Run(s.publisher(l.Workers, 1).Publish)
	f.Join("other_", r.Figures())
	return err
}

// Delayed keeps so many messages pending and measures, beside them: the rate
// of adding, the heap they take, other traffic, the lateness of a trickle, and
// how fast as many as fire, due at one time, reach a consumer.
func Delayed(dir string, pending, fire int, l measure.Loop) (measure.Figures, error) {
	s, err := Open(dir, embedded.Config{Sync: Written})
	if err != nil {
		return nil, err
	}
	f := measure.Figures{}
	err = s.pend(pending, f)
	if err == nil {
		err = s.meanwhile(l, f)
	}
	if err == nil {
		err = s.fire(fire, f)
	}
	if err == nil {
		err = s.late(int(trickle*max(l.For, time.Second)/time.Second), f)
	}
	return f, errors.Join(err, s.Close())
}

// pend adds messages that are due in an hour and later, in no order.
func (s *Store) pend(messages int, f measure.Figures) error {
	p := s.publisher(delayers, Window)
	far := time.Now().Add(time.Hour)
	empty := measure.Heap()
	took, err := p.publishAll(messages, func(i int, m *driver.Message) {
		m.DeliverAt = far.Add(time.Duration(i*7919%messages) * time.Millisecond)
	})
	f["add_rate"] = float64(messages) / took.Seconds()
	f["heap_mib"] = (measure.Heap() - empty) / (1 << 20)
	return err
}

// fire adds messages due at one time and measures from then to the last handler.
func (s *Store) fire(messages int, f measure.Figures) error {
	spare := time.Duration(2*float64(messages)/f["add_rate"]*float64(time.Second)) + 500*time.Millisecond
	due := time.Now().Add(spare).Truncate(time.Millisecond)
	last, err := s.await("fire", messages, func(int) time.Time { return due }, func(time.Duration) {})
	f["fire_rate"] = float64(messages) / last.Sub(due).Seconds()
	return err
}

// late adds messages that become due one after the other and measures how much
// later than that their handlers begin.
func (s *Store) late(messages int, f measure.Figures) error {
	from := time.Now().Add(time.Second)
	var lateness measure.Histogram
	_, err := s.await("late", messages, func(i int) time.Time {
		return from.Add(time.Duration(i) * time.Second / trickle).Truncate(time.Millisecond)
	}, lateness.Add)
	f["late_p50_ms"] = measure.Micros(lateness.Quantile(.5)) / 1e3
	f["late_p99_ms"] = measure.Micros(lateness.Quantile(.99)) / 1e3
	return err
}

// await sends messages that become due as the function says to a topic of
// their own, tells how late each handler begins, and when the last one does.
// The number of messages is rounded up to whole batches.
func (s *Store) await(name string, messages int, due func(i int) time.Time, late func(time.Duration)) (last time.Time, err error) {
	left, end := atomic.Int64{}, make(chan time.Time, 1)
	left.Store(int64((messages + Window - 1) / Window * Window))
	c, err := s.subscribe(name, name, func(d *driver.Delivery) {
		now := time.Now()
		late(now.Sub(d.DeliverAt))
		if left.Add(-1) == 0 {
			end <- now
		}
	}, func(int) {})
	if err != nil {
		return last, err
	}
	if _, err = s.publisher(2, Window).publishAll(messages, func(i int, m *driver.Message) {
		m.Topic, m.DeliverAt = name, due(i)
	}); err == nil {
		select {
		case last = <-end:
		case <-c.Broken():
		}
	}
	return last, errors.Join(err, c.Close())
}
