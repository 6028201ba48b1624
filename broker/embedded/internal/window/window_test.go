package window_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/internal/window"
)

// model is the window said plainly: what state each offset is in.
type model struct {
	ordered bool
	next    int64
	state   map[int64]string // "out", "settling", "waiting"; settled ones are not in it
	at      map[int64]time.Time
	failed  map[int64]int
	held    map[int64]*window.Flight
	old     []*window.Flight // ended by an abandon or a seek
}

func (m *model) unsettled() []int64 {
	var out []int64
	for o := range m.state {
		out = append(out, o)
	}
	slices.Sort(out)
	return out
}

// again is what a fetch at now gets first, -1 for nothing.
func (m *model) again(now time.Time) int64 {
	best := int64(-1)
	for o, s := range m.state {
		if s != "waiting" {
			continue
		}
		if best < 0 || m.ordered && o < best || !m.ordered && (m.at[o].Before(m.at[best]) || m.at[o].Equal(m.at[best]) && o < best) {
			best = o
		}
	}
	if best >= 0 && m.at[best].After(now) {
		return -1
	}
	return best
}

func TestWindow_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			ordered: rapid.Bool().Draw(t, "ordered"), state: map[int64]string{}, at: map[int64]time.Time{},
			failed: map[int64]int{}, held: map[int64]*window.Flight{},
		}
		w := window.New(m.ordered, 0, nil)
		now := time.Unix(1000, 0)
		pick := func(state string) (int64, bool) {
			var all []int64
			for o, s := range m.state {
				if s == state {
					all = append(all, o)
				}
			}
			if len(all) == 0 {
				return 0, false
			}
			slices.Sort(all)
			return rapid.SampledFrom(all).Draw(t, state), true
		}
		t.Repeat(map[string]func(*rapid.T){
			"take": func(*rapid.T) {
				o := m.next
				m.held[o] = take(w, o)
				m.next, m.state[o], m.failed[o] = o+1, "out", 0
			},
			"skip": func(*rapid.T) {
				w.Skip(m.next)
				m.next++
			},
			"again": func(t *rapid.T) {
				f, want := w.Again(now), m.again(now)
				if (f == nil) != (want < 0) || f != nil && (f.Offset != want || f.Failed != m.failed[want]) {
					t.Fatalf("Again: got %+v, want offset %d with %d failures", f, want, m.failed[want])
				}
				if f != nil {
					m.held[want], m.state[want] = f, "out"
				}
			},
			"begin": func(t *rapid.T) {
				if o, ok := pick("out"); ok {
					if !w.Begin(m.held[o]) || w.Begin(m.held[o]) {
						t.Fatalf("Begin of %d must succeed once", o)
					}
					m.state[o] = "settling"
				}
			},
			"discard": func(t *rapid.T) {
				state := rapid.SampledFrom([]string{"out", "waiting", "settling"}).Draw(t, "state")
				o, ok := pick(state)
				if !ok {
					return
				}
				f := w.Find(o)
				if f == nil || w.Discard(f) != (state != "settling") {
					t.Fatalf("Discard of %d, which is %s, answered otherwise", o, state)
				}
				if state != "settling" {
					delete(m.state, o)
				}
			},
			"settle": func(*rapid.T) {
				if o, ok := pick("settling"); ok {
					w.Settle(m.held[o])
					delete(m.state, o)
				}
			},
			"undo": func(*rapid.T) {
				if o, ok := pick("settling"); ok {
					w.Undo(m.held[o])
					m.state[o] = "out"
				}
			},
			"return": func(t *rapid.T) {
				if o, ok := pick("settling"); ok {
					delay := time.Duration(rapid.IntRange(0, 3).Draw(t, "delay")) * time.Second
					failed := rapid.Bool().Draw(t, "failed")
					w.Return(m.held[o], now.Add(delay), failed)
					m.state[o], m.at[o] = "waiting", now.Add(delay)
					if failed {
						m.failed[o]++
					}
				}
			},
			"pass": func(*rapid.T) { now = now.Add(time.Second) },
			"abandon": func(*rapid.T) {
				for o, s := range m.state { // a lane ends with nothing half settled here
					if s == "settling" {
						w.Undo(m.held[o])
						m.state[o] = "out"
					}
				}
				w.Abandon()
				for o, s := range m.state {
					if s == "out" {
						m.state[o], m.at[o] = "waiting", time.Time{}
						m.old = append(m.old, m.held[o])
					}
				}
			},
			"reopen": func(*rapid.T) { // what a restart keeps
				w = window.New(m.ordered, m.next, w.Unsettled())
				for o := range m.state {
					m.state[o], m.at[o], m.failed[o] = "waiting", time.Time{}, 0
				}
				m.old = nil
			},
			"late": func(t *rapid.T) {
				for _, f := range m.old {
					if w.Begin(f) {
						t.Fatalf("a delivery of an ended lane, offset %d, could be settled", f.Offset)
					}
				}
			},
			"": func(t *rapid.T) {
				u := m.unsettled()
				if got := w.Unsettled(); !slices.Equal(got, u) || w.InFlight() != len(u) || w.Next() != m.next {
					t.Fatalf("unsettled %v, next %d; want %v, %d", got, w.Next(), u, m.next)
				}
				want := m.next
				if len(u) > 0 {
					want = u[0]
				}
				if got := w.Position(); got != want {
					t.Fatalf("position %d, want %d", got, want)
				}
			},
		})
	})
}

