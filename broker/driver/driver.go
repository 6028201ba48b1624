package driver

import (
	"context"
	"log/slog"
)

// Group is the name of the fx value group in which broker modules hand over
// their [Driver]; it is a constant here so that a broker need not import sdk.
const Group = "sluice.drivers"

// Driver opens connections to one kind of broker.
type Driver interface {
	// Scheme names the driver in the setting sluice.broker, such as
	// "embedded" or "rocketmq". It is lower case and constant.
	Scheme() string
	// Open connects one client identity. It honours the deadline of ctx and
	// keeps nothing of ctx afterwards.
	Open(ctx context.Context, cfg Config) (Conn, error)
}

// Config is what the framework tells a driver about the client it opens for.
type Config struct {
	// URL is the setting sluice.broker as written, its scheme included.
	// Empty when the application holds a single driver and set nothing.
	URL string
	// ClientID identifies this client among the members of its groups.
	// The framework makes one that is unique per process and Conn.
	ClientID string
	// Logger receives lifecycle and degradation events. Never nil when the
	// framework opens the Conn; a driver treats nil as [slog.DiscardHandler].
	Logger *slog.Logger
}

// Conn is one client identity on one broker. Every method is safe for
// concurrent use, never retries, and returns errors that unwrap to [*Error].
type Conn interface {
	// Capabilities is constant for the life of the Conn.
	Capabilities() Capabilities
	// Send stores req.Messages in slice order and answers one result for each,
	// in the same order. Messages of one call that go to the same lane keep
	// their order. The slice and its messages are not kept after the return,
	// and they are not changed. When ctx ends first, the results of messages
	// without an answer carry a [Timeout] error whose MaybeDone is truthful.
	Send(ctx context.Context, req SendRequest) []SendResult
	// Subscribe joins a group. It returns once membership is requested, not
	// once lanes are assigned; lanes arrive through ev until the Subscription
	// is closed. A spec that differs from the one that living members of the
	// group use for the topic is refused with [FailedPrecondition], and the
	// error names both.
	Subscribe(ctx context.Context, s SubscribeSpec, ev LaneEvents) (Subscription, error)
	// Extensions lists the optional parts; a nil field is unsupported.
	Extensions() Extensions
	// Health reports whether the broker would accept a request now.
	Health(ctx context.Context) error
	// Close ends every subscription and unblocks every pending call with
	// [Closed]. It may be called at any time, from any goroutine, more than
	// once; afterwards no goroutine, timer, file or connection is left.
	Close(ctx context.Context) error
}

// Extensions are data, not type assertions, so that a wrapper cannot lose one.
type Extensions struct {
	Tx     Transactor
	Topics TopicAdmin
	Groups GroupAdmin
	Query  MessageQuery
	// Requests are messages that are answered.
	Requests Requester
	// Recall takes delayed messages back.
	Recall Recaller
}

// LaneEvents is implemented by the framework and called by the driver. Calls
// for one lane never overlap.
type LaneEvents interface {
	// Assigned hands l to this member. It must not block.
	Assigned(l Lane)
	// Revoked returns once work on l is settled or ctx has ended; the driver
	// gives the lane away afterwards, not before. No Fetch of l answers a
	// delivery after Revoked has returned.
	Revoked(ctx context.Context, l Lane)
	// Lost says that the lane is already someone else's: its deliveries can no
	// longer be settled and come again elsewhere. It must not block.
	Lost(l Lane)
}

// Subscription is the membership of a group for one topic.
type Subscription interface {
	// Close revokes every lane, makes settled positions durable, then leaves
	// the group. When ctx ends first the remaining lanes are lost. It is
	// idempotent.
	Close(ctx context.Context) error
}

// Lane is the unit of order and of flow control. Not calling Fetch pauses it
// and costs no membership.
type Lane interface {
	// Name is unique among the lanes of the group on this Conn and stable over
	// reassignment, such as "bill-settled/3".
	Name() string
	// Info describes the lane; it is constant.
	Info() LaneInfo
	// Fetch waits for up to limit deliveries, until ctx ends or for about one
	// second; none and no error means "try again". It is called by one
	// goroutine per lane at a time. A limit below 1 is InvalidArgument.
	// After the lane was given away or lost it answers [LaneLost]. It may do so
	// as soon as the lane is being revoked, even before Revoked is called; until
	// that has returned, deliveries can be settled all the same. Messages that
	// are gone are never skipped in silence: see [GapError].
	Fetch(ctx context.Context, limit int) ([]*Delivery, error)
	// Settle ends deliveries, in any order. Settling one twice is no error and
	// changes nothing. It is recorded at least locally when it returns and
	// durable no later than the end of the lane; a crash before that delivers
	// again. After the lane was given away it answers [LaneLost].
	Settle(ctx context.Context, s []Settlement) error
	// Extend renews the leases of deliveries that are still being handled; it
	// does nothing where the broker has no lease.
	Extend(ctx context.Context, ds []*Delivery) error
	// Seek moves the position of the group on this lane. Deliveries that were
	// fetched before may still be settled; they no longer move the position.
	// Positions beyond the ends are clamped to the ends.
	Seek(ctx context.Context, p Position) error
}

