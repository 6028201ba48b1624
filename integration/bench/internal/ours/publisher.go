package ours

import (
	"errors"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// Window is how many messages a call of a batching publisher has.
const Window = 64

// Publisher stores batches; each worker uses its messages again and again, as
// the broker does not keep them.
type Publisher struct {
	*Store
	batches [][]*driver.Message
}

// NewPublisher is a [measure.Publisher] in dir.
func NewPublisher(dir string, sync embedded.Sync, workers, batch int) (*Publisher, error) {
	s, err := Open(dir, embedded.Config{Sync: sync})
	if err != nil {
		return nil, err
	}
	return s.publisher(workers, batch), nil
}

// publisher stores more in a store that is open.
func (s *Store) publisher(workers, batch int) *Publisher {
	p := &Publisher{Store: s, batches: make([][]*driver.Message, workers)}
	for w := range p.batches {
		for range batch {
			p.batches[w] = append(p.batches[w], &driver.Message{Topic: topic, Body: measure.Body()})
		}
	}
	return p
}

// Publish stores one batch.
func (p *Publisher) Publish(worker int) (int, error) {
	return len(p.batches[worker]), p.send(p.batches[worker])
}

// publishAll stores at least so many messages in all and tells how long that
// took. prepare, if there is one, changes each message before its batch goes.
func (p *Publisher) publishAll(messages int, prepare func(i int, m *driver.Message)) (time.Duration, error) {
	size := len(p.batches[0])
	return measure.Share((messages+size-1)/size, len(p.batches), func(worker, i int) error {
		if prepare != nil {
			for at, m := range p.batches[worker] {
				prepare(i*size+at, m)
			}
		}
		return p.send(p.batches[worker])
	})
}

// Sustained stores so many messages and closes the store, which syncs the
// rest: messages a second until all are on the disk.
func Sustained(dir string, messages int) (measure.Figures, error) {
	begin := time.Now()
	if err := Fill(dir, messages); err != nil {
		return nil, err
	}
	return measure.Figures{"rate": float64(messages) / time.Since(begin).Seconds()}, nil
}

// Fill makes a store in dir with so many messages waiting and closes it.
func Fill(dir string, messages int) error {
	p, err := NewPublisher(dir, Written, 8, Window)
	if err != nil {
		return err
	}
	_, err = p.publishAll(messages, nil)
	return errors.Join(err, p.Close())
}
