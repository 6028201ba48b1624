package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/sluicemq/sluice/idempotency"
)

// Verify asks every master whether it is fit to keep locks: that it answers, is
// a master (role), never evicts (maxmemory-policy noeviction) and writes an
// append-only file. A Redis that does not answer is an error that names its
// address; each other shortcoming is a warning in the log or, with
// Options.Strict, an error too. A server that hides its INFO counts as unfit.
func (s *Store) Verify(ctx context.Context) error {
	v, err := s.request(ctx, 5*s.opts.Timeout, func(ctx context.Context) (any, error) {
		return inspect(ctx, s.client)
	})
	if err != nil {
		return &idempotency.StoreError{Op: "verify", Store: s.name, NotDone: true, Err: err}
	}
	findings, _ := v.([]string)
	if len(findings) == 0 {
		return nil
	}
	if s.opts.Strict {
		var errs []error
		for _, f := range findings {
			errs = append(errs, errors.New(f))
		}
		return &idempotency.StoreError{Op: "verify", Store: s.name, NotDone: true, Err: errors.Join(errs...)}
	}
	for _, f := range findings {
		s.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "redis is not fit to keep idempotency records",
			slog.String("store", s.name), slog.String("finding", f))
	}
	return nil
}

// Gate is [Store.Verify] in the form of a listener gate:
//
//	listener.Gate("idempotency", redisstore.Gate)
func Gate(ctx context.Context, s *Store) error { return s.Verify(ctx) }

// inspect returns what is wrong with the masters behind client.
func inspect(ctx context.Context, client redis.UniversalClient) ([]string, error) {
	var mu sync.Mutex
	var findings []string
	one := func(ctx context.Context, c *redis.Client) error {
		info, err := c.Info(ctx).Result()
		if err != nil {
			return fmt.Errorf("info of %s: %w", c.Options().Addr, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, f := range judge(info) {
			findings = append(findings, c.Options().Addr+": "+f)
		}
		return nil
	}
	var err error
	switch c := client.(type) {
	case *redis.Client:
		err = one(ctx, c)
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, one)
	case *redis.Ring:
		err = c.ForEachShard(ctx, one)
	default:
		var info string
		if info, err = c.Info(ctx).Result(); err == nil {
			findings = judge(info)
		}
	}
	return findings, err
}

// judge reads the text of INFO.
func judge(info string) (findings []string) {
	have := make(map[string]string)
	for line := range strings.Lines(info) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			have[k] = v
		}
	}
	for _, want := range []struct{ field, value, wrong string }{
		{"role", "master", "its role is %s, so it refuses writes; connect to the master"},
		{"maxmemory_policy", "noeviction", "its maxmemory-policy is %s, which evicts locks and done marks; set noeviction"},
		{"aof_enabled", "1", "it writes no append-only file (aof_enabled is %s), so a restart forgets locks and done marks; set appendonly yes"},
	} {
		switch got, ok := have[want.field]; {
		case !ok:
			findings = append(findings, "its INFO does not tell "+want.field+"; it should be "+want.value)
		case got != want.value:
			findings = append(findings, fmt.Sprintf(want.wrong, got))
		}
	}
	return findings
}
