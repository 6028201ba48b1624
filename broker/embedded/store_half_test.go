package embedded_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// resolve decides a half message and answers what became of it.
func (k *kit) resolve(id embedded.HalfID, d driver.Decision) (embedded.PutResult, error) {
	k.Helper()
	p := k.store().Resolve(id, d)
	defer p.Release()
	rs, err := p.Wait(k.Context())
	if err != nil {
		return embedded.PutResult{}, err
	}
	if rs[0].Err != nil {
		return rs[0], rs[0].Err
	}
	return rs[0], nil
}

func TestStore_Resolve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 3)
		h := half("t", "p", "tx")
		h.Queue = 1
		r := k.put(h)[0]
		other := k.put(half("t", "p", "tx2"))[0]
		id := embedded.HalfID{Group: "p", Tx: "tx", Pos: r.Pos}
		for what, bad := range map[string]embedded.HalfID{
			"another group": {Group: "q", Tx: "tx", Pos: r.Pos}, "another id": {Group: "p", Tx: "tx2", Pos: r.Pos},
			"another position": {Group: "p", Tx: "tx", Pos: other.Pos}, "no position": {Group: "p", Tx: "tx"},
			"a wild position": {Group: "p", Tx: "tx", Pos: 1 << 50}, "a position below zero": {Group: "p", Tx: "tx", Pos: -1}, "nothing": {},
		} {
			for _, d := range []driver.Decision{driver.Commit, driver.Rollback} {
				_, err := k.resolve(bad, d)
				wantCode(t, d.String()+" of "+what, err, driver.NotFound)
			}
		}
		for _, d := range []driver.Decision{driver.Undecided, 3, 255} {
			_, err := k.resolve(id, d)
			wantCode(t, "no decision", err, driver.InvalidArgument)
		}
		got, err := k.resolve(id, driver.Commit)
		k.must("commit", err)
		if got.Queue != 1 || got.Offset != 0 || got.Pos <= r.Pos || got.StoredMs == 0 {
			t.Errorf("committed as %+v", got)
		}
		ms := every(t, k.queue("t", 1), 0)
		if len(ms) != 1 || ms[0].PhysicalOffset != got.Pos || ms[0].PreparedTransactionOffset != r.Pos || message.Property(ms[0].Properties, message.TranMsg) != "true" {
			t.Errorf("got %+v", ms)
		}
		id2 := embedded.HalfID{Group: "p", Tx: "tx2", Pos: other.Pos}
		_, err = k.resolve(id2, driver.Rollback)
		k.must("roll back", err)
		for range 2 {
			_, err = k.resolve(id, driver.Commit)
			k.must("commit again", err)
			_, err = k.resolve(id, driver.Rollback)
			wantCode(t, "roll back what was committed", err, driver.FailedPrecondition)
			_, err = k.resolve(id2, driver.Rollback)
			k.must("roll back again", err)
			_, err = k.resolve(id2, driver.Commit)
			wantCode(t, "commit what was rolled back", err, driver.FailedPrecondition)
			if n := k.queue("t", 0).Max() + k.queue("t", 1).Max(); n != 1 {
				t.Errorf("%d messages, want 1", n)
			}
			k.crash()
		}
	})
}

// Decisions of one round: the first one counts, all hear of its fate.
func TestStore_ResolveAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := slowKit(t, 10*time.Millisecond)
		k.topic("t", 1)
		s := k.store()
		var ids []embedded.HalfID
		for i := range 50 {
			tx := fmt.Sprint("tx", i)
			ids = append(ids, embedded.HalfID{Group: "p", Tx: tx, Pos: k.put(half("t", "p", tx))[0].Pos})
		}
		start := time.Now()
		type asked struct {
			p *embedded.Pending
			d driver.Decision
		}
		all := make([][]asked, len(ids))
		for i, id := range ids {
			for j := range 4 {
				d := driver.Commit
				if (i>>j)&1 == 1 {
					d = driver.Rollback
				}
				all[i] = append(all[i], asked{s.Resolve(id, d), d})
			}
		}
		want := 0
		for i, as := range all {
			if as[0].d == driver.Commit {
				want++
			}
			for j, a := range as {
				rs, err := a.p.Wait(t.Context())
				switch {
				case err != nil:
					t.Fatal(err)
				case a.d == as[0].d && rs[0].Err != nil:
					t.Errorf("decision %d of %d: %v", j, i, rs[0].Err)
				case a.d != as[0].d:
					wantCode(t, "against the first", rs[0].Err, driver.FailedPrecondition)
				}
				a.p.Release()
			}
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if n := k.queue("t", 0).Max(); n != int64(want) {
			t.Errorf("%d messages are visible, want %d", n, want)
		}
	})
}

