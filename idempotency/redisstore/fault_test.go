package redisstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/redisstore"
	"github.com/sluicemq/sluice/internal/redistest"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

func key(t testing.TB) idempotency.Key { return idempotency.NewKey("", "g", "t", t.Name()) }

func begin(t testing.TB, s *redisstore.Store, owner string) idempotency.Claim {
	t.Helper()
	c, err := s.Begin(t.Context(), key(t), owner, time.Minute, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loseReply lets a command through and loses its answer, as a connection that
// breaks does.
type loseReply struct {
	redis.Hook

	mu   sync.Mutex
	next int
}

func (h *loseReply) lose(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next = n
}

func (h *loseReply) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *loseReply) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *loseReply) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		h.mu.Lock()
		defer h.mu.Unlock()
		if err == nil && h.next > 0 && strings.HasPrefix(cmd.Name(), "eval") {
			h.next--
			cmd.SetErr(io.ErrUnexpectedEOF)
			return io.ErrUnexpectedEOF
		}
		return err
	}
}

func TestMatrix_Row12_LostReplyIsAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, c := bubbleClient(t, redis.Options{})
		h := &loseReply{}
		c.AddHook(h)
		s := newStore(t, c, redisstore.Options{})
		ctx, k := t.Context(), key(t)

		h.lose(1)
		claim := begin(t, s, "a")
		if claim.State != idempotency.Acquired {
			t.Fatalf("Begin: got %+v; it took itself for somebody else", claim)
		}
		h.lose(1)
		if ok, err := s.Renew(ctx, k, "a", claim.Fence, time.Minute); !ok || err != nil {
			t.Errorf("Renew: got %v, %v", ok, err)
		}
		h.lose(1)
		if how, err := s.Complete(ctx, k, "a", claim.Fence, time.Hour); how != idempotency.Mine || err != nil {
			t.Errorf("Complete: got %v, %v", how, err)
		}
		h.lose(2) // more often than the store asks
		_, err := s.Complete(ctx, k, "a", claim.Fence, time.Hour)
		if e, ok := errors.AsType[*idempotency.StoreError](err); !ok || e.NotDone || e.Op != "complete" {
			t.Errorf("got %v, want a StoreError of unknown outcome", err)
		}
	})
}

func TestMatrix_Row13_ScriptFlush(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := server.Client(t)
	s := newStore(t, c, redisstore.Options{Tries: 1})
	flush := func() {
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, owner := range []string{"a", "b"} {
		flush()
		claim := begin(t, s, owner)
		if claim.State != idempotency.Acquired {
			t.Fatalf("got %+v", claim)
		}
		flush()
		if ok, err := s.Renew(t.Context(), key(t), owner, claim.Fence, time.Minute); !ok || err != nil {
			t.Errorf("Renew: got %v, %v", ok, err)
		}
		flush()
		if owner == "a" {
			if ok, err := s.Abort(t.Context(), key(t), owner, claim.Fence); !ok || err != nil {
				t.Errorf("Abort: got %v, %v", ok, err)
			}
			continue
		}
		if how, err := s.Complete(t.Context(), key(t), owner, claim.Fence, time.Minute); how != idempotency.Mine || err != nil {
			t.Errorf("Complete: got %v, %v", how, err)
		}
	}
}

func TestStore_KeysShareASlotAndExpire(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := server.Client(t)
	s := newStore(t, c, redisstore.Options{})
	check := func(want map[string]time.Duration) {
		t.Helper()
		keys, err := c.Keys(t.Context(), "*").Result()
		if err != nil || len(keys) != len(want) {
			t.Fatalf("keys %v, %v, want %v", keys, err, want)
		}
		for k, longest := range want {
			left, err := c.PTTL(t.Context(), k).Result()
			if err != nil || left <= longest-10*time.Second || left > longest {
				t.Errorf("%s lives for %v, %v, want %v", k, left, err, longest)
			}
		}
	}
	record, counter := "{"+string(key(t))+"}:s", "{"+string(key(t))+"}:f"
	claim := begin(t, s, "a")
	check(map[string]time.Duration{record: time.Minute, counter: time.Hour})
	if _, err := s.Complete(t.Context(), key(t), "a", claim.Fence, 80*time.Hour); err != nil {
		t.Fatal(err)
	}
	check(map[string]time.Duration{record: 80 * time.Hour, counter: 80*time.Hour + time.Minute})
}

func TestStore_SurvivesKillAndRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "appendonly", "yes", "appendfsync", "always")
	s := newStore(t, server.Client(t), redisstore.Options{})
	first := begin(t, s, "a")

	server.Kill()
	_, err := s.Begin(t.Context(), key(t), "b", time.Minute, time.Hour)
	e, ok := errors.AsType[*idempotency.StoreError](err)
	if !ok || !strings.Contains(err.Error(), server.Addr) || e.Op != "begin" {
		t.Fatalf("while it is dead: got %v, want a StoreError that names %s", err, server.Addr)
	}

	server.Restart(t)
	if c := begin(t, s, "b"); c.State != idempotency.Busy || c.Fence != first.Fence {
		t.Fatalf("after the restart: got %+v, want the claim of a", c)
	}
	if ok, err := s.Renew(t.Context(), key(t), "a", first.Fence, time.Minute); !ok || err != nil {
		t.Errorf("Renew: got %v, %v", ok, err)
	}
	if how, err := s.Complete(t.Context(), key(t), "a", first.Fence, time.Hour); how != idempotency.Mine || err != nil {
		t.Errorf("Complete: got %v, %v", how, err)
	}
}

