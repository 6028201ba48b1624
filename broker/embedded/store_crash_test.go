package embedded_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/offline"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// keeps is what a store is to keep beside messages: settings, numbers of queues
// and positions, each under a name.
type keeps map[string]string

// kept is what a store says of it.
func kept(s *embedded.Store) keeps {
	out := keeps{}
	for _, t := range s.Topics() {
		if strings.HasPrefix(t.Name, "%") {
			continue
		}
		out["queues of "+t.Name] = fmt.Sprint(t.Queues)
		out["settings of topic "+t.Name] = string(t.Settings)
	}
	for _, g := range s.Groups() {
		out["settings of group "+g.Name] = string(g.Settings)
		for _, topic := range s.Consumed(g.Name) {
			t, _ := s.Topic(topic)
			for n := range t.Queues {
				if at, ok := s.Cursor(g.Name, topic, n).Position(); ok {
					out[fmt.Sprintf("position of %s on %s/%d", g.Name, topic, n)] = fmt.Sprint(at)
				}
			}
		}
	}
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}

// administer does one thing and says what is then to be kept.
func administer(ctx context.Context, s *embedded.Store, r *rand.Rand, now keeps) (do func() error, then keeps) {
	topic, group, v := fmt.Sprint("t", r.IntN(3)), fmt.Sprint("g", r.IntN(3)), strings.Repeat(fmt.Sprint("v", r.IntN(1000)), r.IntN(300))
	then = maps.Clone(now)
	switch r.IntN(8) {
	case 0, 1, 2:
		queues := 1 + r.IntN(4)
		have := 0
		fmt.Sscan(now["queues of "+topic], &have)
		then["queues of "+topic], then["settings of topic "+topic] = fmt.Sprint(max(have, queues)), v
		for n := have; n < queues; n++ {
			for i := range 3 {
				g := fmt.Sprint("g", i)
				if slices.ContainsFunc(slices.Collect(maps.Keys(now)), func(k string) bool { return strings.HasPrefix(k, fmt.Sprintf("position of %s on %s/", g, topic)) }) {
					then[fmt.Sprintf("position of %s on %s/%d", g, topic, n)] = "0"
				}
			}
		}
		do = func() error {
			return s.PutTopic(ctx, embedded.Topic{Name: topic, Queues: queues, Settings: []byte(v)})
		}
	case 3, 4:
		then["settings of group "+group] = v
		do = func() error { return s.PutGroup(ctx, embedded.Group{Name: group, Settings: []byte(v)}) }
	case 5:
		positions := r.IntN(2) == 0
		delete(then, "settings of group "+group)
		if positions {
			maps.DeleteFunc(then, func(k, _ string) bool { return strings.HasPrefix(k, "position of "+group+" ") })
		}
		do = func() error { return s.DeleteGroup(ctx, group, positions) }
	case 6:
		maps.DeleteFunc(then, func(k, _ string) bool {
			return k == "queues of "+topic || k == "settings of topic "+topic || strings.Contains(k, " on "+topic+"/")
		})
		do = func() error {
			if err := s.DeleteTopic(ctx, topic); driver.CodeOf(err) != driver.NotFound {
				return err
			}
			return nil
		}
	default:
		if _, ok := s.Queue(topic, 0); ok {
			if q, _ := s.Queue(topic, 0); q.Max() > 0 {
				then[fmt.Sprintf("position of %s on %s/0", group, topic)] = fmt.Sprint(q.Max())
			}
		}
		do = func() error {
			if q, ok := s.Queue(topic, 0); ok && q.Max() > 0 {
				s.Cursor(group, topic, 0).Commit(q.Max())
			}
			if rs, err := s.Put([]embedded.Put{{Topic: topic, Body: []byte("m")}}).Wait(ctx); err != nil {
				return err
			} else if rs[0].Err != nil && rs[0].Err.Code != driver.NotFound {
				return rs[0].Err
			}
			time.Sleep(time.Second)
			return nil
		}
	}
	maps.DeleteFunc(then, func(_, v string) bool { return v == "" })
	return do, then
}

