package tx

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk/config"
)

// Defaults.
const (
	defaultParallel     = 4
	defaultCheckTimeout = 10 * time.Second
	defaultEndTimeout   = 5 * time.Second
)

// Option configures a [Sender].
type Option func(*options)

type options struct {
	topic, group, typeName   string
	local                    Local
	checker                  any // CheckFunc[T]
	parallel                 int
	checkTimeout, endTimeout time.Duration
	interrupt                func(ctx context.Context, at Step, id string) error
}

// Topic is where the messages appear; it may hold ${placeholders}. Required.
func Topic(name string) Option { return func(o *options) { o.topic = name } }

// Group is the producer group: its living members answer the check-backs of
// those that died. It may hold ${placeholders}. Required.
func Group(name string) Option { return func(o *options) { o.group = name } }

// TypeName is the name under which check-backs find their checker, in this
// process and in others, also after an upgrade. Defaults to the Go type with its
// package, such as "billing.BillSettled"; set it before you rename the type.
func TypeName(name string) Option { return func(o *options) { o.typeName = name } }

// WithLocal sets what runs the local transactions. Defaults to Params.Local.
func WithLocal(l Local) Option { return func(o *options) { o.local = l } }

// Checker answers check-backs instead of [Local.Decide]. f must leave something
// behind that keeps a slow local transaction from committing once it has
// answered Rollback; a mere "not found" is not enough. Under fx, a checker with
// dependencies is provided to the graph as a [CheckFunc].
func Checker[T any](f CheckFunc[T]) Option { return func(o *options) { o.checker = f } }

// CheckParallel bounds how many check-backs of the group are answered at a time;
// of several senders of a group the largest counts. Defaults to 4.
func CheckParallel(n int) Option { return func(o *options) { o.parallel = n } }

// CheckTimeout ends the context of one check-back. A checker that ignores its
// context occupies one of [CheckParallel]. Defaults to 10s.
func CheckTimeout(d time.Duration) Option { return func(o *options) { o.checkTimeout = d } }

// EndTimeout bounds telling the broker the end of a transaction, all tries
// included; the context of the caller does not. Defaults to 5s.
func EndTimeout(d time.Duration) Option { return func(o *options) { o.endTimeout = d } }

// Step is a place between the steps of a Send.
type Step uint8

const (
	// AfterPrepare: the half message is stored, the local transaction not begun.
	AfterPrepare Step = iota + 1
	// AfterLocal: the local transaction has ended, the broker does not know.
	AfterLocal
)

// String returns "after prepare" or "after local".
func (s Step) String() string {
	switch s {
	case AfterPrepare:
		return "after prepare"
	case AfterLocal:
		return "after local"
	default:
		return "unknown step"
	}
}

// Interrupt is a testing aid, not for production. f is called between the steps
// of every Send; when it returns an error, such as [ErrAbandon], Send does
// nothing more and returns it with [Unknown]: it leaves behind what a process
// leaves that dies at this place, and the half message to its check-back.
func Interrupt(f func(ctx context.Context, at Step, id string) error) Option {
	return func(o *options) { o.interrupt = f }
}

// resolve applies defaults and placeholders and reports all problems together.
func (o *options) resolve(t reflect.Type, c *config.Config) error {
	var errs []error
	expand := func(what string, s *string, valid func(string) error) {
		if *s == "" {
			errs = append(errs, fmt.Errorf("no %s; add tx.%s(…)", what, map[string]string{"topic": "Topic", "group": "Group"}[what]))
			return
		}
		v, err := c.Expand(*s)
		if err == nil {
			err = valid(v)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", what, *s, err))
			return
		}
		*s = v
	}
	expand("topic", &o.topic, driver.ValidTopic)
	expand("group", &o.group, driver.ValidGroup)
	if o.typeName == "" {
		o.typeName = t.String()
	}
	if err := driver.ValidProperty(HeaderType, o.typeName); err != nil {
		errs = append(errs, fmt.Errorf("type name %q: %w", o.typeName, err))
	}
	if o.local == nil {
		errs = append(errs, errors.New("nothing runs its local transactions; add marker.Module to the fx options, or set Params.Local or tx.WithLocal"))
	}
	o.parallel = orDefault(o.parallel, defaultParallel)
	o.checkTimeout = orDefault(o.checkTimeout, defaultCheckTimeout)
	o.endTimeout = orDefault(o.endTimeout, defaultEndTimeout)
	if o.parallel < 1 {
		errs = append(errs, fmt.Errorf("check parallelism %d; it takes 1 or more", o.parallel))
	}
	if o.checkTimeout < 0 || o.endTimeout < 0 {
		errs = append(errs, fmt.Errorf("check timeout %v, end timeout %v; both must be longer than 0", o.checkTimeout, o.endTimeout))
	}
	return errors.Join(errs...)
}

func orDefault[N int | time.Duration](v, def N) N {
	if v == 0 {
		return def
	}
	return v
}
