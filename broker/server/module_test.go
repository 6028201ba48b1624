package server_test

import (
	"errors"
	"net"
	"testing"

	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/server"
)

func TestModule(t *testing.T) {
	t.Parallel()
	var s *server.Server
	app := fxtest.New(t, fx.NopLogger, server.Module, embedded.Module, fx.Supply(server.Config{Listen: "127.0.0.1:0"}), fx.Populate(&s))
	app.RequireStart()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	app.RequireStop()
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Error("the server listens after the application has stopped")
	}
}

func TestModule_Exposed(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, server.Module, embedded.Module, fx.Supply(server.Config{Listen: "0.0.0.0:0"}))
	err := app.Start(t.Context())
	if _, ok := errors.AsType[*server.ExposedError](err); !ok {
		t.Errorf("start answers %v", err)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