// asker is a client elsewhere of a producer group.
type asker struct {
	name string
	mu   sync.Mutex
	got  []string
	at   []time.Duration
	sent bool
	then func(embedded.Check)
}

func (k *kit) asker(group, name string, start time.Time) (a *asker, leave func()) {
	a = &asker{name: name, sent: true}
	return a, k.store().Checks(group, func(c embedded.Check) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got = append(a.got, fmt.Sprintf("%s %d", c.Tx, c.Number))
		a.at = append(a.at, time.Since(start).Round(10*time.Millisecond))
		m := records(k, c.Record)
		if len(m) != 1 || m[0].Topic != "t" || m[0].QueueID != 1 || m[0].PhysicalOffset != c.Pos || c.Group != group || string(m[0].Body) != c.Tx {
			k.Errorf("asked for %+v with %+v", c, m)
		}
		if a.then != nil && a.sent {
			go a.then(c)
		}
		return a.sent
	})
}

func (k *kit) half(tx string, more ...string) embedded.HalfID {
	k.Helper()
	h := half("t", "p", tx)
	h.Queue, h.Extra = 1, append(h.Extra, props(more...)...)
	return embedded.HalfID{Group: "p", Tx: tx, Pos: k.put(h)[0].Pos}
}

// Questions to a client elsewhere: their times, their numbers, and the end, which
// leaves the last one its time.
func TestStoreChecks_UntilParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 2, CheckMax: 4})
		k.topic("t", 2)
		start := time.Now()
		a, leave := k.asker("p", "a", start)
		id := k.half("tx")
		parked := func() int {
			ps, err := k.conn.Extensions().Tx.Parked(t.Context(), 10)
			k.must("parked", err)
			return len(ps)
		}
		time.Sleep(6*time.Second + (30+60+120+239)*time.Second)
		synctest.Wait()
		if want := []string{"tx 1", "tx 2", "tx 3", "tx 4"}; !slices.Equal(a.got, want) {
			t.Errorf("asked %q, want %q", a.got, want)
		}
		if want := []time.Duration{6 * time.Second, 36 * time.Second, 96 * time.Second, 216 * time.Second}; !slices.Equal(a.at, want) {
			t.Errorf("asked at %v, want %v", a.at, want)
		}
		if parked() != 0 {
			t.Error("the last question still may be answered")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if parked() != 1 || len(a.got) != 4 {
			t.Errorf("parked %d, asked %q", parked(), a.got)
		}
		time.Sleep(24 * time.Hour)
		if len(a.got) != 4 {
			t.Errorf("asked %q", a.got)
		}
		leave()
		leave()
		k.crash()
		_, err := k.resolve(id, driver.Commit)
		k.must("the answer comes after all", err)
		wantTexts(t, "committed", every(t, k.queue("t", 1), 0), "tx")
	})
}

// An answer, also to the last question, ends it.
func TestStoreChecks_Answers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 2, CheckMax: 2})
		k.topic("t", 2)
		a, leave := k.asker("p", "a", time.Now())
		defer leave()
		a.then = func(c embedded.Check) {
			time.Sleep(time.Second)
			d := map[string]driver.Decision{"first": driver.Commit, "last": driver.Rollback}[c.Tx]
			if c.Tx == "last" && c.Number == 1 {
				return // it does not know yet
			}
			_, err := k.resolve(c.HalfID, d)
			k.must("resolve", err)
		}
		k.half("first")
		k.half("last")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		slices.Sort(a.got)
		if want := []string{"first 1", "last 1", "last 2"}; !slices.Equal(a.got, want) {
			t.Errorf("asked %q, want %q", a.got, want)
		}
		wantTexts(t, "committed", every(t, k.queue("t", 1), 0), "first")
		if ps, err := k.conn.Extensions().Tx.Parked(t.Context(), 10); err != nil || len(ps) > 0 {
			t.Errorf("parked %+v, %v", ps, err)
		}
	})
}