// The client here does not watch its ctx and reads for ten seconds.
func TestStore_FrozenServerAnswersInTime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := redis.NewClient(&redis.Options{Addr: server.Addr, ReadTimeout: 10 * time.Second, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	s := newStore(t, c, redisstore.Options{})
	claim := begin(t, s, "a")

	server.Freeze(t)
	start := time.Now()
	_, err := s.Renew(t.Context(), key(t), "a", claim.Fence, 1200*time.Millisecond)
	took := time.Since(start)
	server.Thaw(t)
	if took > time.Second {
		t.Errorf("gave up after %v, want two sixths of the lease of 1.2s", took)
	}
	if e, ok := errors.AsType[*idempotency.StoreError](err); !ok || e.NotDone || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a StoreError of unknown outcome by a deadline", err)
	}
}

func TestStore_AbsentServerIsNamed(t *testing.T) {
	t.Parallel()
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	s := newStore(t, c, redisstore.Options{})
	for op, err := range map[string]error{
		"verify": s.Verify(t.Context()),
		"begin":  func() error { _, err := s.Begin(t.Context(), key(t), "a", time.Minute, time.Minute); return err }(),
	} {
		e, ok := errors.AsType[*idempotency.StoreError](err)
		if !ok || !e.NotDone || e.Op != op || !strings.Contains(err.Error(), "redis 127.0.0.1:1") {
			t.Errorf("%s: got %v, want a StoreError that names the address and says that nothing was done", op, err)
		}
	}
}

func TestVerify_WarnsOfAnUnfitServerAndRefusesItIfStrict(t *testing.T) {
	t.Parallel()
	fit := redistest.Start(t, "appendonly", "yes")
	unfit := redistest.Start(t, "maxmemory-policy", "allkeys-lru")
	replica := redistest.Start(t, "appendonly", "yes", "replicaof", strings.Replace(fit.Addr, ":", " ", 1))
	for _, c := range []struct {
		name   string
		server *redistest.Server
		want   []string
	}{
		{"fit", fit, nil},
		{"unfit", unfit, []string{"allkeys-lru", "append-only"}},
		{"replica", replica, []string{"its role is slave"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			warn := newStore(t, c.server.Client(t), redisstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err := warn.Verify(t.Context()); err != nil {
				t.Fatalf("got %v, want warnings at most", err)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != len(c.want) {
				t.Errorf("%d warnings, want %d:\n%s", n, len(c.want), &log)
			}
			strict := newStore(t, c.server.Client(t), redisstore.Options{Strict: true})
			err := redisstore.Gate(t.Context(), strict)
			if (err == nil) != (c.want == nil) {
				t.Fatalf("strict: got %v", err)
			}
			for _, part := range append(c.want[:len(c.want):len(c.want)], c.server.Addr) {
				if err != nil && !strings.Contains(err.Error(), part) || c.want != nil && !strings.Contains(log.String(), part) {
					t.Errorf("%q is missing in %v or in %s", part, err, &log)
				}
			}
		})
	}
	// A replica refuses the claim; that says nothing about the key.
	s := newStore(t, replica.Client(t), redisstore.Options{})
	_, err := s.Begin(t.Context(), key(t), "a", time.Minute, time.Minute)
	if e, ok := errors.AsType[*idempotency.StoreError](err); !ok || e.NotDone || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("got %v, want a StoreError", err)
	}
}

func TestNew_RefusesBadInput(t *testing.T) {
	t.Parallel()
	if _, err := redisstore.New(nil, redisstore.Options{}); err == nil {
		t.Error("no client is accepted")
	}
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer c.Close()
	if _, err := redisstore.New(c, redisstore.Options{Tries: -1}); err == nil {
		t.Error("negative tries are accepted")
	}
}

func TestStore_ClosedRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, c := bubbleClient(t, redis.Options{})
		s := newStore(t, c, redisstore.Options{})
		for range 2 {
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Begin(t.Context(), key(t), "a", time.Second, time.Second)
		if e, ok := errors.AsType[*idempotency.StoreError](err); !ok || !e.NotDone {
			t.Errorf("got %v, want a StoreError that says that nothing was done", err)
		}
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Errorf("the client was closed with the store: %v", err)
		}
	})
}

