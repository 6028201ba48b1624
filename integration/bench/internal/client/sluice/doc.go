// Package sluice drives the driver of this repository for RocketMQ's protocol
// through package driver, with the defaults of both.
package sluice

import (
	"context"
	"errors"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/rocketmq"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// openLimit is how long a client may take to connect.
const openLimit = 30 * time.Second

// open connects a client.
func open(nameServer, id string) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openLimit)
	defer cancel()
	return rocketmq.New(rocketmq.Config{NameServers: []string{nameServer}}).Open(ctx, driver.Config{ClientID: id})
}

// Sender sends and waits; all workers share one client, as an application does.
type Sender struct {
	conn    driver.Conn
	batches [][]*driver.Message // by worker
}

// NewSender is a [measure.Publisher] whose workers send so many messages in one
// call. Each uses its messages again and again, as the driver does not keep
// them.
func NewSender(nameServer, id, topic string, workers, batch int) (*Sender, error) {
	conn, err := open(nameServer, id)
	if err != nil {
		return nil, err
	}
	s := &Sender{conn: conn, batches: make([][]*driver.Message, workers)}
	for w := range s.batches {
		for range batch {
			s.batches[w] = append(s.batches[w], &driver.Message{Topic: topic, Body: measure.Body()})
		}
	}
	return s, nil
}

// Publish sends the messages of a worker.
func (s *Sender) Publish(worker int) (int, error) {
	return len(s.batches[worker]), send(s.conn, s.batches[worker])
}

// Close ends the client.
func (s *Sender) Close() error { return s.conn.Close(context.Background()) }

func send(conn driver.Conn, ms []*driver.Message) error {
	for _, r := range conn.Send(context.Background(), driver.SendRequest{Messages: ms}) {
		switch {
		case r.Err != nil:
			return r.Err
		case r.Status != driver.Stored:
			return errors.New("send answered with status " + r.Status.String())
		}
	}
	return nil
}
