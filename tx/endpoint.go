package tx

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

// AnySender is a [Sender] of any payload, for [NewChecks].
type AnySender interface {
	endpoint() *endpoint
}

// endpoint is what a check loop knows of a sender.
type endpoint struct {
	typeName, group, topic string
	parallel               int
	timeout                time.Duration
	sends                  *gate
	answer                 func(ctx context.Context, h driver.Half, d *driver.Delivery, check int) (Decision, error)
}

func (s *Sender[T]) endpoint() *endpoint {
	return &endpoint{
		typeName: s.opts.typeName, group: s.opts.group, topic: s.opts.topic,
		parallel: s.opts.parallel, timeout: s.opts.checkTimeout,
		sends: s.sends, answer: s.answer,
	}
}

// answer decides one check-back. The payload is decoded only for a checker that
// wants it: the marker row needs the id alone, and an undecodable body must not
// keep a transaction open.
func (s *Sender[T]) answer(ctx context.Context, h driver.Half, d *driver.Delivery, check int) (decision Decision, err error) {
	defer func() {
		if v := recover(); v != nil {
			decision, err = Undecided, &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if s.check == nil {
		return s.opts.local.Decide(ctx, h.TxID)
	}
	half := &Half[T]{ID: h.TxID, Group: h.Group, Topic: d.Topic, Delivery: sdk.NewDelivery(d, h.Group, "", ""), Check: check}
	if err := s.client.Codecs().Decode(d.Body, half.Delivery.ContentType, &half.Payload); err != nil {
		return Undecided, fmt.Errorf("half message %s: %w", h.TxID, err)
	}
	return s.check(ctx, half)
}
