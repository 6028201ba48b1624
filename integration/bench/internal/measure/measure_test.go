package measure_test

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHistogram_Quantile(t *testing.T) {
	t.Parallel()
	var a, b measure.Histogram
	for i := range 1000 {
		a.Add(time.Duration(i+1) * time.Microsecond)
	}
	b.Add(-time.Second)
	b.Add(time.Hour)
	a.Merge(&b)
	if a.Count() != 1002 {
		t.Errorf("%d counted, want 1002", a.Count())
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, 0}, {0.5, 501 * time.Microsecond}, {0.99, 991 * time.Microsecond}, {1, time.Hour}} {
		if got := a.Quantile(c.q); got < c.want-c.want/64 || got > c.want+c.want/64 {
			t.Errorf("quantile %v is %v, want about %v", c.q, got, c.want)
		}
	}
	if got := new(measure.Histogram).Quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

// TestHistogram_Exact: a value alone is its own quantile, as exact as promised.
func TestHistogram_Exact(t *testing.T) {
	t.Parallel()
	for v := time.Duration(1); v < time.Hour; v += v/7 + 1 {
		var h measure.Histogram
		h.Add(v)
		if got := h.Quantile(0.5); max(got-v, v-got) > v/64 {
			t.Fatalf("%d ns come back as %d", v, got)
		}
	}
}

func TestLoop_Run(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := measure.Loop{Workers: 4, Warm: 20 * time.Millisecond, For: 100 * time.Millisecond}
		calls := atomic.Int64{}
		r, err := l.Run(func(int) (int, error) {
			calls.Add(1)
			time.Sleep(time.Millisecond)
			return 10, nil
		})
		if err != nil || calls.Load() != 4*120 {
			t.Errorf("%d calls, %v; want 480 with the warm-up", calls.Load(), err)
		}
		if got := r.Figures()["rate"]; r.Messages != 4000 || got < 39_999 || got > 40_001 {
			t.Errorf("%d messages, %v a second; want 4000 and 40000", r.Messages, got)
		}
		if got := r.Figures()["p50_us"]; got < 990 || got > 1010 {
			t.Errorf("p50 is %v µs, want 1000", got)
		}
	})
}

func TestLoop_EndsWithTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		l := measure.Loop{Workers: 2, Warm: time.Second, For: time.Second}
		if _, err := l.Run(func(int) (int, error) { return 0, broken }); !errors.Is(err, broken) {
			t.Errorf("error %v, want %v", err, broken)
		}
	})
}

func TestShare(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[int]bool{}
	if _, err := measure.Share(10, 3, func(_, i int) error {
		mu.Lock()
		defer mu.Unlock()
		seen[i] = true
		return nil
	}); err != nil || len(seen) != 10 {
		t.Errorf("saw %v, %v", seen, err)
	}
}

// queue is a pipeline that takes a millisecond to handle a message.
type queue struct {
	f     *measure.Flow
	most  atomic.Int64 // under way
	under atomic.Int64
	in    chan int64
	done  chan struct{}
}

func newQueue(f *measure.Flow) *queue {
	q := &queue{f: f, in: make(chan int64, 1000), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		body := make([]byte, measure.BodySize)
		for stamp := range q.in {
			time.Sleep(time.Millisecond)
			measure.PutStamp(body, stamp)
			f.Handled(body)
			q.under.Add(-1)
			f.Settled(1)
		}
	}()
	return q
}

func (q *queue) Publish(_ int, stamp int64) error {
	q.most.Store(max(q.most.Load(), q.under.Add(1)))
	q.in <- stamp
	return nil
}

func (q *queue) Close() error {
	close(q.in)
	<-q.done
	return nil
}

func TestFlow_Window(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := measure.NewFlow(8, 20, 0, 100*time.Millisecond, time.Second)
		q := newQueue(f)
		r, err := f.Run(q)
		if err := errors.Join(err, q.Close()); err != nil {
			t.Fatal(err)
		}
		if r.Messages < 998 || r.Messages > 1002 || q.most.Load() > 20 {
			t.Errorf("%d messages, %d under way; want 1000 and 20 at most", r.Messages, q.most.Load())
		}
		if p50 := r.Latency.Quantile(.5); p50 < 19*time.Millisecond || p50 > 21*time.Millisecond {
			t.Errorf("p50 is %v, want that of a queue of 20", p50)
		}
	})
}

func TestFlow_Paced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := measure.NewFlow(4, 1000, 400, 100*time.Millisecond, time.Second)
		q := newQueue(f)
		r, err := f.Run(q)
		if err := errors.Join(err, q.Close()); err != nil {
			t.Fatal(err)
		}
		if r.Messages < 398 || r.Messages > 402 {
			t.Errorf("%d messages in a second, want 400", r.Messages)
		}
		if p50 := r.Latency.Quantile(.5); p50 < 980*time.Microsecond || p50 > 1020*time.Microsecond {
			t.Errorf("p50 is %v, want that of the handler", p50)
		}
	})
}

// TestRead_Servers: what a named process uses is its own and nobody else's.
func TestRead_Servers(t *testing.T) {
	t.Parallel()
	before, own := measure.CPU(os.Getpid()), measure.Read(os.Getpid())
	sum := 0
	for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); {
		sum++
	}
	s := own.Spent()
	if len(s.Served) != 1 || s.Serving() <= 0 || s.Serving() != s.Served[0] || measure.CPU(os.Getpid()) <= before {
		t.Errorf("served %v after %d turns", s.Served, sum)
	}
	if got := measure.CPU(1<<22 + 1); got != 0 {
		t.Errorf("a process that is not there has used %v", got)
	}
	r := measure.Result{Messages: 10, Latency: &measure.Histogram{}, Spent: measure.Spent{
		Elapsed: time.Second, Served: []time.Duration{time.Millisecond, time.Millisecond},
	}}
	if got := r.Figures()["server_us"]; got != 200 {
		t.Errorf("%v µs a message in the servers, want 200", got)
	}
	r.Spent.Served = nil
	if _, ok := r.Figures()["server_us"]; ok {
		t.Error("a case without servers has a figure of them")
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	a, b := measure.Body(), measure.Body()
	if len(a) != measure.BodySize || !bytes.Equal(a, b) {
		t.Errorf("%d bytes, the same: %v", len(a), bytes.Equal(a, b))
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	resident, err := measure.Memory(os.Getpid(), "VmRSS")
	anonymous, err2 := measure.Memory(os.Getpid(), "RssAnon")
	if err != nil || err2 != nil || anonymous <= 0 || anonymous > resident {
		t.Errorf("anonymous %v of %v, %v, %v", anonymous, resident, err, err2)
	}
	if _, err := measure.Memory(os.Getpid(), "VmNone"); err == nil {
		t.Error("there is a line VmNone")
	}
}
