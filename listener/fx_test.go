package listener_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// wallet is a dependency of a listener and of a gate.
type wallet struct {
	paid   []string
	closed bool
	up     atomic.Bool
}

type redPackets struct {
	_ listener.On          `topic:"${bills.topic:bill-settled}" group:"red-packet"`
	_ listener.StartPaused `resume:"auto"`

	wallet *wallet
}

func newRedPackets(w *wallet) (*redPackets, error) { return &redPackets{wallet: w}, nil }

func (r *redPackets) OnMessage(_ context.Context, m *sdk.Message[bill]) error {
	if r.wallet.closed {
		return errors.New("the wallet was closed before the listener")
	}
	time.Sleep(time.Second)
	r.wallet.paid = append(r.wallet.paid, m.Payload.ID)
	return nil
}

func fakeModule(b *fakeBroker) fx.Option {
	return fx.Provide(fx.Annotate(func() driver.Driver { return b }, fx.ResultTags(`group:"`+driver.Group+`"`)))
}

func redPacketModule() fx.Option {
	return fx.Module("redpacket",
		listener.Provide[*redPackets](newRedPackets),
		listener.Gate("wallet", func(_ context.Context, w *wallet) error {
			if !w.up.Load() {
				return errors.New("down")
			}
			return nil
		}),
	)
}

func TestModule_StartsPausedResumesAndDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		w := &wallet{}
		var c *listener.Container
		app := fx.New(fx.NopLogger, fakeModule(broker), sdk.Module, listener.Module, redPacketModule(),
			fx.Provide(func(lc fx.Lifecycle) *wallet {
				lc.Append(fx.StopHook(func() { w.closed = true }))
				return w
			}),
			listener.Provide[listener.Func[bill]](func(*wallet) listener.Func[bill] { return nop }, listener.Name("audit"),
				listener.Topic("bill-settled"), listener.Group("audit")),
			config.Map(map[string]string{"listeners.audit.concurrency": "3"}),
			fx.Populate(&c), sdk.Start())
		if err := app.Err(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Names(), " "); got != "audit red-packets" {
			t.Errorf("names %s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		if err := app.Start(ctx); err != nil {
			t.Fatal(err)
		}
		cancel() // as fxtest does: nothing may hang on this ctx
		synctest.Wait()
		if s, _ := c.Status("red-packets"); s.State != listener.StatePaused || broker.members() != 1 {
			t.Errorf("status %+v, %d members", s, broker.members())
		}
		w.up.Store(true)
		time.Sleep(time.Minute)
		if s, _ := c.Status("audit"); s.Concurrency != 3 {
			t.Errorf("concurrency %d", s.Concurrency)
		}
		broker.put("bill-settled", 0, driver.Message{ID: "m1", Body: []byte(`{"id":"b1"}`)})
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		if err := app.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		if !w.closed || strings.Join(w.paid, " ") != "b1" || broker.backlog() != 0 {
			t.Errorf("wallet %+v, backlog %d", w, broker.backlog())
		}
	})
}

func TestModule_WhatIsForgottenIsSaid(t *testing.T) {
	t.Parallel()
	w := fx.Supply(&wallet{})
	for want, opts := range map[string][]fx.Option{
		"listener *listener_test.redPackets is registered but sdk.Start() is not among the fx options": {
			fakeModule(newFake()), sdk.Module, listener.Module, redPacketModule(), w,
		},
		"listener *listener_test.redPackets is registered but listener.Module is not among the fx options; add listener.Module beside sdk.Module": {
			fakeModule(newFake()), sdk.Module, redPacketModule(), w, sdk.Start(),
		},
		"missing type: *sdk.Client": {fakeModule(newFake()), listener.Module, redPacketModule(), w},
		"missing type: *listener_test.wallet": {
			fakeModule(newFake()), sdk.Module, listener.Module, redPacketModule(), sdk.Start(),
		},
		"nothing serves its annotation": {
			fakeModule(newFake()), sdk.Module, listener.Module, sdk.Start(),
			listener.Provide[*base](func() *base { return &base{} }, listener.Topic("t"), listener.Group("g"), listener.Annotate("x", 1)),
		},
	} {
		app := fx.New(append(opts, fx.NopLogger)...)
		err := app.Err()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestModule_ValidateApp(t *testing.T) {
	t.Parallel()
	if err := fx.ValidateApp(fx.NopLogger, fakeModule(newFake()), sdk.Module, listener.Module, redPacketModule(), fx.Supply(&wallet{}), sdk.Start()); err != nil {
		t.Error(err)
	}
}

func TestStart_WithoutListenersNeedsNoBroker(t *testing.T) {
	t.Parallel()
	client, err := sdk.NewClient(sdk.ClientParams{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := listener.NewContainer(listener.ContainerParams{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Start(t.Context()), c.Ready(), c.Stop(t.Context()), client.Close(t.Context())); err != nil {
		t.Error(err)
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	if _, err := listener.NewContainer(listener.ContainerParams{}); err == nil {
		t.Error("no client was accepted")
	}
}
