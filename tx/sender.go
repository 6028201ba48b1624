package tx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// HeaderType is the header that names the type of a half message; check-backs
// are dispatched by it.
const HeaderType = "SLUICE_TX_TYPE"

// Params are what [NewSender] needs; fx fills them in, and without fx they are
// written as a literal.
type Params struct {
	fx.In

	// Client of the broker. Required.
	Client *sdk.Client
	// Config resolves placeholders. Defaults to no settings.
	Config *config.Config `optional:"true"`
	// Local runs the local transactions, unless [WithLocal] gives another.
	Local Local `optional:"true"`
}

// Sender sends half messages with the payload T. It is safe for concurrent use.
// Under fx it comes from [Provide]; without fx its check-backs are answered by
// [NewChecks].
type Sender[T any] struct {
	client *sdk.Client
	opts   options
	check  CheckFunc[T] // nil: Local.Decide
	sends  *gate
}

// NewSender makes a sender and checks its options; all problems are reported
// together. It touches neither the broker nor the database.
func NewSender[T any](p Params, opts ...Option) (*Sender[T], error) {
	t := reflect.TypeFor[T]()
	fail := func(err error) (*Sender[T], error) { return nil, fmt.Errorf("sender of %s: %w", t, err) }
	if p.Client == nil {
		return fail(errors.New("no client; set Params.Client"))
	}
	if p.Config == nil {
		var err error
		if p.Config, err = config.New(); err != nil {
			return fail(err)
		}
	}
	s := &Sender[T]{client: p.Client, opts: options{local: p.Local}, sends: newGate()}
	for _, o := range opts {
		o(&s.opts)
	}
	err := s.opts.resolve(t, p.Config)
	if s.opts.checker != nil {
		var fits bool
		if s.check, fits = s.opts.checker.(CheckFunc[T]); !fits {
			err = errors.Join(err, fmt.Errorf("its checker is a %T; it takes a func(context.Context, *tx.Half[%s]) (tx.Decision, error)", s.opts.checker, t))
		}
	}
	if err != nil {
		return fail(err)
	}
	return s, nil
}

// Send stores a half message for payload, runs local in a database transaction
// and tells the broker how that ended.
//
// A nil error means that the local transaction committed, and that the message
// is visible ([Committed]) or will be ([CommittedBrokerPending]). Otherwise the
// error is that of the half message, of local, a [*PanicError], or says why the
// outcome is [Unknown]. When the half message cannot be stored, local is not
// run. ctx bounds the half message and the local transaction; what follows the
// local commit has the time of [EndTimeout], also when ctx has ended.
//
// A repetition after [RolledBack] takes a new id: with the same one, the marker
// of the first try may stand against it.
func (s *Sender[T]) Send(ctx context.Context, payload T, local func(ctx context.Context, t *sql.Tx) error, opts ...sdk.MessageOption) (Result, error) {
	m := sdk.NewMessage(s.opts.topic, payload, opts...)
	m.Topic = s.opts.topic
	if m.ID == "" {
		m.ID = sdk.NewID()
	}
	headers := make(map[string]string, len(m.Headers)+4)
	maps.Copy(headers, m.Headers)
	headers[HeaderType] = s.opts.typeName
	m.Headers = headers
	t := transaction{client: s.client, opts: &s.opts, m: &m}

	nothing := Result{ID: m.ID, Outcome: RolledBack}
	switch {
	case local == nil:
		return nothing, t.errorf(sdk.InvalidArgument, "no local transaction; it takes a function")
	case m.Delay != 0 || !m.DeliverAt.IsZero():
		return nothing, t.errorf(sdk.InvalidArgument, "a half message cannot be delayed: it becomes visible when its transaction commits")
	case !s.sends.enter():
		return nothing, &sdk.Error{Code: sdk.Closed, Op: t.op(), Err: ErrStopped}
	}
	defer s.sends.leave()
	ctx, err := t.prepare(ctx)
	if err != nil {
		return nothing, fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	if err := t.step(ctx, AfterPrepare); err != nil {
		return Result{ID: m.ID}, err
	}
	d, err := t.local(ctx, local)
	if stop := t.step(ctx, AfterLocal); stop != nil {
		return Result{ID: m.ID}, stop
	}
	return t.end(ctx, d, err)
}

// transaction is one Send after its arguments were checked.
type transaction struct {
	client *sdk.Client
	opts   *options
	m      *sdk.Outgoing
	tr     driver.Transactor
	half   driver.Half
}

func (t *transaction) op() string { return "transaction " + t.m.ID + " to " + t.m.Topic }

func (t *transaction) errorf(code sdk.Code, text string) error {
	return &sdk.Error{Code: code, Op: t.op(), Err: errors.New(text)}
}

func (t *transaction) span(ctx context.Context, op sdk.TxOp) (context.Context, func(error)) {
	return t.client.Tracing().StartTx(ctx, op, sdk.TxSpan{ID: t.m.ID, Topic: t.m.Topic, Group: t.opts.group, Headers: t.m.Headers})
}

// prepare stores the half message. Its id is the same in every try, so the
// broker knows a repetition. The context that it returns belongs to its span,
// so that what follows is in one trace with it even if the caller has none.
func (t *transaction) prepare(ctx context.Context) (prepared context.Context, err error) {
	ctx, end := t.span(ctx, sdk.TxPrepare)
	defer func() { end(err) }()
	if t.tr, err = transactor(ctx, t.client); err != nil {
		return ctx, err
	}
	wire, err := t.client.Encode(ctx, t.m)
	if err != nil {
		return ctx, err
	}
	return ctx, t.client.Retry(ctx, "prepare "+t.op(), func(ctx context.Context) (err error) {
		t.half, err = t.tr.Prepare(ctx, t.opts.group, wire)
		return err
	}, sdk.RetryMaybeDone(true))
}

// errNoTransactor stands for a broker without half messages.
var errNoTransactor = errors.New("the broker stores no half messages")

func transactor(ctx context.Context, c *sdk.Client) (driver.Transactor, error) {
	conn, err := c.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tr := conn.Extensions().Tx
	if tr == nil {
		return nil, &sdk.Error{
			Code: sdk.Unsupported, Op: "transactions on broker " + conn.Capabilities().System,
			Err: fmt.Errorf("%w; use the bundled broker or RocketMQ for them", errNoTransactor),
		}
	}
	return tr, nil
}

func (t *transaction) step(ctx context.Context, at Step) error {
	if t.opts.interrupt == nil {
		return nil
	}
	if err := t.opts.interrupt(ctx, at, t.m.ID); err != nil {
		return fmt.Errorf("%s: interrupted %s: %w", t.op(), at, err)
	}
	return nil
}

// local runs the user's function. A panic of the function is an error to the
// Local, which rolls back; a panic of the Local itself leaves the outcome open.
func (t *transaction) local(ctx context.Context, f func(context.Context, *sql.Tx) error) (d Decision, err error) {
	ctx, end := t.span(ctx, sdk.TxLocal)
	defer func() {
		if v := recover(); v != nil {
			d, err = Undecided, &PanicError{Value: v, Stack: debug.Stack()}
		}
		end(err)
	}()
	return t.opts.local.Run(ctx, t.m.ID, func(ctx context.Context, sqlTx *sql.Tx) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		return f(ctx, sqlTx)
	})
}