// A power cut in front of any change of the disk: what was answered is there,
// what was on its way may be, piece by piece, and nothing else has changed.
func TestStore_SettingsOverPowerCuts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		at := rapid.IntRange(1, 120).Draw(rt, "at")
		opts := vfs.CrashOptions{Keep: rapid.SampledFrom([]float64{0, 0.3, 0.7, 1}).Draw(rt, "keep"), Stale: rapid.SampledFrom([]float64{0, 0.5}).Draw(rt, "stale")}
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 4))
			opts.Rand = rand.New(rand.NewPCG(seed, 5)) // drawn from by whoever meets the cut
			mem := vfs.NewMem()
			var left atomic.Pointer[vfs.Mem] // what the power cut leaves
			var armed atomic.Bool
			n := 0 // of the hook, which has one caller at a time
			before, after := keeps{}, keeps{}
			fs := vfs.Inject(mem, func(op vfs.Op) error {
				if !armed.Load() || !op.Kind.Changes() {
					return nil
				}
				if n++; n == at {
					left.Store(mem.CrashClone(opts))
				}
				return nil
			})
			k := &kit{TB: t, fs: mem}
			b, err := embedded.Open("", embedded.Config{Queues: 1, FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			k.b = b
			armed.Store(true)
			var trace []string
			for i := 0; i < 60 && left.Load() == nil; i++ {
				if r.IntN(15) == 0 { // a checkpoint is written
					k.must("close", b.Close(t.Context()))
					if b, err = embedded.Open("", embedded.Config{Queues: 1, FS: fs}); err != nil {
						t.Fatal(err)
					}
					k.b = b
					continue
				}
				do, then := administer(t.Context(), k.store(), r, before)
				after = then
				k.must("administer", do())
				if left.Load() == nil {
					before = then
					trace = append(trace, fmt.Sprint(then))
				}
			}
			k.must("close", k.b.Close(t.Context()))
			if k.fs = left.Load(); k.fs == nil {
				k.fs, after = mem, before
			}
			k.cfg = embedded.Config{}
			for _, how := range []string{"opened", "closed and opened"} {
				k.open()
				compareKept(t, how, kept(k.store()), before, after)
				k.must("close", k.b.Close(t.Context()))
				if rep, err := offline.Verify(t.Context(), k.fs); err != nil || len(rep.Damage) > 0 {
					t.Errorf("%s: verify says %+v, %v", how, rep.Damage, err)
				}
			}
			if t.Failed() {
				t.Logf("SEED=%d at %d\n%s", seed, at, strings.Join(trace, "\n"))
			}
		})
	})
}

// compareKept requires that each piece is as it was, or as it was to become.
func compareKept(t *testing.T, how string, got, before, after keeps) {
	t.Helper()
	names := maps.Clone(got)
	maps.Copy(names, before)
	maps.Copy(names, after)
	for name := range names {
		if got[name] != before[name] && got[name] != after[name] {
			t.Errorf("%s: %s is %.40q, want %.40q or %.40q", how, name, got[name], before[name], after[name])
		}
	}
}

// Damage of a frame of settings, or of a deletion, refuses the store like any
// other; without it the store keeps what was said before, and goes on.
func TestStore_DamagedSettings(t *testing.T) {
	t.Parallel()
	for _, kind := range []offline.Kind{offline.KindSettings, offline.KindGroupDeleted} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, small)
				settings := func(v string) {
					k.must("put", k.store().PutTopic(t.Context(), embedded.Topic{Name: "t", Queues: 1, Settings: []byte(v)}))
					k.must("put", k.store().PutGroup(t.Context(), embedded.Group{Name: "g", Settings: []byte(v)}))
				}
				settings("first")
				k.fill("t", 0, 10)
				if kind == offline.KindGroupDeleted {
					k.must("delete", k.store().DeleteGroup(t.Context(), "g", true))
				} else {
					settings("second")
				}
				k.fill("t", 10, 10)
				k.must("close", k.b.Close(t.Context()))
				var last offline.Frame
				k.must("dump", offline.Dump(t.Context(), k.fs, func(f offline.Frame) error {
					if f.Kind == kind {
						last = f
					}
					return nil
				}))
				if last.Settings == nil || last.Settings.Name != "g" {
					t.Fatalf("the last frame is %+v", last)
				}
				for _, name := range k.files("STATE-", ".idx") {
					k.must("remove", k.fs.Remove(name))
				}
				k.damage(last.File, last.Offset+40)
				rep, err := offline.Verify(t.Context(), k.fs)
				if err != nil || len(rep.Damage) != 1 || rep.Damage[0].Offset != last.Offset {
					t.Errorf("verify says %+v, %v", rep.Damage, err)
				}
				k.cfg.FS = k.fs
				_, err = embedded.Open("", k.cfg)
				wantCode(t, "open", err, driver.Corrupt)
				k.cfg.OnCorruption = embedded.Quarantine
				k.open()
				if g, ok := k.store().Group("g"); !ok || string(g.Settings) != "first" {
					t.Errorf("group %+v, %v", g, ok)
				}
				if tp, _ := k.store().Topic("t"); kind == offline.KindSettings && string(tp.Settings) != "second" {
					t.Errorf("topic %+v", tp)
				}
				inOrder(t, texts(every(t, k.queue("t", 0), 0)), 0, 20)
				settings("third")
				k.reopen()
				if got := kept(k.store()); got["settings of group g"] != "third" || got["settings of topic t"] != "third" {
					t.Errorf("kept %v", got)
				}
			})
		})
	}
}
