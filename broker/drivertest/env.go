package drivertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// env is what one test works with: a broker of its own and helpers that fail
// the test. Helpers that may fail it run on the goroutine of the test.
type env struct {
	testing.TB
	h    Harness
	lim  Limits
	b    Broker
	main driver.Conn
	caps driver.Capabilities
	ext  driver.Extensions

	mu       sync.Mutex
	conns    []driver.Conn
	members  []*member
	checkers []*checker
	names    int
}

func newEnv(tb testing.TB, h Harness) *env { return &env{TB: tb, h: h, lim: h.Limits} }

// ctx bounds one call that has to succeed.
func (e *env) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.Context()), e.lim.Within)
	e.Cleanup(cancel)
	return ctx
}

// connect opens one more client.
func (e *env) connect(clientID string) driver.Conn {
	e.Helper()
	c, err := e.b.Connect(e.ctx(), e.its(clientID))
	if err != nil {
		e.Fatalf("connect client %q: %v", clientID, err)
	}
	e.mu.Lock()
	e.conns = append(e.conns, c)
	e.mu.Unlock()
	return c
}

// closeClients closes members, then clients. Errors count only where the
// broker behind them is alive.
func (e *env) closeClients(alive bool) {
	e.mu.Lock()
	members, conns, checkers := e.members, e.conns, e.checkers
	e.members, e.conns, e.checkers = nil, nil, nil
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), e.lim.Within)
	defer cancel()
	for _, k := range checkers {
		if err := k.end(); err != nil && alive {
			e.Errorf("Checks answered %v after its ctx has ended, want nil", err)
		}
	}
	for _, m := range members {
		if err := m.leave(ctx); err != nil && alive && driver.CodeOf(err) != driver.Closed {
			e.Errorf("close the subscription of %s: %v", m.id, err)
		}
	}
	for _, c := range slices.Backward(conns) {
		if err := c.Close(ctx); err != nil && alive {
			e.Errorf("close a client: %v", err)
		}
	}
	for _, m := range members {
		m.stop()
	}
}

// finish ends everything that the test opened.
func (e *env) finish() {
	e.closeClients(true)
	if e.b.Close == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.lim.Within)
	defer cancel()
	if err := e.b.Close(ctx); err != nil {
		e.Errorf("close the broker: %v", err)
	}
}

// crash kills the broker, reopens it and connects the main client again.
func (e *env) crash() {
	e.Helper()
	e.b.CrashAndReopen(e.TB)
	e.closeClients(false)
	e.main = e.connect("main")
	e.ext = e.main.Extensions()
}

// reopen is a clean stop and start.
func (e *env) reopen() {
	e.Helper()
	e.closeClients(true)
	e.b.Reopen(e.TB)
	e.main = e.connect("main")
	e.ext = e.main.Extensions()
}

// its makes a name one of this test, for brokers that other tests use, too.
func (e *env) its(name string) string { return e.b.Space + name }

// name makes a fresh name of a topic or group.
func (e *env) name(what string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names++
	return e.its(fmt.Sprintf("%s-%d", what, e.names))
}

// topic makes a topic with that many queues.
func (e *env) topic(queues int) string {
	e.Helper()
	name := e.name("topic")
	create := e.b.CreateTopic
	if create == nil && e.ext.Topics != nil {
		create = func(ctx context.Context, name string, queues int) error {
			return e.ext.Topics.CreateTopic(ctx, driver.TopicInfo{Name: name, Queues: queues})
		}
	}
	if create != nil {
		if err := create(e.ctx(), name, queues); err != nil {
			e.Fatalf("create topic %s with %d queues: %v", name, queues, err)
		}
	}
	return name
}

// message makes message i of topic.
func message(topic string, i int) *driver.Message {
	return &driver.Message{Topic: topic, Body: fmt.Appendf(nil, "m%d", i)}
}

// messages makes n of them.
func messages(topic string, n int) []*driver.Message {
	out := make([]*driver.Message, n)
	for i := range out {
		out[i] = message(topic, i)
	}
	return out
}

// send stores ms and requires that every one was stored.
func (e *env) send(ms ...*driver.Message) []driver.SendResult {
	e.Helper()
	rs := e.main.Send(e.ctx(), driver.SendRequest{Messages: ms})
	if len(rs) != len(ms) {
		e.Fatalf("send of %d messages: got %d results", len(ms), len(rs))
	}
	for i, r := range rs {
		if r.Err != nil || r.Status != driver.Stored {
			e.Fatalf("send message %d of %d to %q: got status %v, error %v; want stored", i, len(ms), ms[i].Topic, r.Status, r.Err)
		}
	}
	return rs
}