// A question that was not sent does not count, and the next member is asked.
func TestStoreChecks_NotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 2, CheckMax: 2})
		k.topic("t", 2)
		a, leaveA := k.asker("p", "a", time.Now())
		a.sent = false
		k.half("tx")
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(a.got); n < 3000 || n > 3600 || slices.ContainsFunc(a.got, func(s string) bool { return s != "tx 1" }) {
			t.Errorf("asked %d times in an hour, the last time %q", n, a.got[n-1])
		}
		b, leaveB := k.asker("p", "b", time.Now())
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if want := []string{"tx 1"}; !slices.Equal(b.got, want) {
			t.Errorf("b was asked %q, want %q", b.got, want)
		}
		leaveA()
		leaveB()
		before := len(a.got) + len(b.got)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(a.got)+len(b.got) != before {
			t.Error("nobody is there")
		}
		c, leaveC := k.asker("p", "c", time.Now())
		time.Sleep(time.Second)
		leaveC()
		if want := []string{"tx 2"}; !slices.Equal(c.got, want) {
			t.Errorf("c was asked %q, want %q", c.got, want)
		}
	})
}

// Half messages may wish not to be asked for so soon.
func TestStoreChecks_Immunity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 2, CheckMax: 1})
		k.topic("t", 2)
		start := time.Now()
		a, leave := k.asker("p", "a", start)
		defer leave()
		for tx, wish := range map[string]string{"none": "0", "short": "2", "long": "300", "nonsense": "soon", "below": "-1", "huge": "99999999999"} {
			k.half(tx, message.CheckImmunitySeconds, wish)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		got := map[string]time.Duration{}
		for i, what := range a.got {
			got[what] = a.at[i]
		}
		for _, tx := range []string{"none", "short", "nonsense", "below", "huge"} {
			if at := got[tx+" 1"]; at != 6*time.Second {
				t.Errorf("%s was asked for at %v", tx, at)
			}
		}
		if at := got["long 1"]; at != 300*time.Second || len(a.got) != 6 {
			t.Errorf("long was asked for at %v, all: %q", at, a.got)
		}
	})
}

// Members in this process and elsewhere take turns, and share the count.
func TestStoreChecks_Mixed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 2, CheckMax: 3})
		k.topic("t", 2)
		a, leaveA := k.asker("p", "a", time.Now())
		b, leaveB := k.asker("p", "b", time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var here []string
		done := make(chan error)
		go func() {
			done <- k.conn.Extensions().Tx.Checks(ctx, "p", 1, func(_ context.Context, h driver.Half, d *driver.Delivery, n int) driver.Decision {
				mu.Lock()
				defer mu.Unlock()
				here = append(here, fmt.Sprintf("%s %d", h.TxID, n))
				return driver.Undecided
			})
		}()
		synctest.Wait()
		for i := range 30 {
			k.half(fmt.Sprintf("tx%02d", i))
			time.Sleep(1100 * time.Millisecond) // so that each has room when its turn comes
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		leaveA()
		leaveB()
		cancel()
		k.must("checks", <-done)
		all := slices.Concat(a.got, b.got, here)
		slices.Sort(all)
		var want []string
		for i := range 30 {
			for n := range 3 {
				want = append(want, fmt.Sprintf("tx%02d %d", i, n+1))
			}
		}
		if !slices.Equal(all, want) {
			t.Errorf("asked %q, want each three times", all)
		}
		for what, n := range map[string]int{"a": len(a.got), "b": len(b.got), "here": len(here)} {
			if n < 28 || n > 32 {
				t.Errorf("%s was asked %d times of 90", what, n)
			}
		}
		ps, err := k.conn.Extensions().Tx.Parked(t.Context(), 100)
		if err != nil || len(ps) != 30 {
			t.Fatalf("%d are parked, %v", len(ps), err)
		}
		for _, p := range ps {
			if p.Checks != 3 {
				t.Errorf("%s was asked for %d times", p.Half.TxID, p.Checks)
			}
		}
	})
}

// The close of a broker waits for a question that is on its way, and asks no
// more, though nobody has left.
func TestStoreChecks_Close(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 2})
		k.topic("t", 2)
		k.half("tx1")
		k.half("tx2")
		asked := make(chan struct{}, 10)
		ended := 0
		leave := k.store().Checks("p", func(embedded.Check) bool {
			asked <- struct{}{}
			time.Sleep(500 * time.Millisecond)
			ended++
			return true
		})
		<-asked
		k.must("close", k.b.Close(t.Context()))
		if ended != 1 || len(asked) > 0 {
			t.Errorf("%d questions have ended, %d more were asked", ended, len(asked))
		}
		leave()
	})
}
