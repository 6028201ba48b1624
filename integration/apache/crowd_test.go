package apache

import (
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/integration/internal/peer"
)

// crowd lets tests that share a broker agree on its crash: it comes when every
// test under way waits for it or is done, so that none is hit unprepared and one
// restart serves them all.
type crowd struct {
	cluster *peer.Cluster
	began   time.Time // when its broker was ready at the latest

	mu      sync.Mutex
	changed *sync.Cond
	inside  int // tests under way
	waiting int // those that want the crash
	crashes int
	busy    bool  // the broker is away
	err     error // of the last start
}

func newCrowd(c *peer.Cluster) *crowd {
	w := &crowd{cluster: c, began: time.Now()}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// enter begins a test. It waits for a broker that is away.
func (w *crowd) enter() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy {
		w.changed.Wait()
	}
	w.inside++
}

// leave ends one.
func (w *crowd) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inside--
	w.changed.Broadcast()
}

// crash returns when the broker was killed and is back.
func (w *crowd) crash(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting++
	w.changed.Broadcast()
	for before := w.crashes; w.crashes == before; {
		if w.waiting < w.inside || w.busy {
			w.changed.Wait()
			continue
		}
		w.busy = true
		w.mu.Unlock()
		var err error
		apart(func() { err = w.restart() })
		w.mu.Lock()
		w.busy, w.err, w.waiting = false, err, 0
		w.crashes++
		w.changed.Broadcast()
	}
	if w.err != nil {
		t.Fatalf("start the broker again: %v", w.err)
	}
}

// restart kills the broker and starts it.
func (w *crowd) restart() error {
	// RocketMQ's brokers write positions to their disk from time to time only,
	// and not before they have run for ten seconds; that is not what is tried here.
	time.Sleep(max(3*positionsEvery, time.Until(w.began.Add(11*time.Second))))
	w.cluster.Masters[0].Kill()
	defer func() { w.began = time.Now() }()
	return w.cluster.Masters[0].Start()
}
