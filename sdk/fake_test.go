package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeConn stores what it is sent. answer, if set, replaces the answer to the
// n-th call of Send, counted from 1; nil from it means "stored".
type fakeConn struct {
	driver.Conn // the rest is not used by this package

	caps     driver.Capabilities
	answer   func(ctx context.Context, n int, req driver.SendRequest) []driver.SendResult
	health   error
	closeErr error

	mu     sync.Mutex
	calls  int
	sent   []*driver.Message
	noAck  []bool
	closes int
}

func newConn() *fakeConn {
	return &fakeConn{caps: driver.Capabilities{System: "fake", Delay: driver.AnyTime, Queues: true, OneWay: true}}
}

func (c *fakeConn) Capabilities() driver.Capabilities { return c.caps }

func (c *fakeConn) Health(context.Context) error { return c.health }

func (c *fakeConn) Close(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closes++
	return c.closeErr
}

func (c *fakeConn) Send(ctx context.Context, req driver.SendRequest) []driver.SendResult {
	c.mu.Lock()
	c.calls++
	n := c.calls
	c.mu.Unlock()
	if c.answer != nil {
		if r := c.answer(ctx, n, req); r != nil {
			return r
		}
	}
	return c.store(req)
}

func (c *fakeConn) store(req driver.SendRequest) []driver.SendResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []driver.SendResult
	for _, m := range req.Messages {
		c.sent = append(c.sent, m)
		c.noAck = append(c.noAck, req.NoAck)
		status := driver.Stored
		if req.NoAck {
			status = driver.Unconfirmed
		}
		out = append(out, driver.SendResult{
			ID: m.ID, OffsetID: fmt.Sprintf("off-%d", len(c.sent)), Lane: m.Topic + "/0",
			Offset: int64(len(c.sent) - 1), Status: status,
		})
	}
	return out
}

func (c *fakeConn) messages() []*driver.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*driver.Message(nil), c.sent...)
}

func (c *fakeConn) sends() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// refuse answers every message of a call with the same error.
func refuse(req driver.SendRequest, e driver.Error) []driver.SendResult {
	out := make([]driver.SendResult, len(req.Messages))
	for i, m := range req.Messages {
		out[i] = driver.SendResult{ID: m.ID, Err: &e}
	}
	return out
}

type fakeDriver struct {
	scheme string
	open   func(ctx context.Context, cfg driver.Config) (driver.Conn, error)
}

func (d fakeDriver) Scheme() string { return d.scheme }

func (d fakeDriver) Open(ctx context.Context, cfg driver.Config) (driver.Conn, error) {
	return d.open(ctx, cfg)
}

func driverOf(conn driver.Conn) driver.Driver {
	return fakeDriver{scheme: "fake", open: func(context.Context, driver.Config) (driver.Conn, error) { return conn, nil }}
}

// logBuffer collects log text.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
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

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func configOf(t testing.TB, settings map[string]string) *config.Config {
	t.Helper()
	c, err := config.New(config.FromMap(settings))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// client makes one over conn and closes it at the end of the test.
func client(t testing.TB, conn driver.Conn, settings map[string]string, change ...func(*sdk.ClientParams)) *sdk.Client {
	t.Helper()
	p := sdk.ClientParams{Config: configOf(t, settings)}
	if conn != nil {
		p.Drivers = []driver.Driver{driverOf(conn)}
	}
	for _, f := range change {
		f(&p)
	}
	c, err := sdk.NewClient(p)
	if err != nil {
		t.Fatalf("NewClient: %v", err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q lacks %q", err, p)
		}
	}
}

func wantCode(t testing.TB, err error, code sdk.Code, text string) *sdk.Error {
	t.Helper()
	e, ok := errors.AsType[*sdk.Error](err)
	if !ok {
		t.Fatalf("error %v (%T) is no *sdk.Error", err, err)
	}
	if e.Code != code || err.Error() != text {
		t.Errorf("error is %v: %q\nwant     %v: %q", e.Code, err, code, text)
	}
	return e
}
