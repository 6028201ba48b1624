package sdk

import "context"

// Recall makes the delayed message of a [SendResult] one that is never
// delivered. It is repeated like a send, which is no error, within
// sluice.send.timeout. [FailedPrecondition] means that the message is due
// already, InvalidArgument that the result names none that was delayed. A broker
// that takes nothing back, or whose operator does not allow it, refuses with
// [Unsupported]. Copies that a send may have stored besides, see its MaybeDone,
// are delivered all the same.
func (p *Producer) Recall(ctx context.Context, r SendResult) error {
	op := "recall a message of " + r.Topic
	if err := p.open([]*Outgoing{{Topic: r.Topic}}); err != nil {
		return asError(op, err)
	}
	conn, err := p.client.Conn(ctx)
	if err != nil {
		return asError(op, err)
	}
	recaller := conn.Extensions().Recall
	switch {
	case recaller == nil:
		return errorf(Unsupported, op, "broker %q takes no message back", conn.Capabilities().System)
	case r.Recall == "":
		return errorf(InvalidArgument, op, "the result of message %q has no handle; only a delayed message that was stored can be recalled", r.ID)
	}
	return p.client.Retry(ctx, op, func(ctx context.Context) error {
		return recaller.Recall(ctx, r.Topic, r.Recall)
	}, RetryMaybeDone(true))
}