// end tells the broker and makes the answer of Send.
func (t *transaction) end(ctx context.Context, d Decision, localErr error) (Result, error) {
	r := Result{ID: t.m.ID}
	if localErr != nil {
		localErr = fmt.Errorf("%s: %w", t.op(), localErr)
	}
	switch d {
	case Commit:
		r.EndErr = t.resolve(ctx, Commit)
		switch code := sdk.CodeOf(r.EndErr); {
		case r.EndErr == nil:
			r.Outcome = Committed
		case code == sdk.FailedPrecondition || code == sdk.NotFound:
			r.Outcome = Conflicted
			return r, errors.Join(localErr, fmt.Errorf("%s: it committed locally: %w: %w", t.op(), ErrConflict, r.EndErr))
		default:
			r.Outcome = CommittedBrokerPending
		}
		return r, localErr
	case Rollback:
		if localErr == nil {
			localErr = t.errorf(sdk.Internal, "rolled back without a reason")
		}
		r.EndErr = t.resolve(ctx, Rollback)
		if sdk.CodeOf(r.EndErr) == sdk.FailedPrecondition {
			r.Outcome = Conflicted
			return r, errors.Join(localErr, fmt.Errorf("%s: it rolled back locally: %w: %w", t.op(), ErrConflict, r.EndErr))
		}
		r.Outcome = RolledBack
		return r, localErr
	default:
		if localErr == nil {
			localErr = t.errorf(sdk.Unknown, "its local outcome is not known; a check-back decides")
		}
		return r, localErr
	}
}

// resolve has its own budget: the local transaction has ended, and whoever
// waits for it giving up changes nothing about that.
func (t *transaction) resolve(ctx context.Context, d Decision) (err error) {
	ctx = context.WithoutCancel(ctx)
	op := sdk.TxCommit
	if d == Rollback {
		op = sdk.TxRollback
	}
	ctx, end := t.span(ctx, op)
	defer func() { end(err) }()
	return t.client.Retry(ctx, d.String()+" "+t.op(), func(ctx context.Context) error {
		return t.tr.Resolve(ctx, t.half, d)
	}, sdk.RetryTimeout(t.opts.endTimeout), sdk.RetryAttempts(0), sdk.RetryMaybeDone(true))
}
