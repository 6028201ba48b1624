package queue_test

import (
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/queue"
)

func TestQueue_Grown(t *testing.T) {
	t.Parallel()
	q := new(queue.Queue)
	grown := q.Grown(0)
	select {
	case <-grown:
		t.Fatal("an empty queue has grown")
	default:
	}
	q.Append(queue.Entry{Pos: 7})
	<-grown
	<-q.Grown(0) // closed already
	select {
	case <-q.Grown(1):
		t.Fatal("the queue holds one entry, not more")
	default:
	}
}

func TestQueue_AtTime(t *testing.T) {
	t.Parallel()
	q := new(queue.Queue)
	for i, ms := range []int64{10, 20, 20, 30} {
		q.Append(queue.Entry{Pos: int64(i), StoredMs: ms})
	}
	for ms, want := range map[int64]int64{0: 0, 10: 0, 11: 1, 20: 1, 21: 3, 30: 3, 31: 4} {
		if got := q.AtTime(ms); got != want {
			t.Errorf("at time %d: got offset %d, want %d", ms, got, want)
		}
	}
}

func TestQueue_ScanAndAt(t *testing.T) {
	t.Parallel()
	q := new(queue.Queue)
	for i := range int64(5) {
		q.Append(queue.Entry{Pos: 100 + i})
	}
	for _, o := range []int64{-1, 5} {
		if _, ok := q.At(o); ok {
			t.Errorf("there is an entry at %d", o)
		}
	}
	var seen []int64
	q.Scan(-3, func(o int64, e queue.Entry) bool {
		if e.Pos != 100+o {
			t.Errorf("offset %d has position %d", o, e.Pos)
		}
		seen = append(seen, o)
		return o < 3
	})
	if len(seen) != 4 || seen[0] != 0 {
		t.Errorf("scanned %v, want 0 to 3", seen)
	}
}
