package idempotency_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/memstore"
	"github.com/sluicemq/sluice/idempotency/redisstore"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

type payload struct {
	BillID string `json:"bill_id"`
}

type marked struct {
	_ listener.On    `topic:"bill-settled" group:"red-packet"`
	_ idempotency.By `key:"bill_id" ttl:"${red.ttl:80h}"`
}

func (*marked) OnMessage(context.Context, *sdk.Message[payload]) error { return nil }

func app(extra ...fx.Option) *fx.App {
	return fx.New(append(extra, fx.NopLogger, sdk.Module, listener.Module,
		listener.Provide[*marked](func() *marked { return &marked{} }), sdk.Start())...)
}

func TestModule_FitsTheGraph(t *testing.T) {
	t.Parallel()
	var d *idempotency.Decorator
	if err := app(memstore.Module, fx.Populate(&d)).Err(); err != nil {
		t.Fatal(err)
	}
	if d == nil {
		t.Error("no decorator in the graph")
	}
	if err := app(memstore.Module, fx.Supply(idempotency.Settings{HoldAfter: 7}, memstore.Options{MaxKeys: 5})).Err(); err != nil {
		t.Error(err)
	}
}

func TestModule_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, extra := range map[string][]fx.Option{
		"add redisstore.Module or memstore.Module":                          nil,
		"redisstore.Module needs a redis.UniversalClient in the graph":      {redisstore.Module},
		"ttl 1h0m0s is shorter than the retry horizon of the listener, 4h4": {memstore.Module, config.Map(map[string]string{"red.ttl": "1h"})},
		"ttl: \"soon\" is not a duration":                                   {memstore.Module, config.Map(map[string]string{"red.ttl": "soon"})},
	} {
		err := app(extra...).Err()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestModule_RedisThatIsNotThereFailsTheStart(t *testing.T) {
	t.Parallel()
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	a := fx.New(fx.NopLogger, sdk.Module, redisstore.Module, fx.Supply(fx.Annotate(c, fx.As(new(redis.UniversalClient)))), sdk.Start())
	err := a.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "idempotency verify on redis 127.0.0.1:1") {
		t.Errorf("got %v, want the store and its address", err)
	}
	_ = a.Stop(t.Context())
}
