package sdktest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/sdktest"
)

// largeOrders wants what is large, or from a region it does not know.
type largeOrders struct {
	_ listener.On `topic:"order-paid" group:"audit" name:"audit" sql:"TAGS = 'paid' AND (amount > ${audit.above:1000} OR region IS NULL)"`

	mu   sync.Mutex
	seen []string
}

func (l *largeOrders) OnMessage(_ context.Context, m *sdk.Message[orderPaid]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, m.Payload.OrderID)
	if m.Payload.OrderID == "large" && m.Attempt == 1 {
		return errors.New("the auditor is out")
	}
	return nil
}

// A listener with sql gets what its expression selects, its failures again, and
// nothing else.
func TestKit_SQL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &largeOrders{}
		kit := sdktest.New(t, listener.Provide[*largeOrders](func() *largeOrders { return l }), sdktest.Patience(24*time.Hour))
		defer kit.Stop()
		send := func(id, tag string, headers ...string) {
			opts := []sdk.MessageOption{sdk.Tag(tag)}
			for pair := range slices.Chunk(headers, 2) {
				opts = append(opts, sdk.Header(pair[0], pair[1]))
			}
			kit.Send("order-paid", orderPaid{id}, opts...)
		}
		send("small", "paid", "amount", "7", "region", "eu")
		send("nowhere", "paid", "amount", "7")
		send("large", "paid", "amount", "7000", "region", "eu")
		send("open", "opened", "amount", "7000")
		send("odd", "paid", "amount", "a lot", "region", "eu")
		kit.Await("audit", 2)
		time.Sleep(time.Hour) // nothing else comes
		slices.Sort(l.seen)
		if want := []string{"large", "large", "nowhere"}; !slices.Equal(l.seen, want) {
			t.Errorf("handled %q, want %q", l.seen, want)
		}
		lag, err := kit.Broker().Connect("admin").Extensions().Groups.Lag(t.Context(), "audit")
		if err != nil {
			t.Fatal(err)
		}
		for _, lane := range lag {
			if lane.Behind() != 0 {
				t.Errorf("%s is %d behind, though the rest is not selected", lane.Name, lane.Behind())
			}
		}
	})
}

// What cannot be read stops the start, and says where it is wrong.
func TestSQL_RefusedAtStart(t *testing.T) {
	t.Parallel()
	type like struct {
		listener.Func[orderPaid]
		_ listener.On `topic:"order-paid" group:"audit" sql:"name LIKE 'A%'"`
	}
	app := fx.New(fx.NopLogger, embedded.Module, sdk.Module, listener.Module, listener.Provide[*like](func() *like {
		return &like{Func: func(context.Context, *sdk.Message[orderPaid]) error { return nil }}
	}), sdk.Start())
	if err := app.Err(); err != nil {
		t.Fatalf("build: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := app.Start(ctx)
	if e, ok := errors.AsType[*sql92.SyntaxError](err); !ok || e.Pos != 5 || driver.CodeOf(err) != driver.InvalidArgument ||
		!strings.Contains(err.Error(), "CONTAINS 'text'") {
		t.Errorf("start with LIKE: got error %v, want the position and what is accepted", err)
	}
	if ctx.Err() != nil {
		t.Error("the start went on until its time was over")
	}
}
