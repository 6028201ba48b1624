package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// redisPatience is how long Redis may take to answer when the run begins.
const redisPatience = 3 * time.Second

// openRedis connects to Redis, or to one inside this process that forgets
// everything at the end. closing ends both.
func openRedis(ctx context.Context, addr string) (client redis.UniversalClient, closing func() error, err error) {
	if addr == "" {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true) // leases and memories end by themselves
		c := redis.NewClient(&redis.Options{
			ContextTimeoutEnabled: true,
			Dialer:                func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
		})
		return c, func() error { err := c.Close(); m.Close(); return err }, nil
	}
	c := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	if err := c.Ping(ctx).Err(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("redis at %s does not answer: %w", addr, err), c.Close())
	}
	return c, c.Close, nil
}