// A record of another kind is not ours to overwrite.
func TestStore_ForeignKeyIsAnError(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := server.Client(t)
	s := newStore(t, c, redisstore.Options{})
	if err := c.Set(t.Context(), "{"+string(key(t))+"}:s", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(t.Context(), key(t), "a", time.Minute, time.Minute); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("got %v, want WRONGTYPE", err)
	}
}

const stoppedConsumer = "SLUICE_TEST_STOPPED_CONSUMER"

// consumer is a handler in a process of its own, and what ends it.
func consumer(t *testing.T, addr string, next sdk.ConsumeFunc) (handle sdk.ConsumeFunc, stop func()) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	s, err := redisstore.New(c, redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := idempotency.New(idempotency.Params{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	handle, err = d.Wrap(sdk.ListenerInfo{Name: "l", Group: "g"}, idempotency.Config{Lease: time.Second}, next)
	if err != nil {
		t.Fatal(err)
	}
	return handle, func() {
		d.Close()
		_ = s.Close(t.Context())
		_ = c.Close()
	}
}

// runStopped is the child: it works until it may not any more.
func runStopped(t *testing.T, addr string, m *sdk.Delivery) {
	handle, stop := consumer(t, addr, func(ctx context.Context, _ *sdk.Delivery) error {
		fence, _ := idempotency.Fence(ctx)
		fmt.Printf("running %d\n", fence)
		for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(time.Millisecond) {
			if err := idempotency.Check(ctx); err != nil {
				fmt.Printf("check says lost: %v\n", errors.Is(err, idempotency.ErrLeaseLost))
				return err
			}
		}
		return nil
	})
	defer stop()
	_, deferred := listener.AsDefer(handle(t.Context(), m))
	fmt.Printf("deferred %v\n", deferred)
}

// TestMatrix_Row02_StoppedProcess stops a consumer process for longer than its
// lease. When it goes on, the first thing it asks tells it that it is too late.
func TestMatrix_Row02_StoppedProcess(t *testing.T) {
	t.Parallel()
	m := &sdk.Delivery{Topic: "t", ID: "1"}
	if addr := os.Getenv(stoppedConsumer); addr != "" {
		runStopped(t, addr, m)
		return
	}
	server := redistest.Start(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run", "^"+t.Name()+"$", "-test.count=1")
	child.Env = append(os.Environ(), stoppedConsumer+"="+server.Addr)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect := func(prefix string) string {
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				return rest
			}
		}
		t.Fatalf("the child ended without %q", prefix)
		return ""
	}
	first := expect("running ")
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var second uint64
	handle, stop := consumer(t, server.Addr, func(ctx context.Context, _ *sdk.Delivery) error {
		second, _ = idempotency.Fence(ctx)
		return nil
	})
	defer stop()
	busy := 0
	for ; ; busy++ {
		err := handle(t.Context(), m)
		if err == nil {
			break
		}
		wait, ok := listener.AsDefer(err)
		if !ok || busy > 20 {
			t.Fatalf("got %v, want a deferral until the lease ends", err)
		}
		time.Sleep(wait)
	}
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := expect("check says lost: "); got != "true" {
		t.Errorf("Check in the stopped process: lost %s, want true", got)
	}
	if got := expect("deferred "); got != "true" {
		t.Errorf("the stopped process: deferred %s, want true", got)
	}
	if fmt.Sprint(second) <= first || busy == 0 {
		t.Errorf("fence %d after %s, %d times busy", second, first, busy)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := child.Wait(); err != nil {
		t.Errorf("the child: %v", err)
	}
}
