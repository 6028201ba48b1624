package embedded_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Fifteen check-backs, their pauses, and the end: parked, and resolved late.
func TestChecks_FifteenThenParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		tx := k.conn.Extensions().Tx
		start := time.Now()
		h, err := tx.Prepare(t.Context(), "p", &driver.Message{Topic: "t", Body: []byte("m")})
		k.must("prepare", err)
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		done := make(chan error)
		go func() {
			done <- tx.Checks(ctx, "p", 4, func(_ context.Context, _ driver.Half, d *driver.Delivery, check int) driver.Decision {
				at = append(at, time.Since(start))
				if check != len(at) || string(d.Body) != "m" {
					t.Errorf("check %d of %q is number %d", check, d.Body, len(at))
				}
				if check == 3 {
					panic("a checker with a bug") // counts as undecided
				}
				return driver.Undecided
			})
		}()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		want, next, pause := []time.Duration{}, 6*time.Second, 30*time.Second
		for range 15 {
			want = append(want, next)
			next += pause
			pause = min(2*pause, 16*30*time.Second)
		}
		if len(at) != 15 {
			t.Fatalf("%d checks, want 15", len(at))
		}
		for i := range want {
			if early := want[i] - at[i]; early > 0 || early < -20*time.Millisecond {
				t.Errorf("check %d came after %v, want %v", i+1, at[i], want[i])
			}
		}
		parked, err := tx.Parked(t.Context(), 10)
		if err != nil || len(parked) != 1 || parked[0].Checks != 15 || string(parked[0].Message.Body) != "m" {
			t.Fatalf("parked: %+v, %v", parked, err)
		}
		cancel()
		k.must("Checks", <-done)
		k.crash()
		tx = k.conn.Extensions().Tx
		parked, err = tx.Parked(t.Context(), 10)
		if err != nil || len(parked) != 1 || parked[0].Half.TxID != h.TxID {
			t.Fatalf("parked after a crash: %+v, %v", parked, err)
		}
		k.must("commit", tx.Resolve(t.Context(), h, driver.Commit))
		k.must("commit again", tx.Resolve(t.Context(), parked[0].Half, driver.Commit))
		c := k.join(k.conn, spec("g", "t"))
		c.fetch("t/0", 1)
		c.none("t/0", "one commit, one message")
	})
}

// Without a member nothing is asked and nothing is counted, however long.
func TestChecks_NoMember(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		tx := k.conn.Extensions().Tx
		for i := range 100 {
			_, err := tx.Prepare(t.Context(), "p", &driver.Message{Topic: "t", ID: fmt.Sprint("tx-", i)})
			k.must("prepare", err)
		}
		time.Sleep(24 * time.Hour)
		back := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var asked atomic.Int32
		go func() {
			_ = tx.Checks(ctx, "p", 8, func(_ context.Context, _ driver.Half, _ *driver.Delivery, check int) driver.Decision {
				if check != 1 {
					t.Errorf("check %d, want 1", check)
				}
				asked.Add(1)
				return driver.Rollback
			})
		}()
		synctest.Wait()
		if n := asked.Load(); n != 100 || time.Since(back) > time.Second {
			t.Errorf("%d of 100 were asked after %v", n, time.Since(back))
		}
	})
}

// A member that leaves while it is being asked has not answered.
func TestChecks_LeavingMemberCountsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		tx := k.conn.Extensions().Tx
		_, err := tx.Prepare(t.Context(), "p", &driver.Message{Topic: "t"})
		k.must("prepare", err)
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				done <- tx.Checks(ctx, "p", 1, func(ctx context.Context, _ driver.Half, _ *driver.Delivery, check int) driver.Decision {
					if check != 1 {
						t.Errorf("check %d, want 1", check)
					}
					cancel()
					<-ctx.Done()
					time.Sleep(time.Second) // it is no member any more when it answers
					return driver.Undecided
				})
			}()
			k.must("Checks", <-done)
		}
		if time.Sleep(time.Minute); t.Failed() {
			return
		}
		asked := make(chan int, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			_ = tx.Checks(ctx, "p", 1, func(_ context.Context, _ driver.Half, _ *driver.Delivery, check int) driver.Decision {
				asked <- check
				return driver.Rollback
			})
		}()
		if check := <-asked; check != 1 {
			t.Errorf("check %d, want 1", check)
		}
	})
}

