package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	_, err := embedded.Open("", embedded.Config{Queues: -1, MaxBody: 5 << 20, MaxBatch: -1, CheckMax: -1, SegmentBytes: 1})
	wantCode(t, "open with a bad configuration", err, driver.InvalidArgument)
	for _, field := range []string{"Queues", "MaxBody", "MaxBatch", "CheckMax", "SegmentBytes"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("the error names all problems at once; %s is missing: %v", field, err)
		}
	}
}

func TestSync_String(t *testing.T) {
	t.Parallel()
	for s, want := range map[embedded.Sync]string{
		embedded.SyncAlways: "always", embedded.SyncNever: "never",
		embedded.SyncEvery(time.Second): "every 1s", embedded.SyncEvery(-time.Second): "always",
	} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// An error of Open names the path and says what to do.
func TestOpen_Errors(t *testing.T) {
	t.Parallel()
	dir := func(t *testing.T) string { return filepath.Join(t.TempDir(), "store") }
	for what, c := range map[string]struct {
		code    driver.Code
		advice  string
		prepare func(t *testing.T, dir string)
	}{
		"held by this process": {driver.FailedPrecondition, "stop the other one", func(t *testing.T, dir string) {
			b, err := embedded.Open(dir, embedded.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Close(context.Background()) })
		}},
		"a file": {driver.FailedPrecondition, "name a directory", func(t *testing.T, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"somebody else's files": {driver.FailedPrecondition, "there is no manifest, but \"photo.jpg\"; name the directory of a store, or an empty one", func(t *testing.T, dir string) {
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "photo.jpg"), []byte("x"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}},
		"without its manifests": {driver.FailedPrecondition, "its manifests are missing, a file of its log is there; nothing was changed: restore the files MANIFEST-*", func(t *testing.T, dir string) {
			b, err := embedded.Open(dir, embedded.Config{})
			if err != nil {
				t.Fatal(err)
			}
			_ = b.Connect("c").Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t", Body: make([]byte, 10)}}})
			if err := b.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			manifests, _ := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
			for _, name := range manifests {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}},
		"damaged": {driver.Corrupt, "restore", func(t *testing.T, dir string) {
			b, err := embedded.Open(dir, embedded.Config{})
			if err != nil {
				t.Fatal(err)
			}
			_ = b.Connect("c").Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t", Body: make([]byte, 5000)}}})
			if err := b.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			derived, _ := filepath.Glob(filepath.Join(dir, "STATE-*"))
			for _, name := range derived { // without them all of the log is read
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			largest := slices.MaxFunc(files, func(a, b string) int { return int(size(t, a) - size(t, b)) })
			f, err := os.OpenFile(largest, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("damage"), 2000)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := dir(t)
			c.prepare(t, dir)
			b, err := embedded.Open(dir, embedded.Config{})
			if err == nil {
				_ = b.Close(t.Context())
			}
			wantCode(t, "open", err, c.code)
			if err != nil && (!strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), c.advice)) {
				t.Errorf("the error names not the path, or not %q: %v", c.advice, err)
			}
		})
	}
}

func size(t *testing.T, name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// What makes an open fail may pass: the next use of the same broker tries again.
func TestOpen_TriesAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := embedded.Open(dir, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	second := embedded.Lazy(t, dir)
	_, err = second.Driver().Open(t.Context(), driver.Config{ClientID: "c"})
	wantCode(t, "open a store that is held", err, driver.FailedPrecondition)
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := second.Driver().Open(t.Context(), driver.Config{ClientID: "c"})
	if err != nil || c.Health(t.Context()) != nil {
		t.Errorf("open after the other has closed: %v", err)
	}
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// The promise ladder: what a power cut may take in each mode.
func TestSync_PowerCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode embedded.Sync
		keep int // of 10 messages, 100 ms apart
	}{{embedded.SyncAlways, 10}, {embedded.SyncEvery(300 * time.Millisecond), 7}, {embedded.SyncNever, 0}} {
		t.Run(c.mode.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, embedded.Config{Queues: 1, Sync: c.mode})
				if got := k.conn.Capabilities().Durable; got != (c.mode == embedded.SyncAlways) {
					t.Errorf("Durable is %v", got)
				}
				for i := range 10 {
					k.send(&driver.Message{Topic: "t", Body: fmt.Appendf(nil, "m%d", i)})
					time.Sleep(100 * time.Millisecond)
				}
				k.crash()
				ds, err := k.conn.Extensions().Query.Browse(t.Context(), "t", 0, 0, 100)
				if c.keep == 0 {
					wantCode(t, "browse what was never synced", err, driver.NotFound)
					return
				}
				k.must("browse", err)
				if len(ds) < c.keep {
					t.Errorf("%d messages survived, want %d at least", len(ds), c.keep)
				}
				for i, d := range ds {
					if want := fmt.Sprint("m", i); string(d.Body) != want {
						t.Errorf("message %d is %q, want %s: what is lost is a suffix", i, d.Body, want)
					}
				}
			})
		})
	}
}

// breaker is a file system that begins to fail.
type breaker struct{ err atomic.Pointer[error] }

