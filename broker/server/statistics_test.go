package server

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// counting is a server that only counts.
func counting(most int) *Server {
	return &Server{counts: newStatistics(time.Now(), most)}
}

func near(a, b float64) bool { return math.Abs(a-b) < 0.01 }

// Ten messages a second for two hours: each window shows its own part of it,
// whatever the time of the look.
func TestStatistics_Windows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := counting(10)
		st := s.counts
		for i := range 2 * 3600 {
			time.Sleep(time.Second)
			s.countPut("T", 10, 1000)
			s.countGet("G", "T", 5, 500)
			s.countGet("G", "T", 5, 500)
			st.tick()
			if i%977 != 700 {
				continue
			}
			topic, group := st.find("T", "G")
			minute, hour, day := st.windows(&topic.put)
			got, _, _ := st.windows(&group.got)
			for _, w := range []struct {
				name  string
				w     window
				least time.Duration
				most  time.Duration
			}{
				{"minute", minute, time.Minute, 70 * time.Second},
				{"hour", hour, min(time.Hour, time.Duration(i)*time.Second), 71 * time.Minute},
				{"day", day, time.Duration(i) * time.Second, 24 * time.Hour},
				{"minute of the group", got, time.Minute, 70 * time.Second},
			} {
				if w.w.span < w.least || w.w.span > w.most {
					t.Errorf("after %d s: the %s spans %v", i, w.name, w.w.span)
				}
				if r := w.w.perSecond(w.w.messages); !near(r, 10) {
					t.Errorf("after %d s: %v messages a second in the last %s, want 10", i, r, w.name)
				}
				if r := w.w.perSecond(w.w.bytes); !near(r, 1000) {
					t.Errorf("after %d s: %v bytes a second in the last %s, want 1000", i, r, w.name)
				}
			}
			if r := got.perCall(got.messages); !near(r, 5) {
				t.Errorf("%v messages a pull, want 5", r)
			}
		}
	})
}

// What stops is forgotten by each window in its time, also when nobody ticks
// meanwhile.
func TestStatistics_Silence(t *testing.T) {
	t.Parallel()
	for _, ticks := range []bool{true, false} {
		t.Run(fmt.Sprint("ticks ", ticks), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := counting(10)
				st := s.counts
				s.countPut("T", 60, 0)
				pass := func(d time.Duration) {
					for end := time.Now().Add(d); ticks && time.Now().Before(end); {
						time.Sleep(time.Second)
						st.tick()
					}
					if !ticks {
						time.Sleep(d)
					}
				}
				sums := func() [3]int64 {
					topic, _ := st.find("T", "")
					minute, hour, day := st.windows(&topic.put)
					return [3]int64{minute.messages, hour.messages, day.messages}
				}
				for _, step := range []struct {
					after time.Duration
					want  [3]int64
				}{
					{0, [3]int64{60, 60, 60}},
					{50 * time.Second, [3]int64{60, 60, 60}},
					{30 * time.Second, [3]int64{0, 60, 60}},
					{80 * time.Minute, [3]int64{0, 0, 60}},
					{26 * time.Hour, [3]int64{0, 0, 0}},
				} {
					pass(step.after)
					if got := sums(); got != step.want {
						t.Errorf("after %v more: minute, hour and day have %v, want %v", step.after, got, step.want)
					}
				}
			})
		})
	}
}

func TestStatistics_Mornings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(midnight(time.Now()).AddDate(0, 0, 1).Add(12 * time.Hour))) // noon
		s := counting(10)
		st := s.counts
		look := func() mornings {
			st.tick()
			return st.days
		}
		s.countPut("T", 5, 0)
		s.countGet("G", "T", 2, 0)
		if d := look(); d.putToday != 0 || d.putBefore != 0 {
			t.Errorf("on the first day: %+v", d)
		}
		time.Sleep(24 * time.Hour)
		if d := look(); d.putToday != 5 || d.getToday != 2 || d.putBefore != 0 {
			t.Errorf("on the second day: %+v", d)
		}
		s.countPut("T", 7, 0)
		time.Sleep(24 * time.Hour)
		if d := look(); d.putToday != 12 || d.putBefore != 5 || d.getBefore != 2 {
			t.Errorf("on the third day: %+v", d)
		}
		time.Sleep(72 * time.Hour)
		if d := look(); d.putToday != 12 || d.putBefore != 12 {
			t.Errorf("after three silent days: %+v", d)
		}
	})
}

// No count is lost to others who count, and the number of counters is bounded.
func TestStatistics_Concurrent(t *testing.T) {
	t.Parallel()
	s := counting(3)
	st := s.counts
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				topic := fmt.Sprint("T", (w+i)%3)
				s.countPut(topic, 1, 10)
				s.countGet(fmt.Sprint("G", i%3), topic, 1, 10)
				s.countGet("", topic, 0, 0)
				s.countSendBack("G0", topic)
				if i%100 == 0 {
					st.tick()
				}
			}
		})
	}
	wg.Wait()
	var put, got int64
	for i := range 3 {
		topic, _ := st.find(fmt.Sprint("T", i), "")
		put += topic.put.now().messages
		for j := range 3 {
			if _, g := st.find(fmt.Sprint("T", i), fmt.Sprint("G", j)); g != nil {
				got += g.got.now().messages
			}
		}
	}
	if put != 8000 || got != 8000 || st.put.now() != (amounts{8000, 80000, 8000}) || st.missed.calls.Load() != 8000 {
		t.Errorf("%d put and %d got are counted by topic, %v and %d misses by the broker", put, got, st.put.now(), st.missed.calls.Load())
	}
	s.countPut("one more", 1, 1)
	s.countGet("one more", "T0", 1, 1)
	if topic, _ := st.find("one more", ""); topic != nil {
		t.Error("a fourth topic is counted by itself, the limit is 3")
	}
	if _, g := st.find("T0", "one more"); g != nil {
		t.Error("a fourth group is counted by itself, the limit is 3")
	}
	st.forgetTopic("T0")
	st.forgetGroup("G1")
	if topic, _ := st.find("T0", ""); topic != nil {
		t.Error("a forgotten topic is there")
	}
	if _, g := st.find("T1", "G1"); g != nil {
		t.Error("a forgotten group is there")
	}
	if r := st.putRate("T0") + st.getRate("T1", "G1"); r != 0 {
		t.Errorf("rate %v of what is forgotten", r)
	}
}

func BenchmarkStatistics_Count(b *testing.B) {
	s := counting(1000)
	for i := range 500 {
		s.countGet("G", fmt.Sprint("T", i), 1, 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.countPut("T7", 1, 1024)
		s.countGet("G", "T7", 1, 1024)
	}
}
