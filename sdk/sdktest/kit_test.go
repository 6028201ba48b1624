package sdktest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type orderPaid struct {
	OrderID string `json:"order_id"`
}

// bonus pays the bonus of an order once; it fails as often as told.
type bonus struct {
	_ listener.On    `topic:"order-paid" group:"bonus"`
	_ idempotency.By `key:"order_id"`

	mu    sync.Mutex
	fail  int
	paid  map[string]int
	times []time.Time
}

func (b *bonus) OnMessage(_ context.Context, m *sdk.Message[orderPaid]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.times = append(b.times, time.Now())
	if b.fail != 0 {
		b.fail--
		return errors.New("the wallet is down")
	}
	b.paid[m.Payload.OrderID]++
	return nil
}

func module(b *bonus) fx.Option {
	b.paid = map[string]int{}
	return listener.Provide[*bonus](func() *bonus { return b })
}

// The whole ladder of redeliveries passes in virtual time, to the second.
func TestKit_SixteenRetriesInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bonus{fail: 16}
		kit := sdktest.New(t, module(b), sdktest.Patience(24*time.Hour))
		defer kit.Stop()
		sent := time.Now()
		res := kit.Send("order-paid", orderPaid{"O-1"})
		if got := kit.Await("bonus", 1); got[0].Attempt != 17 || got[0].ID != res.ID {
			t.Errorf("attempt %d of %s", got[0].Attempt, got[0].ID)
		}
		// 10s 30s 1m … 10m 20m 30m 1h 2h, RocketMQ's levels 3 to 18
		if took, want := time.Since(sent), 4*time.Hour+45*time.Minute+40*time.Second; took < want || took > want+5*time.Second {
			t.Errorf("the ladder took %v, want %v", took, want)
		}
		if n := kit.Attempts(res.ID); n != 17 || b.paid["O-1"] != 1 {
			t.Errorf("%d attempts, %d payments", n, b.paid["O-1"])
		}
	})
}

func TestKit_DuplicateIsSkippedAndExhaustedIsDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bonus{}
		kit := sdktest.New(t, module(b), sdktest.Patience(24*time.Hour))
		defer kit.Stop()
		kit.Send("order-paid", orderPaid{"O-1"})
		kit.Await("bonus", 1)
		kit.Send("order-paid", orderPaid{"O-1"})
		kit.Await("bonus", 2)
		if b.paid["O-1"] != 1 {
			t.Errorf("%d payments", b.paid["O-1"])
		}
		if dead := kit.DeadLetters("bonus"); len(dead) != 0 {
			t.Errorf("dead letters: %v", dead)
		}
		b.mu.Lock()
		b.fail = -1
		b.mu.Unlock()
		kit.Send("order-paid", orderPaid{"O-2"}, sdk.Key("O-2"))
		kit.Send("order-paid", []byte("no json"), sdk.ContentType("application/json"))
		reasons := map[string]string{}
		for _, d := range kit.AwaitDeadLetters("bonus", 2) {
			reasons[d.Properties[driver.DeadReason]] = d.Properties[driver.DeadError]
		}
		if len(reasons) != 2 || !strings.Contains(reasons["exhausted"], "the wallet is down") {
			t.Errorf("reasons = %v", reasons)
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	sdktest.ValidateApp(t, module(&bonus{}))
	type bad struct {
		listener.Func[orderPaid]
		_ listener.On `topic:"order-paid" gruop:"x"`
	}
	err := sdktest.Validate(listener.Provide[*bad](func() *bad { return nil }))
	if err == nil || !strings.Contains(err.Error(), `unknown key "gruop" (did you mean "group"?)`) {
		t.Errorf("Validate = %v", err)
	}
}
