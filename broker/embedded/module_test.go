package embedded_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

type drivers struct {
	fx.In
	All []driver.Driver `group:"sluice.drivers"`
}

func TestModule_Memory(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var b *embedded.Broker
	var ds drivers
	app := fxtest.New(t, embedded.Module, fx.Supply(slog.New(slog.NewTextHandler(&log, nil))), fx.Populate(&b, &ds))
	app.RequireStart()
	if len(ds.All) != 1 || ds.All[0].Scheme() != "embedded" {
		t.Fatalf("drivers: %v", ds.All)
	}
	c, err := ds.All[0].Open(t.Context(), driver.Config{ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}})[0]; r.Err != nil {
		t.Error(r.Err)
	}
	if c.Capabilities().Durable {
		t.Error("memory is not durable")
	}
	app.RequireStop()
	wantCode(t, "use the broker of a stopped application", c.Health(t.Context()), driver.Closed)
	if n := strings.Count(log.String(), "keeps everything in memory"); n != 1 {
		t.Errorf("%d warnings that nothing is kept, want 1:\n%s", n, log.String())
	}
}

// Constructors and hooks of others may use the broker before its own hook ran.
func TestModule_OpensWhenUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := fxtest.New(t, embedded.Module, fx.Supply(embedded.Config{Dir: dir}), fx.Invoke(func(b *embedded.Broker) error {
		return b.Connect("early").Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}})[0].Err
	}))
	app.RequireStart().RequireStop()
	b, err := embedded.Open(dir, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	ds, err := b.Connect("c").Extensions().Query.Browse(t.Context(), "t", 0, 0, 10)
	if err != nil || len(ds) != 1 {
		t.Errorf("after the application has stopped: got %d messages, %v", len(ds), err)
	}
}

func TestModule_BadConfig(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, embedded.Module, fx.Supply(embedded.Config{Queues: -1}), fx.Invoke(func(*embedded.Broker) {}))
	wantCode(t, "an application with a bad configuration", app.Err(), driver.InvalidArgument)
}
