package driver

import "time"

// Message is what a producer hands over; a zero field is "not set".
type Message struct {
	// ID is the unique id, assigned by the producer and stable over send
	// retries, redeliveries and retry lanes. A driver assigns one if empty.
	ID string
	// Topic matches [ValidTopic].
	Topic string
	// Tag is the filter label; it holds no "||".
	Tag string
	// Keys are indexed business keys for [MessageQuery]. They hold no white space.
	Keys []string
	// Properties are the headers of the message. Names and values hold
	// neither \x01 nor \x02 and are not empty.
	Properties map[string]string
	Body       []byte
	// OrderingKey: same key, same lane, same order.
	OrderingKey string
	// Queue selects a queue of the topic when QueueSet, and overrides
	// OrderingKey then. A queue that the topic does not have is InvalidArgument.
	Queue    int
	QueueSet bool
	// DeliverAt in the past or zero means now.
	DeliverAt time.Time
	// BornAt is when the producer made the message; zero: now.
	BornAt time.Time
}

// SendRequest is one call of [Conn.Send].
type SendRequest struct {
	Messages []*Message
	// NoAck asks for one-way sending: results carry [Unconfirmed] at best.
	NoAck bool
}

// SendResult answers one message of a [SendRequest].
type SendResult struct {
	// ID is the unique id of the message, also when Err is set.
	ID string
	// OffsetID names the stored copy.
	OffsetID string
	// Lane and Queue name where it was stored; a delayed message has the
	// queue it will go to.
	Lane  string
	Queue int
	// Offset is the queue offset; -1 while a delayed message is not due.
	Offset int64
	// Recall is the handle of a delayed message for [Recaller], opaque; empty
	// where the broker gives none.
	Recall string
	Status SendStatus
	// MaybeDone: another broker has a copy besides, or may have, because the
	// driver was set to try a second one.
	MaybeDone bool
	// Err is nil or unwraps to [*Error]; then Status is [NotStored].
	Err error
}

// SendStatus tells how safe a message is that was accepted.
type SendStatus uint8

const (
	// NotStored: see the error; with MaybeDone it may be stored all the same.
	NotStored SendStatus = iota
	// Stored as durably as the broker promises.
	Stored
	// StoredUnflushed: stored, but the flush was not confirmed in time.
	StoredUnflushed
	// StoredUnreplicated: stored here, but no replica confirmed in time.
	StoredUnreplicated
	// StoredNoReplica: stored here, and no replica is there, or none that keeps up.
	StoredNoReplica
	// Unconfirmed: handed over without an answer (one-way).
	Unconfirmed
)

// String returns the name used in logs and spans.
func (s SendStatus) String() string {
	switch s {
	case Stored:
		return "stored"
	case StoredUnflushed:
		return "stored_unflushed"
	case StoredUnreplicated:
		return "stored_unreplicated"
	case StoredNoReplica:
		return "stored_no_replica"
	case Unconfirmed:
		return "unconfirmed"
	default:
		return "not_stored"
	}
}

// Delivery is one message on its way to a handler.
type Delivery struct {
	// Message as sent. Topic is the topic it was first sent to, also when it
	// comes through a retry lane. The receiver must not change it.
	Message
	// OffsetID names the stored copy; a retry is another copy.
	OffsetID string
	// Offset is the queue offset on the lane it came by.
	Offset int64
	// Attempt is 1 on the first delivery and grows with every failed attempt.
	Attempt int
	// StoredAt is the time of the broker.
	StoredAt time.Time
	// Token is the driver's own.
	Token any
}

// Outcome is how a delivery ends.
type Outcome uint8

const (
	// Ack: done.
	Ack Outcome = iota + 1
	// Retry: again after Delay, one attempt spent.
	Retry
	// DeadLetter: moved to the dead letters of the group.
	DeadLetter
	// Return: again after Delay, no attempt spent (shutdown, rebalance, busy
	// elsewhere). On an ordered lane the lane waits with it.
	Return
)

// String returns the name used for settle operations on spans.
func (o Outcome) String() string {
	switch o {
	case Ack:
		return "ack"
	case Retry:
		return "retry"
	case DeadLetter:
		return "dead_letter"
	case Return:
		return "return"
	default:
		return "unknown"
	}
}

// Settlement ends one delivery.
type Settlement struct {
	Delivery *Delivery
	Outcome  Outcome
	// Delay applies to Retry and Return.
	Delay time.Duration
	// Properties are added to the copy that Retry or DeadLetter stores; see the
	// Dead… names in this package.
	Properties map[string]string
}

// Names of the properties that a dead letter carries besides those of the
// message itself. The driver sets the origin, the framework the rest.
const (
	DeadTopic    = "DEAD_TOPIC"    // topic the message was sent to
	DeadQueue    = "DEAD_QUEUE"    // queue it came by, decimal
	DeadOffset   = "DEAD_OFFSET"   // queue offset it came by, decimal
	DeadGroup    = "DEAD_GROUP"    // consumer group that gave it up
	DeadAt       = "DEAD_AT"       // when, RFC 3339 with milliseconds, UTC
	DeadFirstAt  = "DEAD_FIRST_AT" // when it was first stored, same form
	DeadAttempts = "DEAD_ATTEMPTS" // failed attempts, decimal
	DeadReason   = "DEAD_REASON"   // rejected, exhausted, undecodable …
	DeadError    = "DEAD_ERROR"    // text of the last error
	DeadStack    = "DEAD_STACK"    // stack of a panic, shortened
)

// DeadLetterTopic is the topic that holds the dead letters of a group.
func DeadLetterTopic(group string) string { return "%DLQ%" + group }

// RetryTopic is the topic that holds the redeliveries of a group where the
// broker keeps them in a topic.
func RetryTopic(group string) string { return "%RETRY%" + group }
