// Package ours drives the bundled broker as an application does, through
// package driver only: every durability and default is the documented one.
package ours

import (
	"context"
	"errors"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// topic is where everything goes unless a case needs many.
const topic = "bench"

const (
	// Written answers when the operating system has the message and syncs
	// behind that, as seldom as JetStream does by default.
	Written = embedded.Sync(2 * time.Minute)
	// Durable answers when the message is on stable storage: the default.
	Durable = embedded.SyncAlways
)

// Store is an open broker with one client.
type Store struct {
	broker *embedded.Broker
	conn   driver.Conn
}

// Open opens or makes a store in dir.
func Open(dir string, cfg embedded.Config) (*Store, error) {
	b, err := embedded.Open(dir, cfg)
	if err != nil {
		return nil, err
	}
	return &Store{b, b.Connect("bench")}, nil
}

// Close closes the store in order.
func (s *Store) Close() error { return s.broker.Close(context.Background()) }

// send stores messages with one call.
func (s *Store) send(ms []*driver.Message) error {
	var errs error
	for _, r := range s.conn.Send(context.Background(), driver.SendRequest{Messages: ms}) {
		if r.Err != nil {
			errs = errors.Join(errs, r.Err)
		}
	}
	return errs
}
