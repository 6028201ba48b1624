package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk"
)

// Everything that the five services need is in their graph, and an application
// that forgets to start them is refused with a sentence that says what to add.
func TestWiring(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // never asked
	t.Cleanup(func() { _ = rdb.Close() })
	dbs := &databases{folder: folder(t.TempDir())}
	t.Cleanup(func() {
		for _, db := range dbs.open {
			_ = db.Close()
		}
	})
	options, err := platform{databases: dbs, redis: rdb, traces: noop.NewTracerProvider(), log: slog.New(slog.DiscardHandler)}.options()
	if err != nil {
		t.Fatal(err)
	}
	if err := fx.ValidateApp(append(options, sdk.Start())...); err != nil {
		t.Fatal(err)
	}
	err = fx.New(options...).Err()
	if err == nil || !strings.Contains(err.Error(), "add sdk.Start() as the last option of fx.New") {
		t.Fatalf("without sdk.Start(): %v", err)
	}
}

// A setting that nobody reads is refused with the nearest section.
func TestCheckSections(t *testing.T) {
	t.Parallel()
	good := checkSections(map[string]string{"listeners.red-packet.concurrency": "2"}, []string{"BILLPAY_SLUICE_BROKER=x", "HOME=/", "BILLPAYER=1"})
	if good != nil {
		t.Errorf("checkSections = %v", good)
	}
	err := checkSections(map[string]string{"listener.red-packet.concurrency": "2"}, []string{"BILLPAY_CHAOS=0.5"})
	if err == nil || !strings.Contains(err.Error(), `did you mean "listeners"?`) || !strings.Contains(err.Error(), "BILLPAY_CHAOS") {
		t.Errorf("checkSections = %v", err)
	}
}
