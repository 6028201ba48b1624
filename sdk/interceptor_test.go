package sdk_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sluicemq/sluice/sdk"
)

// recorder wraps both ways and notes when it is entered.
func recorder(name string, order int, seen *[]string) sdk.Interceptor {
	return sdk.Interceptor{
		Name: name, Order: order,
		Consume: func(_ sdk.ListenerInfo, next sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
			return func(ctx context.Context, d *sdk.Delivery) error {
				*seen = append(*seen, name)
				return next(ctx, d)
			}, nil
		},
		Produce: func(next sdk.ProduceFunc) sdk.ProduceFunc {
			return func(ctx context.Context, ms []*sdk.Outgoing) ([]sdk.SendResult, error) {
				*seen = append(*seen, name)
				ms[0].Headers["seen-by"] += name
				return next(ctx, ms)
			}
		},
	}
}

func with(list ...sdk.Interceptor) func(*sdk.ClientParams) {
	return func(p *sdk.ClientParams) { p.Interceptors = list }
}

func TestInterceptorOrder(t *testing.T) {
	t.Parallel()
	var seen []string
	conn := newConn()
	c := client(t, conn, nil, with(recorder("c", 50, &seen), recorder("b", 300, &seen), recorder("a", 300, &seen), sdk.Interceptor{Name: "none", Order: 250}))
	if _, err := c.Producer().Send(t.Context(), "x", 1); err != nil {
		t.Fatal(err)
	}
	want := []string{"c", "a", "b"}
	if !slices.Equal(seen, want) {
		t.Errorf("produced through %q, want %q", seen, want)
	}
	if got := conn.messages()[0].Properties["seen-by"]; got != "cab" {
		t.Errorf("headers of interceptors: %q", got)
	}
	seen = nil
	chain, err := c.ConsumeChain(sdk.ListenerInfo{Name: "l"}, func(context.Context, *sdk.Delivery) error {
		seen = append(seen, "handler")
		return errors.New("mine")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := chain(t.Context(), &sdk.Delivery{}); err == nil || err.Error() != "mine" || !slices.Equal(seen, append(want, "handler")) {
		t.Errorf("%v through %q", err, seen)
	}
}

func TestConsumeChainRefuses(t *testing.T) {
	t.Parallel()
	noop := func(context.Context, *sdk.Delivery) error { return nil }
	c := client(t, newConn(), nil, with(
		sdk.Interceptor{Name: "a", Annotations: []string{"served"}},
		sdk.Interceptor{Name: "b", Consume: func(info sdk.ListenerInfo, _ sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
			if info.Logger == nil {
				t.Error("no logger")
			}
			return nil, nil
		}},
		sdk.Interceptor{Name: "c", Consume: func(sdk.ListenerInfo, sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
			return nil, errors.New("ttl is too short")
		}},
	))
	_, err := c.ConsumeChain(sdk.ListenerInfo{Name: "*shop.Bonus", Annotations: map[string]any{"served": 1, "idempotency": 2, "audit": 3}}, noop)
	wantError(t, err,
		`listener *shop.Bonus: nothing serves its annotation "idempotency"; add redisstore.Module or memstore.Module to the fx options`,
		`listener *shop.Bonus: nothing serves its annotation "audit"; add the module that serves it to the fx options`,
		`listener *shop.Bonus: interceptor "b": Consume returned nil; return next to wrap nothing`,
		`listener *shop.Bonus: interceptor "c": ttl is too short`,
	)
	_, err = sdk.NewClient(sdk.ClientParams{Interceptors: []sdk.Interceptor{
		{Name: "bad", Produce: func(sdk.ProduceFunc) sdk.ProduceFunc { return nil }},
	}})
	wantError(t, err, `interceptor "bad": Produce returned nil; return next to wrap nothing`)
}

func TestInterceptorMayRefuseToSend(t *testing.T) {
	t.Parallel()
	conn := newConn()
	c := client(t, conn, nil, with(sdk.Interceptor{Name: "quota", Produce: func(sdk.ProduceFunc) sdk.ProduceFunc {
		return func(context.Context, []*sdk.Outgoing) ([]sdk.SendResult, error) { return nil, errors.New("no quota") }
	}}))
	r, err := c.Producer().Send(t.Context(), "x", 1, sdk.ID("1"))
	if err == nil || err.Error() != "no quota" || r.ID != "1" || r.Err == nil || conn.sends() != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
