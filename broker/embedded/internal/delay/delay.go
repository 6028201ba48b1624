// Package delay orders messages by the time they become due.
package delay

import "container/heap"

// Item is one message that waits.
type Item struct {
	// DueMs is when it becomes due, in milliseconds of the broker's time.
	DueMs int64
	// Pos is the position of its frame.
	Pos int64
	// Topic is where it goes.
	Topic string
}

// Queue holds what waits. The owner guards it.
type Queue struct {
	waiting map[int64]Item // by position; what is not in it is stale in order
	order   order
}

// New makes an empty queue.
func New() *Queue { return &Queue{waiting: map[int64]Item{}} }

// Add puts a message in. It reports whether it is the next one to become due.
func (q *Queue) Add(it Item) (first bool) {
	q.waiting[it.Pos] = it
	heap.Push(&q.order, it)
	head, ok := q.Head()
	return ok && head.Pos == it.Pos
}

// Done takes the message at pos out; it reports whether it was in.
func (q *Queue) Done(pos int64) bool {
	_, ok := q.waiting[pos]
	delete(q.waiting, pos)
	return ok
}

// Waits reports whether the message at pos is in.
func (q *Queue) Waits(pos int64) bool {
	_, ok := q.waiting[pos]
	return ok
}

// DropTopic takes out everything that would go to topic.
func (q *Queue) DropTopic(topic string) {
	for pos, it := range q.waiting {
		if it.Topic == topic {
			delete(q.waiting, pos)
		}
	}
}

// Len is the number of messages that wait.
func (q *Queue) Len() int { return len(q.waiting) }

// Head is the message that becomes due next.
func (q *Queue) Head() (Item, bool) {
	q.clean()
	if len(q.order) == 0 {
		return Item{}, false
	}
	return q.order[0], true
}

// Due appends to buf the messages that are due at now, at most limit, in the
// order of their due times; equal ones in the order they were stored. They
// stay in until Done.
func (q *Queue) Due(now int64, limit int, buf []Item) []Item {
	from := len(buf)
	for len(buf)-from < limit {
		head, ok := q.Head()
		if !ok || head.DueMs > now {
			break
		}
		buf = append(buf, heap.Pop(&q.order).(Item))
	}
	for _, it := range buf[from:] {
		heap.Push(&q.order, it)
	}
	return buf
}

// clean drops stale heads.
func (q *Queue) clean() {
	for len(q.order) > 0 {
		if _, ok := q.waiting[q.order[0].Pos]; ok {
			return
		}
		heap.Pop(&q.order)
	}
}

type order []Item

func (o order) Len() int { return len(o) }
func (o order) Less(i, j int) bool {
	if o[i].DueMs != o[j].DueMs {
		return o[i].DueMs < o[j].DueMs
	}
	return o[i].Pos < o[j].Pos
}
func (o order) Swap(i, j int) { o[i], o[j] = o[j], o[i] }
func (o *order) Push(x any)   { *o = append(*o, x.(Item)) }
func (o *order) Pop() any {
	last := len(*o) - 1
	it := (*o)[last]
	*o = (*o)[:last]
	return it
}
