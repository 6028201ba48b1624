package main

import (
	"context"
	"testing"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// Everything that an instance needs is in its graph.
func TestWiring(t *testing.T) {
	t.Parallel()
	broker, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close(context.WithoutCancel(t.Context())) })
	i := &instance{wallet: &wallet{}}
	if err := fx.ValidateApp(i.options(broker.Driver(), listener.Paused(false)), sdk.Start()); err != nil {
		t.Fatal(err)
	}
}
