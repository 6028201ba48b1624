package embedded

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// describe writes down everything that a state holds.
func (s *state) describe(ids []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.topics)) {
		t := s.topics[name]
		fmt.Fprintf(&b, "topic %s origins %q\n", name, t.origins)
		for i, q := range t.queues {
			entries := make([]segindex.Entry, q.Max()-q.Min())
			n := 0
			for n < len(entries) {
				got, err := q.Read(q.Min()+int64(n), entries[n:])
				if err != nil {
					return err.Error()
				}
				n += got
			}
			for o, e := range entries {
				fmt.Fprintf(&b, "  %d/%d %+v\n", i, q.Min()+int64(o), e)
			}
		}
		for _, id := range ids {
			fmt.Fprintf(&b, "  id %s at %v, key at %v\n", id, s.found(byID, name, id), s.found(byKey, name, id))
		}
	}
	fmt.Fprintf(&b, "delayed %x\n", s.delays.AppendTo(nil))
	for _, id := range ids {
		fmt.Fprintf(&b, "half %+v\n", s.halves.Get(halves.ID{Group: "p", Tx: id}))
	}
	for _, k := range slices.SortedFunc(maps.Keys(s.positions), func(a, b progressKey) int {
		return slices.Compare([]string{a.group, a.topic, a.client}, []string{b.group, b.topic, b.client})
	}) {
		p := s.positions[k]
		for _, n := range slices.Sorted(maps.Keys(p.lanes)) {
			fmt.Fprintf(&b, "position %+v lane %+v\n", k, p.lanes[n])
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(s.settings), settingKey.compare) {
		fmt.Fprintf(&b, "settings of %+v %q\n", k, s.settings[k])
	}
	return b.String()
}

func (s *state) found(kind byte, topic, key string) (at []int64) {
	_ = s.set.Lookup(keyHash(kind, topic, key), func(pos int64) bool {
		at = append(at, pos)
		return true
	})
	return at
}

// comesBack reports whether a checkpoint of s is read back as it was.
func (s *state) comesBack() bool {
	loaded, payload := newState(nil), s.snapshot(0).encode()
	return loaded.decode(payload) == nil && bytes.Equal(payload, loaded.snapshot(0).encode())
}

// eager fetches from every lane and settles each delivery somehow.
type eager struct {
	t  *testing.T
	wg sync.WaitGroup
	n  int
	mu sync.Mutex
}

func (e *eager) outcome() (driver.Outcome, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	return driver.Outcome(1 + e.n%4), time.Duration(e.n%3) * time.Second
}

