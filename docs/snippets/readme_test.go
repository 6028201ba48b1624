// Package snippets_test holds the code of the README, so that it compiles.
package snippets_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/redisstore"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

type BillSettled struct {
	BillID string `json:"bill_id"`
	Cents  int64  `json:"cents"`
}

type Wallet struct{ credited map[string]int64 }

func NewWallet() *Wallet { return &Wallet{credited: map[string]int64{}} }

func (w *Wallet) Ping(context.Context) error { return nil }

func (w *Wallet) Credit(_ context.Context, bill string, cents int64) error {
	if _, twice := w.credited[bill]; twice {
		return errors.New("paid twice")
	}
	w.credited[bill] = cents
	return nil
}

func NewRedis() redis.UniversalClient {
	return redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
}

func NewRedPackets(w *Wallet) *RedPackets { return &RedPackets{wallet: w} }

// region: README
// RedPackets pays out one red packet for each settled bill.
type RedPackets struct {
	_ listener.On          `topic:"${bills.topic:bill-settled}" group:"red-packet" tags:"water || power"`
	_ listener.Retry       `attempts:"16" backoff:"10s..2h"`
	_ idempotency.By       `key:"bill_id" lease:"30s"`
	_ listener.StartPaused `resume:"auto"`

	wallet *Wallet
}

// OnMessage returns nil to acknowledge; any other error is retried by the policy above.
func (r *RedPackets) OnMessage(ctx context.Context, m *sdk.Message[BillSettled]) error {
	return r.wallet.Credit(ctx, m.Payload.BillID, m.Payload.Cents)
}

func main() {
	fx.New(
		fx.Supply(slog.Default(), embedded.Config{Dir: "/var/lib/billpay"}), // without a Dir it keeps everything in memory
		config.Env("BILLPAY_"), embedded.Module, redisstore.Module, sdk.Module, listener.Module,
		fx.Provide(NewRedis, NewWallet),
		listener.Provide[*RedPackets](NewRedPackets), // a wrong handler does not compile
		listener.Gate("wallet", func(ctx context.Context, w *Wallet) error { return w.Ping(ctx) }),
		sdk.Start(), // last: consumption begins after, and ends before, everything else
	).Run()
}

// endregion

// The block of the README stands in this file to the letter, and its graph is whole.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```go\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed || !strings.Contains(string(self), block) {
		t.Fatalf("the README shows code that docs/snippets does not compile:\n%s", block)
	}
	_ = main // runs until a signal; here only its graph is checked
	if err := fx.ValidateApp(
		config.Env("BILLPAY_"), embedded.Module, redisstore.Module, sdk.Module, listener.Module,
		fx.Provide(NewRedis, NewWallet),
		listener.Provide[*RedPackets](NewRedPackets),
		listener.Gate("wallet", func(ctx context.Context, w *Wallet) error { return w.Ping(ctx) }),
		sdk.Start(),
	); err != nil {
		t.Fatal(err)
	}
}

// What the README leaves out is not left out in silence.
func TestReadme_WithoutStart(t *testing.T) {
	t.Parallel()
	err := fx.New(fx.NopLogger, embedded.Module, redisstore.Module, sdk.Module, listener.Module,
		fx.Provide(NewRedis, NewWallet), listener.Provide[*RedPackets](NewRedPackets)).Err()
	if err == nil || !strings.Contains(err.Error(), "add sdk.Start() as the last option of fx.New") {
		t.Fatalf("an application without sdk.Start() is built: %v", err)
	}
}
