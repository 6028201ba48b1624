package listener_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bill is the payload of most tests.
type bill struct {
	ID string `json:"id"`
}

// bundle is a container on a fake broker.
type bundle struct {
	t      testing.TB
	broker *fakeBroker
	client *sdk.Client
	c      *listener.Container
	logs   *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type bundleOptions struct {
	broker       *fakeBroker
	settings     map[string]string
	gates        []listener.GateSpec
	interceptors []sdk.Interceptor
}

// build makes a container that has not started.
func build(t testing.TB, o bundleOptions, regs ...listener.Registration) *bundle {
	t.Helper()
	b, err := tryBuild(t, o, regs...)
	if err != nil {
		t.Fatalf("NewContainer: %v", err)
	}
	return b
}

func tryBuild(t testing.TB, o bundleOptions, regs ...listener.Registration) (*bundle, error) {
	t.Helper()
	b := &bundle{t: t, broker: o.broker, logs: &logBuffer{}}
	if b.broker == nil {
		b.broker = newFake()
	}
	log := slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg, err := config.New(config.FromMap(o.settings))
	if err != nil {
		t.Fatal(err)
	}
	b.client, err = sdk.NewClient(sdk.ClientParams{
		Config: cfg, Drivers: []driver.Driver{b.broker}, Logger: log, Interceptors: o.interceptors,
	})
	if err != nil {
		t.Fatalf("NewClient: %v", err)
	}
	b.c, err = listener.NewContainer(listener.ContainerParams{
		Client: b.client, Config: cfg, Registrations: regs, Gates: o.gates, Logger: log,
	})
	return b, err
}

// start makes a container that runs until the test ends.
func start(t testing.TB, o bundleOptions, regs ...listener.Registration) *bundle {
	t.Helper()
	b := build(t, o, regs...)
	if err := b.c.Start(t.Context()); err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *bundle) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := b.c.Stop(ctx); err != nil {
		b.t.Errorf("Stop: %v", err)
	}
	if err := b.client.Close(ctx); err != nil {
		b.t.Errorf("Close: %v", err)
	}
}

func (b *bundle) send(topic string, ids ...string) {
	for _, id := range ids {
		b.broker.put(topic, 0, driver.Message{ID: id, Body: []byte(`{"id":"` + id + `"}`)})
	}
}

// on makes a function listener on topic t and group g.
func on(t testing.TB, f func(ctx context.Context, m *sdk.Message[bill]) error, opts ...listener.Option) listener.Registration {
	t.Helper()
	opts = append([]listener.Option{listener.Name("l"), listener.Topic("t"), listener.Group("g")}, opts...)
	r, err := listener.Register(listener.Func[bill](f), opts...)
	if err != nil {
		t.Fatalf("Register: %v", err)
	}
	return r
}

// record collects what handlers saw.
type record struct {
	mu    sync.Mutex
	begin time.Time
	lines []string
}

func newRecord() *record { return &record{begin: time.Now()} }

// add notes a line with the time since the beginning in front.
func (r *record) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, time.Since(r.begin).String()+" "+line)
}

func (r *record) get() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}
