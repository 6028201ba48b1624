package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluicemq/sluice/idempotency"
)

// fenceGrace is how much longer the fence counter lives than a record that is
// done.
const fenceGrace = time.Minute

// errClosed is the cause of every call after Close.
var errClosed = errors.New("store is closed")

// Options configures [New]. The zero value is usable.
type Options struct {
	// Timeout bounds one request to Redis; a request of Begin or Renew never
	// gets more than a sixth of the lease. Defaults to 1s.
	Timeout time.Duration
	// Tries is how often a request whose outcome is unknown is sent; the four
	// transitions may be repeated. Defaults to 2.
	Tries int
	// Strict makes Verify refuse a Redis that may lose records, instead of
	// warning of it. Defaults to false.
	Strict bool
	// Logger receives the warnings of Verify. Defaults to none.
	Logger *slog.Logger
}

func (o Options) validate() (Options, error) {
	if o.Timeout < 0 || o.Tries < 0 {
		return o, fmt.Errorf("redisstore options: timeout %v and tries %d must not be negative", o.Timeout, o.Tries)
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Tries == 0 {
		o.Tries = 2
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Store is an [idempotency.Store] in Redis.
type Store struct {
	client  redis.UniversalClient
	opts    Options
	name    string
	scripts scripts

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // requests, also those that nobody waits for any more
}

// New returns a store on client, which stays the caller's: the store never
// closes it. It sends nothing; see [Store.Verify].
func New(client redis.UniversalClient, o Options) (*Store, error) {
	if client == nil {
		return nil, errors.New("redisstore: the redis client is nil; pass a *redis.Client, *redis.ClusterClient or another redis.UniversalClient")
	}
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	return &Store{client: client, opts: o, name: "redis " + address(client), scripts: newScripts()}, nil
}

// Begin implements [idempotency.Store].
func (s *Store) Begin(ctx context.Context, k idempotency.Key, owner string, lease, fenceTTL time.Duration) (idempotency.Claim, error) {
	v, err := s.transition(ctx, "begin", s.perRequest(lease), s.scripts.begin, k,
		owner, millis(lease), millis(max(fenceTTL, 2*lease)))
	if err != nil {
		return idempotency.Claim{}, err
	}
	row, ok := v.([]any)
	if !ok || len(row) != 3 {
		return idempotency.Claim{}, s.failed("begin", fmt.Errorf("the script answered %v, not three numbers", v))
	}
	var n [3]int64
	for i := range n {
		if n[i], ok = row[i].(int64); !ok {
			return idempotency.Claim{}, s.failed("begin", fmt.Errorf("the script answered %v, not three numbers", v))
		}
	}
	c := idempotency.Claim{Fence: uint64(max(n[1], 0)), Remaining: time.Duration(max(n[2], 0)) * time.Millisecond}
	switch n[0] {
	case 0:
		c.State = idempotency.Acquired
	case 1:
		c.State = idempotency.Busy
	case 2:
		c.State = idempotency.Done
	default:
		return idempotency.Claim{}, s.failed("begin", fmt.Errorf("the script answered the unknown state %d", n[0]))
	}
	return c, nil
}

// Renew implements [idempotency.Store].
func (s *Store) Renew(ctx context.Context, k idempotency.Key, owner string, fence uint64, lease time.Duration) (bool, error) {
	n, err := s.number(ctx, "renew", s.perRequest(lease), s.scripts.renew, k,
		owner, decimal(fence), millis(lease), millis(2*lease))
	return n == 1, err
}

// Complete implements [idempotency.Store].
func (s *Store) Complete(ctx context.Context, k idempotency.Key, owner string, fence uint64, ttl time.Duration) (idempotency.Completion, error) {
	n, err := s.number(ctx, "complete", s.opts.Timeout, s.scripts.complete, k,
		owner, decimal(fence), millis(ttl), millis(ttl+fenceGrace))
	if err != nil {
		return 0, err
	}
	c := idempotency.Completion(n)
	if c < idempotency.Mine || c > idempotency.Already {
		return 0, s.failed("complete", fmt.Errorf("the script answered the unknown completion %d", n))
	}
	return c, nil
}

// Abort implements [idempotency.Store].
func (s *Store) Abort(ctx context.Context, k idempotency.Key, owner string, fence uint64) (bool, error) {
	n, err := s.number(ctx, "abort", s.opts.Timeout, s.scripts.abort, k, owner, decimal(fence))
	return n == 1, err
}

// Close waits until no request is left, or until ctx ends: a request that nobody
// waits for any more ends with the time limits of the client. The client stays
// open. Close may be called more than once.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close idempotency store on %s: requests are still pending: %w", s.name, context.Cause(ctx))
	}
}

// perRequest is the time for one request under a lease: with a sixth of it,
// there is time for several before the lease ends.
func (s *Store) perRequest(lease time.Duration) time.Duration {
	return max(min(s.opts.Timeout, lease/6), time.Millisecond)
}

func (s *Store) number(ctx context.Context, op string, limit time.Duration, sc *redis.Script, k idempotency.Key, args ...any) (int64, error) {
	v, err := s.transition(ctx, op, limit, sc, k, args...)
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if !ok {
		return 0, s.failed(op, fmt.Errorf("the script answered %v, not a number", v))
	}
	return n, nil
}

// transition runs a script and repeats it while its outcome is unknown.
func (s *Store) transition(ctx context.Context, op string, limit time.Duration, sc *redis.Script, k idempotency.Key, args ...any) (any, error) {
	keys := []string{"{" + string(k) + "}:s", "{" + string(k) + "}:f"}
	notDone := true
	for try := 1; ; try++ {
		v, err := s.request(ctx, limit, func(ctx context.Context) (any, error) {
			return sc.Run(ctx, s.client, keys, args...).Result()
		})
		if err == nil {
			return v, nil
		}
		refused := certainlyNotDone(err)
		notDone = notDone && refused
		if refused || try >= s.opts.Tries || ctx.Err() != nil {
			return nil, &idempotency.StoreError{Op: op, Store: s.name, NotDone: notDone, Err: err}
		}
	}
}

// request runs f and stops to wait for it at the end of limit or of ctx. It does
// not rely on the client for that: without ContextTimeoutEnabled a go-redis
// client goes on reading until its own limit.
func (s *Store) request(ctx context.Context, limit time.Duration, f func(context.Context) (any, error)) (any, error) {
	type answer struct {
		v   any
		err error
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v: %w", limit, context.DeadlineExceeded))
	got := make(chan answer, 1) // room for an answer that nobody waits for
	s.wg.Go(func() {
		defer cancel()
		v, err := f(ctx)
		got <- answer{v, err}
	})
	s.mu.Unlock()
	select {
	case a := <-got:
		return a.v, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-got: // both were ready: an answer is worth more
		return a.v, a.err
	default:
		return nil, context.Cause(ctx)
	}
}

func (s *Store) failed(op string, err error) error {
	return &idempotency.StoreError{Op: op, Store: s.name, Err: err}
}

// certainlyNotDone tells the failures that left Redis as it was.
func certainlyNotDone(err error) bool {
	if errors.Is(err, errClosed) || errors.Is(err, redis.ErrClosed) {
		return true
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	// The client sends one command again by itself, so that a refusal may
	// answer the second copy of it; these say that no copy got through since
	// the server is in that state, or that this client never gets through.
	for _, prefix := range []string{"NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// address says where client connects to.
func address(client redis.UniversalClient) string {
	switch c := client.(type) {
	case *redis.Client:
		return c.Options().Addr
	case *redis.ClusterClient:
		return strings.Join(c.Options().Addrs, ",")
	case *redis.Ring:
		return "ring"
	default:
		return fmt.Sprintf("%T", client)
	}
}

// millis rounds up: a time to live of zero would delete.
func millis(d time.Duration) int64 {
	return max(1, int64((d+time.Millisecond-1)/time.Millisecond))
}

func decimal(fence uint64) string { return strconv.FormatUint(fence, 10) }