func (b *breaker) fail(err error) { b.err.Store(&err) }
func (b *breaker) mend()          { b.err.Store(nil) }

func (b *breaker) fs(fs vfs.FS, kinds ...vfs.OpKind) vfs.FS {
	return vfs.Inject(fs, func(op vfs.Op) error {
		if err := b.err.Load(); err != nil && slices.Contains(kinds, op.Kind) {
			return *err
		}
		return nil
	})
}

// A failed sync is final: nothing is acknowledged any more, reading goes on,
// and the next open finds all that was acknowledged.
func TestStore_FailedSyncIsFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem, br := vfs.NewMem(), &breaker{}
		b, err := embedded.Open("", embedded.Config{Queues: 1, FS: br.fs(mem, vfs.OpSync)})
		if err != nil {
			t.Fatal(err)
		}
		k := &kit{TB: t, b: b, conn: b.Connect("main")}
		k.sendN("t", 3)
		c := k.join(k.conn, spec("g", "t"))
		br.fail(syscall.EIO)
		var wg sync.WaitGroup
		for range 8 { // all of one group commit, or after it
			wg.Go(func() {
				r := k.conn.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t", Body: []byte("lost")}}})[0]
				wantCode(t, "send while the sync fails", r.Err, driver.Unavailable)
			})
		}
		wg.Wait()
		br.mend() // it stays failed all the same
		r := k.conn.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}})[0]
		wantCode(t, "send after the sync has failed", r.Err, driver.Unavailable)
		if e, ok := errors.AsType[*driver.Error](r.Err); !ok || e.MaybeDone {
			t.Errorf("nothing of it was written, MaybeDone must be false: %v", r.Err)
		}
		wantCode(t, "health", k.conn.Health(t.Context()), driver.Unavailable)
		if got := bodies(c.fetch("t/0", 3)); !slices.Equal(got, []string{"m0", "m1", "m2"}) {
			t.Errorf("reading after the failure: got %q", got)
		}
		c.none("t/0", "what was not acknowledged is not visible")
		_ = k.b.Close(t.Context())
		k = &kit{TB: t, fs: mem.CrashClone(vfs.CrashOptions{})}
		k.open()
		defer func() { _ = k.b.Close(t.Context()) }()
		if got := bodies(k.join(k.conn, spec("new", "t")).fetch("t/0", 3)); !slices.Equal(got, []string{"m0", "m1", "m2"}) {
			t.Errorf("after opening it again: got %q", got)
		}
	})
}

// A full disk passes: writes are refused, certainly not done, and go on when
// there is room.
func TestStore_FullDiskPasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem, br := vfs.NewMem(), &breaker{}
		b, err := embedded.Open("", embedded.Config{Queues: 1, FS: br.fs(mem, vfs.OpWrite)})
		if err != nil {
			t.Fatal(err)
		}
		k := &kit{TB: t, b: b, conn: b.Connect("main")}
		defer func() { _ = k.b.Close(t.Context()) }()
		k.sendN("t", 2)
		c := k.join(k.conn, spec("g", "t"))
		ds := c.fetch("t/0", 2)
		h, err := k.conn.Extensions().Tx.Prepare(t.Context(), "p", &driver.Message{Topic: "t", ID: "tx", Body: []byte("tx")})
		k.must("prepare", err)
		k.send(&driver.Message{Topic: "t", DeliverAt: time.Now().Add(time.Second), Body: []byte("late")})
		for range 5 {
			br.fail(syscall.ENOSPC)
			r := k.conn.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t", Body: []byte("refused")}, {Topic: "new"}}})
			for _, r := range r {
				e, ok := errors.AsType[*driver.Error](r.Err)
				if !ok || e.Code != driver.ResourceExhausted || !e.Retryable || e.MaybeDone {
					t.Errorf("send to a full disk: got %v, want a retryable ResourceExhausted that is not done", r.Err)
				}
			}
			err = c.lane("t/0").Settle(t.Context(), []driver.Settlement{{Delivery: ds[0], Outcome: driver.Retry}})
			wantCode(t, "retry on a full disk", err, driver.ResourceExhausted)
			wantCode(t, "commit on a full disk", k.conn.Extensions().Tx.Resolve(t.Context(), h, driver.Commit), driver.ResourceExhausted)
			time.Sleep(3 * time.Second)                        // the delayed message becomes due, positions are to be stored
			if err := k.conn.Health(t.Context()); err != nil { // nil once the ballast was had back
				wantCode(t, "health on a full disk", err, driver.ResourceExhausted)
			}
			br.mend()
			time.Sleep(3 * time.Second)
			k.must("health with room again", k.conn.Health(t.Context()))
		}
		c.settle("t/0", driver.Retry, 0, ds[0])
		k.must("commit", k.conn.Extensions().Tx.Resolve(t.Context(), h, driver.Commit))
		k.send(&driver.Message{Topic: "t", Body: []byte("after")})
		if got := bodies(c.fetch("t/0", 3)); !slices.Equal(got, []string{"late", "tx", "after"}) {
			t.Errorf("got %q", got)
		}
		if got := c.fetch("%RETRY%g/0", 1)[0]; string(got.Body) != "m0" || got.Attempt != 2 {
			t.Errorf("redelivery: %q, attempt %d", got.Body, got.Attempt)
		}
		c.none("%RETRY%g/0", "one retry succeeded")
	})
}