func TestWindow_Blocked(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, ordered := range []bool{true, false} {
		w := window.New(ordered, 0, nil)
		f := take(w, 0)
		w.Begin(f)
		w.Return(f, now.Add(time.Minute), false)
		all, some := w.Blocked(now)
		if !some.Equal(now.Add(time.Minute)) || ordered != !all.IsZero() {
			t.Errorf("ordered %v: blocked until %v, first return at %v", ordered, all, some)
		}
		if all, some := w.Blocked(now.Add(time.Minute)); !all.IsZero() || !some.IsZero() {
			t.Errorf("ordered %v: still blocked when the time has come: %v, %v", ordered, all, some)
		}
	}
}

// A settlement that was on its way when the lane ended counts if it succeeds,
// and else the message comes again.
func TestWindow_SettlingOverTheEnd(t *testing.T) {
	t.Parallel()
	w := window.New(false, 0, nil)
	a, b := take(w, 0), take(w, 1)
	w.Begin(a)
	w.Begin(b)
	w.Abandon()
	w.Settle(a)
	w.Undo(b)
	if got := w.Unsettled(); !slices.Equal(got, []int64{1}) {
		t.Fatalf("unsettled %v, want the one whose settlement failed", got)
	}
	if f := w.Again(time.Now()); f == nil || f.Offset != 1 {
		t.Fatalf("got %+v, want offset 1 again", f)
	}
}

// After a seek, what was fetched before may be settled and moves nothing.
func TestWindow_SettleAfterReset(t *testing.T) {
	t.Parallel()
	w := window.New(false, 0, nil)
	old := take(w, 0)
	w.Reset(0)
	now := take(w, 0)
	if !w.Begin(old) || w.Begin(old) {
		t.Fatal("a delivery from before the seek can be settled once")
	}
	w.Settle(old)
	if got := w.Unsettled(); !slices.Equal(got, []int64{0}) {
		t.Fatalf("unsettled %v, want offset 0, which was fetched again", got)
	}
	w.Begin(now)
	w.Settle(now)
	if w.Position() != 1 {
		t.Fatalf("position %d, want 1", w.Position())
	}
}

// One message that is never settled must not cost memory for each one behind it.
func TestWindow_StuckHead(t *testing.T) {
	t.Parallel()
	w := window.New(false, 0, nil)
	take(w, 0)
	for o := int64(1); o < 100_000; o++ {
		f := take(w, o)
		w.Begin(f)
		w.Settle(f)
	}
	if w.Position() != 0 || w.InFlight() != 1 || w.Next() != 100_000 {
		t.Fatalf("position %d, in flight %d, next %d", w.Position(), w.InFlight(), w.Next())
	}
}

// take is Take with memory of its own.
func take(w *window.Window, offset int64) *window.Flight {
	f := new(window.Flight)
	w.Take(offset, f)
	return f
}