func (e *eager) Assigned(l driver.Lane) {
	e.wg.Go(func() {
		for {
			ds, err := l.Fetch(e.t.Context(), 2)
			if err != nil {
				return
			}
			for _, d := range ds {
				o, delay := e.outcome()
				_ = l.Settle(e.t.Context(), []driver.Settlement{{Delivery: d, Outcome: o, Delay: delay}})
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

func (*eager) Revoked(context.Context, driver.Lane) {}
func (*eager) Lost(driver.Lane)                     {}

// administer does what a server does beside messages.
func administer(ctx context.Context, s *Store, do int, topic, group, id string) {
	switch do {
	case 10:
		_ = s.PutTopic(ctx, Topic{Name: topic, Queues: 1 + int(topic[1]+group[1])%5, Settings: []byte(id)})
	case 11:
		_ = s.PutGroup(ctx, Group{Name: group, Settings: []byte(topic)})
	case 12:
		_ = s.DeleteGroup(ctx, group, topic != "t0")
	case 13:
		_ = s.EnsureRetry(ctx, group, []string{topic, "t0"})
		_ = s.DeleteTopic(ctx, retryTopic("g1"))
	case 14:
		s.Cursor(group, topic, 0).Commit(3)
		s.Cursor(group, retryTopic(group), 0).Commit(1)
		s.Join(group, "elsewhere", []string{topic})
	case 15:
		half := Put{
			Topic: topic, Group: "p", Tx: id, Body: []byte("half"),
			Properties: message.AppendProperties(nil, map[string]string{message.UniqKey: id, message.ProducerGroup: "p"}),
		}
		again := Put{Topic: retryTopic(group), Group: group, RetryOf: topic, DueMs: s.NowMs() + 1000}
		_, _ = s.Put([]Put{half, again, {Topic: topic, Queue: 1}}).Wait(ctx)
	}
}

// The log is the only truth: a replay arrives at the state of the broker that
// wrote it, whatever happened.
func TestState_ReplayIsEqual(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		type step struct{ Do, A, B int }
		gen := rapid.Custom(func(t *rapid.T) step {
			return step{rapid.IntRange(0, 15).Draw(t, "do"), rapid.IntRange(0, 3).Draw(t, "a"), rapid.IntRange(0, 3).Draw(t, "b")}
		})
		steps := rapid.SliceOfN(gen, 1, 40).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			mem := vfs.NewMem()
			b, err := Open("", Config{FS: mem, Queues: 2, CheckMax: 1})
			if err != nil {
				t.Fatal(err)
			}
			c := b.Connect("c")
			ext, ctx := c.Extensions(), t.Context()
			store, err := b.Store(ctx)
			if err != nil {
				t.Fatal(err)
			}
			ids := []string{"id-0", "id-1", "id-2", "id-3"}
			ev := &eager{t: t}
			subs := map[string]driver.Subscription{}
			var known []driver.Half
			for _, s := range steps {
				topic := fmt.Sprint("t", s.A)
				m := &driver.Message{Topic: topic, ID: ids[s.B], Keys: ids[:s.B], Tag: "x", Body: []byte("body")}
				switch s.Do {
				case 0, 1:
					c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{m, m}})
				case 2:
					m.DeliverAt = time.Now().Add(time.Duration(s.B) * time.Minute)
					c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{m}})
				case 3:
					if h, err := ext.Tx.Prepare(ctx, "p", m); err == nil {
						known = append(known, h)
					}
				case 4:
					if len(known) > 0 {
						_ = ext.Tx.Resolve(ctx, known[s.A%len(known)], driver.Decision(1+s.B%2))
					}
				case 5:
					spec := driver.SubscribeSpec{Group: fmt.Sprint("g", s.B), Topic: topic, Broadcast: s.B == 3, Ordered: s.B == 2}
					key := spec.Group + topic
					if subs[key] == nil {
						if sub, err := c.Subscribe(ctx, spec, ev); err == nil {
							subs[key] = sub
						}
					}
				case 6:
					for key, sub := range subs {
						if strings.HasSuffix(key, topic) {
							_ = sub.Close(ctx)
							delete(subs, key)
						}
					}
				case 7:
					_ = ext.Topics.DeleteTopic(ctx, topic)
				case 8:
					time.Sleep(time.Duration(s.A*s.B) * 17 * time.Second)
				case 9:
					_ = ext.Groups.ResetOffsets(ctx, fmt.Sprint("g", s.B), topic, driver.Position{Kind: driver.PositionKind(s.A)})
				default:
					administer(ctx, store, s.Do, topic, fmt.Sprint("g", s.B), ids[s.B])
				}
			}
			synctest.Wait() // nothing is on its way
			live := b.attempt.engine.st.describe(ids)
			again, err := Open("", Config{FS: mem.CrashClone(vfs.CrashOptions{})})
			if err != nil {
				t.Fatal(err)
			}
			replayed := again.attempt.engine.st.describe(ids)
			if live != replayed {
				t.Errorf("steps %v\nlive:\n%s\nreplayed:\n%s", steps, live, replayed)
			}
			if !b.attempt.engine.st.comesBack() {
				t.Errorf("steps %v: a checkpoint says other things when it is read back", steps)
			}
			for _, b := range []*Broker{again, b} {
				if err := b.Close(ctx); err != nil {
					t.Error(err)
				}
			}
			ev.wg.Wait()
		})
	})
}