func TestHalf_Refusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 2})
		tx := k.conn.Extensions().Tx
		for what, m := range map[string]*driver.Message{
			"no message": nil,
			"a delay":    {Topic: "t", DeliverAt: time.Now().Add(time.Hour)},
			"bad queue":  {Topic: "t", Queue: 2, QueueSet: true},
			"bad topic":  {Topic: "a/b"},
		} {
			_, err := tx.Prepare(t.Context(), "p", m)
			wantCode(t, "prepare with "+what, err, driver.InvalidArgument)
		}
		h, err := tx.Prepare(t.Context(), "p", &driver.Message{Topic: "t", ID: "tx"})
		k.must("prepare", err)
		other, err := tx.Prepare(t.Context(), "q", &driver.Message{Topic: "t", ID: "tx"})
		k.must("prepare for another group", err)
		mixed := h
		mixed.Handle = other.Handle // a guess: another half of the same store
		wantCode(t, "commit with the handle of another half", tx.Resolve(t.Context(), mixed, driver.Commit), driver.NotFound)
		mixed = h
		mixed.Group = "q"
		wantCode(t, "commit with another group", tx.Resolve(t.Context(), mixed, driver.Commit), driver.NotFound)
		foreign, err := embedded.Open("", embedded.Config{})
		k.must("open another store", err)
		defer func() { _ = foreign.Close(t.Context()) }()
		fh, err := foreign.Connect("c").Extensions().Tx.Prepare(t.Context(), "p", &driver.Message{Topic: "t", ID: "tx"})
		k.must("prepare in another store", err)
		wantCode(t, "commit with the handle of another store", tx.Resolve(t.Context(), fh, driver.Commit), driver.NotFound)
		k.must("nothing was decided", tx.Resolve(t.Context(), h, driver.Commit))
	})
}

// The state machine of half messages against a broker that crashes: what was
// answered holds, a decision that was on its way may hold or not, and a message
// is visible exactly if its half is committed, and once.
func TestHalf_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		for i := range uint64(2) { // with -rapid.checks=1000, 2,000 runs
			synctest.Test(t, func(t *testing.T) {
				m := newHalfModel(newKit(t, embedded.Config{Queues: 1, CheckMax: 2}), seed+i)
				for range steps {
					m.step()
				}
				m.verify()
				if t.Failed() {
					t.Logf("SEED=%d steps=%d", seed+i, steps)
				}
			})
		}
	})
}

type halfModel struct {
	*kit
	r       *rand.Rand
	halves  map[string]driver.Half     // prepared and answered
	decided map[string]driver.Decision // answered
	maybe   map[string]bool            // somebody gave up waiting
	checker context.CancelFunc
	left    chan error
}

func newHalfModel(k *kit, seed uint64) *halfModel {
	m := &halfModel{
		kit: k, r: rand.New(rand.NewPCG(seed, 1)), halves: map[string]driver.Half{},
		decided: map[string]driver.Decision{}, maybe: map[string]bool{},
	}
	k.Cleanup(m.leave)
	return m
}

func (m *halfModel) id() string { return fmt.Sprint("tx-", m.r.IntN(6)) }

func (m *halfModel) tx() driver.Transactor { return m.conn.Extensions().Tx }

func (m *halfModel) step() {
	switch n := m.r.IntN(20); {
	case n < 6:
		m.prepare(m.id())
	case n < 13:
		m.resolve(m.id(), driver.Decision(1+m.r.IntN(2)))
	case n < 14:
		m.stranger(m.id())
	case n < 16:
		time.Sleep(time.Duration(m.r.IntN(120)) * time.Second)
	case n < 17:
		m.check()
	case n < 18:
		m.leave()
	case n < 19:
		m.crashLater()
	default:
		m.leave()
		m.reopen()
	}
}

func (m *halfModel) prepare(id string) {
	h, err := m.tx().Prepare(m.Context(), "p", &driver.Message{Topic: "t", ID: id, Body: []byte(id)})
	m.must("prepare "+id, err)
	if first, ok := m.halves[id]; ok && string(first.Handle) != string(h.Handle) {
		m.Errorf("prepare %s again: another half", id)
	}
	m.halves[id] = h
}

