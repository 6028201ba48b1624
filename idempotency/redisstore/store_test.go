package redisstore_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/redisstore"
	"github.com/sluicemq/sluice/idempotency/storetest"
	"github.com/sluicemq/sluice/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubbleClient is a client of a miniredis whose clock is that of the bubble.
func bubbleClient(t testing.TB, o redis.Options) (*miniredis.Miniredis, *redis.Client) {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	o.Addr = "127.0.0.1:1" // an address that needs no name server; never dialled
	o.Dialer = func(context.Context, string, string) (net.Conn, error) { return m.Dial() }
	c := redis.NewClient(&o)
	t.Cleanup(func() {
		_ = c.Close()
		m.Close()
	})
	return m, c
}

func newStore(t testing.TB, c redis.UniversalClient, o redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	// Registered after the client's, so it runs before.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore_ConformanceOnMiniredis(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		Bubble: true,
		New: func(t testing.TB) idempotency.Store {
			_, c := bubbleClient(t, redis.Options{})
			return newStore(t, c, redisstore.Options{})
		},
	})
}

func TestStore_ConformanceOnRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	storetest.Run(t, storetest.Harness{
		Unit: 400 * time.Millisecond,
		New: func(t testing.TB) idempotency.Store {
			return newStore(t, server.Client(t), redisstore.Options{})
		},
	})
}
