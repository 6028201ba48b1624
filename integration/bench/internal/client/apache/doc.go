// Package apache drives Apache's Go client, unchanged and with its defaults but
// for the retries of a failed send, which would hide it.
package apache

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// quiet keeps the client from logging every connection.
var quiet = sync.OnceFunc(func() { rlog.SetLogLevel("fatal") })

// starter is a producer of either kind before it is started.
type starter interface {
	Start() error
	Shutdown() error
}

// options of a producer. Each has an instance of the client, and so
// connections, of its own.
func options(nameServer, group, instance string) []producer.Option {
	return []producer.Option{
		producer.WithNameServer([]string{nameServer}), producer.WithGroupName(group), producer.WithInstanceName(instance), producer.WithRetry(0),
	}
}

// Sender sends and waits; all workers share one producer, as an application does.
type Sender struct {
	producer interface {
		starter
		SendSync(ctx context.Context, ms ...*primitive.Message) (*primitive.SendResult, error)
	}
	topic string
	body  []byte
}

// NewSender is a [measure.Publisher]. The instance is unique in this process.
func NewSender(nameServer, instance, topic string) (*Sender, error) {
	quiet()
	p, err := producer.NewDefaultProducer(options(nameServer, "bench-go", instance)...)
	if err != nil {
		return nil, fmt.Errorf("make producer: %w", err)
	}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("start producer: %w", err)
	}
	s := &Sender{p, topic, measure.Body()}
	return s, first(s)
}

// first sends one message before the workers do: many that look for the route
// of a topic at once can miss it, since the client forgets to make them wait
// for the one that has asked.
func first(p measure.Publisher) error {
	if _, err := p.Publish(0); err != nil {
		return errors.Join(fmt.Errorf("send the first message: %w", err), p.Close())
	}
	return nil
}

// Publish sends one message.
func (s *Sender) Publish(int) (int, error) { return 1, s.send(s.body) }

func (s *Sender) send(body []byte) error {
	r, err := s.producer.SendSync(context.Background(), primitive.NewMessage(s.topic, body))
	if err == nil && r.Status != primitive.SendOK {
		err = fmt.Errorf("send answered with status %d", r.Status)
	}
	return err
}

// Close ends the producer.
func (s *Sender) Close() error { return s.producer.Shutdown() }

// Transactions sends half messages and commits each.
type Transactions struct {
	producer interface {
		starter
		SendMessageInTransaction(ctx context.Context, m *primitive.Message) (*primitive.TransactionSendResult, error)
	}
	topic string
	body  []byte
}

// NewTransactions is a [measure.Publisher]. The instance is unique in this
// process.
func NewTransactions(nameServer, instance, topic string) (*Transactions, error) {
	quiet()
	p, err := producer.NewTransactionProducer(commit{}, options(nameServer, "bench-go-tx", instance)...)
	if err != nil {
		return nil, fmt.Errorf("make transaction producer: %w", err)
	}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("start transaction producer: %w", err)
	}
	t := &Transactions{p, topic, measure.Body()}
	return t, first(t)
}

// Publish sends one message in a transaction. The client does not wait for the
// answer to its commit.
func (t *Transactions) Publish(int) (int, error) {
	r, err := t.producer.SendMessageInTransaction(context.Background(), primitive.NewMessage(t.topic, t.body))
	switch {
	case err != nil:
		return 0, err
	case r.Status != primitive.SendOK || r.State != primitive.CommitMessageState:
		return 0, errors.New("a transaction was not committed: " + r.String())
	default:
		return 1, nil
	}
}

// Close ends the producer.
func (t *Transactions) Close() error { return t.producer.Shutdown() }

// commit is an application that commits at once.
type commit struct{}

func (commit) ExecuteLocalTransaction(*primitive.Message) primitive.LocalTransactionState {
	return primitive.CommitMessageState
}

func (commit) CheckLocalTransaction(*primitive.MessageExt) primitive.LocalTransactionState {
	return primitive.CommitMessageState
}