func (m *halfModel) resolve(id string, d driver.Decision) {
	h, ok := m.halves[id]
	if !ok {
		return
	}
	err := m.tx().Resolve(m.Context(), h, d)
	before, was := m.decided[id]
	switch {
	case err == nil && was && before != d:
		m.Errorf("%s was decided as %v and now as %v", id, before, d)
	case err == nil:
		m.decided[id] = d
	case driver.CodeOf(err) != driver.FailedPrecondition:
		m.Errorf("%v %s: %v", d, id, err)
	case was && before == d:
		m.Errorf("%v %s repeats a decision and is refused: %v", d, id, err)
	case !was && !m.maybe[id] && m.checker == nil:
		m.Errorf("%v %s is refused, yet nobody has decided: %v", d, id, err)
	case !was:
		m.decided[id] = driver.Commit + driver.Rollback - d
	}
}

func (m *halfModel) stranger(id string) {
	h, ok := m.halves[id]
	if !ok {
		return
	}
	h.Group = "strangers"
	wantCode(m, "decision by another group", m.tx().Resolve(m.Context(), h, driver.Commit), driver.NotFound)
}

// check joins the producer group with a checker that decides some by itself;
// what it decided is learned later.
func (m *halfModel) check() {
	if m.checker != nil {
		return
	}
	for id := range m.halves {
		m.maybe[id] = true
	}
	ctx, cancel := context.WithCancel(m.Context())
	m.checker, m.left = cancel, make(chan error, 1)
	tx, left := m.tx(), m.left
	seed := m.r.Uint64()
	go func() {
		r := rand.New(rand.NewPCG(seed, 2))
		left <- tx.Checks(ctx, "p", 1, func(context.Context, driver.Half, *driver.Delivery, int) driver.Decision {
			return driver.Decision(r.IntN(3))
		})
	}()
}

func (m *halfModel) leave() {
	if m.checker != nil {
		m.checker()
		<-m.left
		m.checker = nil
	}
	for id := range m.halves { // those that came while it was there
		m.maybe[id] = true
	}
}

// crashLater crashes with decisions on their way that nobody waits for.
func (m *halfModel) crashLater() {
	m.leave()
	gone, cancel := context.WithCancel(m.Context())
	for _, id := range slices.Sorted(maps.Keys(m.halves)) {
		if _, was := m.decided[id]; !was && m.r.IntN(2) == 0 {
			m.maybe[id] = true
			go func() { _ = m.tx().Resolve(gone, m.halves[id], driver.Decision(1+len(id)%2)) }()
		}
	}
	if m.r.IntN(2) == 0 {
		synctest.Wait()
	}
	after := m.fs.CrashClone(vfs.CrashOptions{Keep: []float64{0, 0.5, 1}[m.r.IntN(3)], Rand: m.r})
	cancel()
	synctest.Wait()
	_ = m.b.Close(gone)
	m.fs = after
	m.open()
}

// verify asks for every decision and counts what is visible.
func (m *halfModel) verify() {
	m.leave()
	want := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(m.halves)) {
		if _, was := m.decided[id]; !was {
			m.resolve(id, driver.Rollback)
		}
		if m.decided[id] == driver.Commit {
			want[id] = true
		}
		again := driver.Commit + driver.Rollback - m.decided[id]
		wantCode(m, "the opposite of a decision", m.tx().Resolve(m.Context(), m.halves[id], again), driver.FailedPrecondition)
	}
	if parked, err := m.tx().Parked(m.Context(), 10); err != nil || len(parked) > 0 {
		m.Errorf("everything is decided, parked: %+v, %v", parked, err)
	}
	if len(m.halves) == 0 {
		return
	}
	seen := map[string]bool{}
	ds, err := m.conn.Extensions().Query.Browse(m.Context(), "t", 0, 0, 1000)
	m.must("browse", err)
	for _, d := range ds {
		if seen[d.ID] {
			m.Errorf("%s is visible twice", d.ID)
		}
		seen[d.ID] = true
	}
	if !maps.Equal(seen, want) {
		m.Errorf("visible: %v, committed: %v", seen, want)
	}
}