// sendN stores n plain messages, each in a call of its own.
func (e *env) sendN(topic string, n int) []driver.SendResult {
	e.Helper()
	var out []driver.SendResult
	for i := range n {
		out = append(out, e.send(message(topic, i))...)
	}
	return out
}

// sendOne sends one message and returns its result, whatever it is.
func (e *env) sendOne(m *driver.Message) driver.SendResult {
	e.Helper()
	rs := e.main.Send(e.ctx(), driver.SendRequest{Messages: []*driver.Message{m}})
	if len(rs) != 1 {
		e.Fatalf("send of one message: got %d results", len(rs))
	}
	return rs[0]
}

// wantCode requires err to unwrap to *driver.Error with one of the codes.
func (e *env) wantCode(what string, err error, codes ...driver.Code) {
	e.Helper()
	if de, ok := errors.AsType[*driver.Error](err); !ok || !slices.Contains(codes, de.Code) {
		e.Errorf("%s: got error %v (%T, code %v), want code %v", what, err, err, driver.CodeOf(err), codes)
	}
}

// refused requires a result that says InvalidArgument (or the code given) and
// nothing stored.
func (e *env) refused(what string, r driver.SendResult, codes ...driver.Code) {
	e.Helper()
	if len(codes) == 0 {
		codes = []driver.Code{driver.InvalidArgument}
	}
	e.wantCode(what, r.Err, codes...)
	if r.Status != driver.NotStored {
		e.Errorf("%s: got status %v with an error, want not_stored", what, r.Status)
	}
	if de, ok := errors.AsType[*driver.Error](r.Err); ok && (de.MaybeDone || de.Retryable) {
		e.Errorf("%s: a refusal says MaybeDone %v, Retryable %v; want neither", what, de.MaybeDone, de.Retryable)
	}
}

// must fails the test if err is set.
func (e *env) must(what string, err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", what, err)
	}
}

// advance lets d pass.
func (e *env) advance(d time.Duration) { e.h.Advance(d) }

// await polls cond until it holds; it is for conditions that nothing announces.
func (e *env) await(what string, cond func() bool) {
	e.Helper()
	for deadline := time.Now().Add(e.lim.Within); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.Fatalf("waited %v for: %s", e.lim.Within, what)
		}
	}
}

// returns requires done to be closed within d.
func (e *env) returns(what string, done <-chan struct{}, d time.Duration) bool {
	e.Helper()
	select {
	case <-done:
		return true
	case <-time.After(d):
		e.Errorf("%s did not return within %v", what, d)
		return false
	}
}

// sameMessage requires d to carry what was sent.
func (e *env) sameMessage(what string, d *driver.Delivery, sent *driver.Message) {
	e.Helper()
	if string(d.Body) != string(sent.Body) {
		e.Errorf("%s: got body of %d bytes %.60q, want %d bytes %.60q", what, len(d.Body), d.Body, len(sent.Body), sent.Body)
	}
	if d.Topic != sent.Topic || d.Tag != sent.Tag || !slices.Equal(d.Keys, sent.Keys) || d.OrderingKey != sent.OrderingKey {
		e.Errorf("%s: got topic %q tag %q keys %q ordering key %q, want %q %q %q %q", what,
			d.Topic, d.Tag, d.Keys, d.OrderingKey, sent.Topic, sent.Tag, sent.Keys, sent.OrderingKey)
	}
	if !maps.Equal(d.Properties, sent.Properties) {
		e.Errorf("%s: got properties %q, want %q", what, d.Properties, sent.Properties)
	}
	if sent.ID != "" && d.ID != sent.ID {
		e.Errorf("%s: got id %q, want %q", what, d.ID, sent.ID)
	}
}

// config is what a harness may hand to Driver.Open.
func config(clientID string) driver.Config {
	return driver.Config{ClientID: clientID, Logger: slog.New(slog.DiscardHandler)}
}

// Connector adapts a [driver.Driver] to [Broker.Connect].
func Connector(d driver.Driver) func(ctx context.Context, clientID string) (driver.Conn, error) {
	return func(ctx context.Context, clientID string) (driver.Conn, error) { return d.Open(ctx, config(clientID)) }
}