// The n-th change of the file system fails, for every n: what was answered
// holds after a crash, what was surely refused is not there, and nothing hangs.
func TestStore_ErrorAtEveryCall(t *testing.T) {
	t.Parallel()
	for what, failure := range map[string]error{"EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC} {
		for _, sticky := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s sticky %v", what, sticky), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					clean := false
					synctest.Test(t, func(t *testing.T) { clean = errorAtCall(t, n, failure, sticky) })
					if clean || t.Failed() {
						t.Logf("%d calls", n)
						return
					}
				}
			})
		}
	}
}

// errorAtCall reports whether the workload ended before the n-th change.
func errorAtCall(t *testing.T, n int, failure error, sticky bool) (clean bool) {
	mem := vfs.NewMem()
	var calls atomic.Int32
	fs := vfs.Inject(mem, func(op vfs.Op) error {
		if !op.Kind.Changes() {
			return nil
		}
		if at := int(calls.Add(1)); at == n || sticky && at > n {
			return failure
		}
		return nil
	})
	sent := map[string]error{}
	b, err := embedded.Open("", embedded.Config{Queues: 1, FS: fs, MaxBody: 128 << 10, SegmentBytes: 256 << 10})
	if err == nil {
		conn := b.Connect("main")
		send := func(id string, size int) {
			r := conn.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t", ID: id, Body: make([]byte, size)}}})[0]
			sent[id] = r.Err
		}
		for i := range 4 {
			send(fmt.Sprint("small-", i), 10)
		}
		send("large-1", 128<<10)
		send("large-2", 128<<10) // in the next segment
		c := &consumer{lanes: map[string]driver.Lane{}}
		if sub, err := conn.Subscribe(t.Context(), spec("g", "t"), c); err == nil {
			synctest.Wait()
			if l := c.lanes["t/0"]; l != nil {
				ds, _ := l.Fetch(t.Context(), 2)
				for _, d := range ds {
					_ = l.Settle(t.Context(), []driver.Settlement{{Delivery: d, Outcome: driver.Retry}})
				}
			}
			_ = sub.Close(t.Context())
		}
		time.Sleep(10 * time.Second) // positions, checkpoint
		send("last", 10)
		err = b.Close(t.Context())
	}
	if clean = int(calls.Load()) < n; clean && err != nil {
		t.Errorf("nothing failed: %v", err)
	}
	k := &kit{TB: t, fs: mem.CrashClone(vfs.CrashOptions{})}
	k.open()
	defer func() { _ = k.b.Close(t.Context()) }()
	for id, err := range sent {
		d, lookup := k.conn.Extensions().Query.ByID(t.Context(), "t", id)
		e, _ := errors.AsType[*driver.Error](err)
		switch {
		case err == nil && d == nil:
			t.Errorf("call %d: %s was acknowledged and is lost: %v", n, id, lookup)
		case err != nil && d != nil && !e.MaybeDone:
			t.Errorf("call %d: %s was refused as not done (%v), and is there", n, id, err)
		}
	}
	return clean
}

// Close may come at any time, from anywhere, and ends everything.
func TestClose_AnyTime(t *testing.T) {
	t.Parallel()
	for i := range 40 {
		b, err := embedded.Open("", embedded.Config{CheckAfter: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		ctx := t.Context()
		for j := range 4 {
			conn := b.Connect(fmt.Sprint("c", j))
			tx := conn.Extensions().Tx
			wg.Go(func() {
				for conn.Send(ctx, driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}})[0].Err == nil {
				}
			})
			wg.Go(func() {
				for n := 0; ; n++ {
					sub, err := conn.Subscribe(ctx, spec(fmt.Sprint("g", n%3), "t"), &consumer{lanes: map[string]driver.Lane{}})
					if err != nil {
						return
					}
					if n%2 == 0 {
						_ = sub.Close(ctx)
					}
				}
			})
			wg.Go(func() {
				for {
					if _, err := tx.Prepare(ctx, "p", &driver.Message{Topic: "t"}); err != nil {
						return
					}
				}
			})
			wg.Go(func() {
				_ = tx.Checks(ctx, "p", 2, func(context.Context, driver.Half, *driver.Delivery, int) driver.Decision { return driver.Commit })
			})
			if j == 0 {
				wg.Go(func() { time.Sleep(time.Duration(i%7) * time.Millisecond); _ = conn.Close(ctx) })
			}
		}
		for range 2 {
			wg.Go(func() {
				time.Sleep(time.Duration(i%5) * time.Millisecond)
				if err := b.Close(ctx); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		wg.Wait()
		wantCode(t, "use a closed broker", b.Connect("late").Health(ctx), driver.Closed)
		_, err = b.Driver().Open(ctx, driver.Config{ClientID: "late"})
		wantCode(t, "connect to a closed broker", err, driver.Closed)
	}
}
