package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
)

// NotFoundError says that something is not there.
type NotFoundError struct {
	// What is not there, such as "topic orders".
	What string
	// Topic or Group is its name, if it is one of those.
	Topic, Group string
}

// Error names it.
func (e *NotFoundError) Error() string { return e.What + " is not known" }

// NoQueueError says that a topic, which is there, has no queue of the kind that
// was asked for.
type NoQueueError struct {
	Topic string
	// Broker is the one that was asked for, if Brokers, those that have the
	// topic, are without it.
	Broker  string
	Brokers []string
	// Reason says what is wrong otherwise, with what there is.
	Reason string
}

// Error says what the topic has instead.
func (e *NoQueueError) Error() string {
	if e.Broker != "" {
		return fmt.Sprintf("topic %s is not on broker %s, it is on %s", e.Topic, e.Broker, strings.Join(e.Brokers, ", "))
	}
	return "topic " + e.Topic + " " + e.Reason
}

// RefusedError is an answer that is no success.
type RefusedError struct {
	// Op is what was asked, Addr who has refused it.
	Op, Addr string
	// Code is a response code of the protocol, Remark the text with it. A code
	// of success is of a broker that has done something else than was asked.
	Code   int
	Remark string
}

// Error says what was asked, and what was answered.
func (e *RefusedError) Error() string {
	remark := e.Remark
	if remark == "" {
		remark = "refused"
	}
	s := fmt.Sprintf("%s at %s: %s", e.Op, e.Addr, remark)
	if e.Code != remoting.ResSuccess {
		s += fmt.Sprintf(" (code %d)", e.Code)
	}
	return s
}

// UnreadableError says at which message a queue cannot be read on, mostly because
// what the broker has stored is damaged there.
type UnreadableError struct {
	// Broker and Queue name the queue, Offset the message; Behind is set if it is
	// one from there on, because a filter has passed over an unknown number.
	Broker string
	Queue  int
	Offset int64
	Behind bool
	// Err is the refusal of the broker.
	Err error
}

// Error says where.
func (e *UnreadableError) Error() string {
	from := ""
	if e.Behind {
		from = " or behind it"
	}
	return fmt.Sprintf("the message at offset %d%s of queue %d on broker %s cannot be read: %v", e.Offset, from, e.Queue, e.Broker, e.Err)
}

// Unwrap answers the refusal.
func (e *UnreadableError) Unwrap() error { return e.Err }

// UnreachableError says that nobody answered.
type UnreachableError struct {
	// Op is what was asked, Addr whom.
	Op, Addr string
	// MaybeDone: it would have changed something, and perhaps has.
	MaybeDone bool
	Err       error
}

// Error says who did not answer, and why.
func (e *UnreachableError) Error() string {
	s := fmt.Sprintf("%s at %s: %v", e.Op, e.Addr, e.Err)
	if e.MaybeDone {
		s += "; it may have been done all the same"
	}
	return s
}

// Unwrap answers the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// MaybeDone reports whether err is, or joins, an [*UnreachableError] of something
// that was perhaps done.
func MaybeDone(err error) bool {
	e, ok := errors.AsType[*UnreachableError](err)
	return ok && e.MaybeDone
}

// MalformedError says that an answer could not be read.
type MalformedError struct {
	// Op is what was asked, Addr whom.
	Op, Addr string
	Err      error
}

// Error says whose answer it was.
func (e *MalformedError) Error() string {
	return fmt.Sprintf("%s: the answer of %s cannot be read: %v", e.Op, e.Addr, e.Err)
}

// Unwrap answers the cause.
func (e *MalformedError) Unwrap() error { return e.Err }

func refused(op, addr string, resp *remoting.Command) error {
	return &RefusedError{Op: op, Addr: addr, Code: resp.Code, Remark: resp.Remark}
}