// Transactor is half messages with check-back; what of it holds for all clients
// of a broker is told by [Capabilities].DecidesOnce. A half message is stored but
// invisible until its transaction commits.
type Transactor interface {
	// Prepare stores m as a half message of the producer group. A second
	// Prepare with the same group and Message.ID answers the first half again.
	Prepare(ctx context.Context, group string, m *Message) (Half, error)
	// Resolve decides h. Repeating the same decision is no error and has no
	// effect; the opposite of an earlier decision is [FailedPrecondition] and
	// changes nothing. [Undecided] is InvalidArgument. The answer comes when
	// the decision is as durable as a sent message.
	Resolve(ctx context.Context, h Half, d Decision) error
	// Checks makes this Conn a member of the producer group that answers
	// check-backs: f is called for every half message that stays undecided, by
	// up to parallel goroutines, until ctx ends; then Checks returns nil.
	// An answer of Undecided means "ask again later".
	Checks(ctx context.Context, group string, parallel int, f CheckFunc) error
	// Parked lists half messages that stayed undecided after the last check.
	// They wait for a decision by Resolve and are never dropped.
	Parked(ctx context.Context, limit int) ([]ParkedHalf, error)
}

// CheckFunc answers one check-back; check counts from 1.
type CheckFunc func(ctx context.Context, h Half, d *Delivery, check int) Decision

// TopicAdmin manages topics.
type TopicAdmin interface {
	// CreateTopic makes a topic durable; an existing topic with the same
	// number of queues is [AlreadyExists].
	CreateTopic(ctx context.Context, t TopicInfo) error
	// DeleteTopic removes a topic; an unknown one is [NotFound].
	DeleteTopic(ctx context.Context, name string) error
	// Topics lists the topics in the order of their names, internal ones
	// (retry, dead letter) included.
	Topics(ctx context.Context) ([]TopicInfo, error)
}

// GroupAdmin looks after consumer groups.
type GroupAdmin interface {
	// Groups lists the groups in the order of their names.
	Groups(ctx context.Context) ([]GroupInfo, error)
	// Lag tells, for each lane of the group, what is still to be consumed.
	Lag(ctx context.Context, group string) ([]LaneLag, error)
	// ResetOffsets moves the group on every lane of topic.
	ResetOffsets(ctx context.Context, group, topic string, p Position) error
}

// MessageQuery finds stored messages.
type MessageQuery interface {
	// ByID finds a message by its unique id or its offset id; [NotFound] if
	// there is none.
	ByID(ctx context.Context, topic, id string) (*Delivery, error)
	// ByKey finds messages by a business key, oldest first.
	ByKey(ctx context.Context, topic, key string, r TimeRange, limit int) ([]*Delivery, error)
	// Browse reads a lane of a topic without a group, from offset on.
	Browse(ctx context.Context, topic string, queue int, offset int64, limit int) ([]*Delivery, error)
}

// Recaller takes delayed messages back before they are due.
type Recaller interface {
	// Recall makes the message of topic that a [SendResult] names by its Recall
	// one that is never delivered. Repeating it is no error. It is
	// [FailedPrecondition] once the message is due, InvalidArgument for what is no
	// handle of this kind of broker or of another topic, and [Unsupported] where
	// the operator of the broker does not allow it.
	Recall(ctx context.Context, topic, handle string) error
}

// Requester sends requests and answers them. A request is a message like any
// other for those who consume it, with properties that say where its reply goes;
// a reply is no message of a topic: it goes to the client that waits for it.
type Requester interface {
	// Request stores m and waits for the first reply until ctx ends, which must
	// have a deadline. The reply has the topic of the request and the body and
	// properties of who answered; what comes later is dropped. An error with
	// MaybeDone says that the request may have been stored, and then somebody may
	// act on it. A request cannot be delayed.
	Request(ctx context.Context, m *Message) (*Message, error)
	// Reply answers a delivery of this kind of broker with the body, the tag, the
	// keys and the properties of m, which names no topic, queue, ordering key or
	// time. It returns when the requester's client has taken the reply, also if
	// nobody waits for it any more. A requester that is gone is [NotFound], a
	// delivery that is no request is InvalidArgument. It settles nothing.
	Reply(ctx context.Context, request *Delivery, m *Message) error
}
