package apache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	// drainLimit is how long a backlog may take.
	drainLimit = 2 * time.Minute
	// joinLimit is how long a consumer may take until it gets messages: the
	// client may wait 20 s for its next balance.
	joinLimit = 40 * time.Second
	// mark is the stamp of messages that only ask whether the consumer is there.
	mark = -1
)

// subscribe starts a push consumer from the first message; every message is
// consumed.
func subscribe(nameServer, topic string, handle func(body []byte)) (interface{ Shutdown() error }, error) {
	quiet()
	c, err := consumer.NewPushConsumer(
		consumer.WithNameServer([]string{nameServer}), consumer.WithGroupName("group-"+topic), consumer.WithInstance("consumer-"+topic),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	)
	if err != nil {
		return nil, fmt.Errorf("make consumer: %w", err)
	}
	take := func(_ context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range ms {
			handle(m.Body)
		}
		return consumer.ConsumeSuccess, nil
	}
	if err := c.Subscribe(topic, consumer.MessageSelector{}, take); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start consumer: %w", err)
	}
	return c, nil
}

// Drain lets a push consumer take so many waiting messages, from the first
// handler to the last. servers are the processes that give them.
func Drain(nameServer, topic string, messages int, servers []int) (measure.Result, error) {
	backlog := measure.NewBacklog(messages, servers...)
	c, err := subscribe(nameServer, topic, func([]byte) { backlog.Handled() })
	if err != nil {
		return measure.Result{}, err
	}
	r, err := backlog.Await(drainLimit)
	return r, errors.Join(err, c.Shutdown())
}

// Pipeline is publishers that send and wait, and a push consumer.
type Pipeline struct {
	*Sender
	consumer interface{ Shutdown() error }
}

// NewPipeline is a [measure.Pipeline] that reports to f. The topic is new.
func NewPipeline(nameServer, topic string, f *measure.Flow) (*Pipeline, error) {
	s, err := NewSender(nameServer, "pipeline-"+topic, topic)
	if err != nil {
		return nil, err
	}
	there := make(chan struct{}, 1)
	c, err := subscribe(nameServer, topic, func(body []byte) {
		if measure.Stamp(body) == mark {
			select {
			case there <- struct{}{}:
			default:
			}
			return
		}
		f.Handled(body)
		f.Settled(1)
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	p := &Pipeline{s, c}
	if err := p.join(there); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// join sends marks until the consumer has got one.
func (p *Pipeline) join(there <-chan struct{}) error {
	limit := time.After(joinLimit)
	for {
		if err := p.Publish(0, mark); err != nil {
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

// Publish sends one message and waits.
func (p *Pipeline) Publish(_ int, stamp int64) error {
	body := slices.Clone(p.body)
	measure.PutStamp(body, stamp)
	return p.send(body)
}

// Close ends consumer and publishers.
func (p *Pipeline) Close() error { return errors.Join(p.consumer.Shutdown(), p.Sender.Close()) }
