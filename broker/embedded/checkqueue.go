package embedded

// smallQueue is the capacity below which queues of checks give nothing back.
const smallQueue = 1024

// checkHeap orders checks by their time, then by position: a heap with four
// children a node.
type checkHeap []check

func (k check) before(o check) bool {
	return k.dueMs < o.dueMs || k.dueMs == o.dueMs && k.pos < o.pos
}

// push reports whether k is the next one now.
func (h *checkHeap) push(k check) (first bool) {
	*h = append(*h, k)
	s, i := *h, len(*h)-1
	for i > 0 {
		parent := (i - 1) / 4
		if !k.before(s[parent]) {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = k
	return i == 0
}

func (h checkHeap) head() (check, bool) {
	if len(h) == 0 {
		return check{}, false
	}
	return h[0], true
}

// take appends to buf the checks that are due at now, at most limit, in order.
func (h *checkHeap) take(now int64, limit int, buf []check) []check {
	for ; limit > 0 && len(*h) > 0 && (*h)[0].dueMs <= now; limit-- {
		buf = append(buf, h.pop())
	}
	if cap(*h) > smallQueue && len(*h) < cap(*h)/4 {
		*h = append(make(checkHeap, 0, cap(*h)/2), *h...)
	}
	return buf
}

func (h *checkHeap) pop() check {
	s, last := *h, len(*h)-1
	first, k := s[0], s[last]
	s = s[:last]
	*h = s
	i := 0
	for child := 1; child < last; child = 4*i + 1 {
		least := child
		for o := child + 1; o < min(child+4, last); o++ {
			if s[o].before(s[least]) {
				least = o
			}
		}
		if !s[least].before(k) {
			break
		}
		s[i] = s[least]
		i = least
	}
	if last > 0 {
		s[i] = k
	}
	return first
}

// checkQueue holds checks in order.
type checkQueue struct {
	all  []check
	from int // what lies before was popped
}

func (q *checkQueue) len() int { return len(q.all) - q.from }

func (q *checkQueue) push(k check) {
	if len(q.all) == cap(q.all) && q.from > len(q.all)/2 {
		q.shift()
	}
	q.all = append(q.all, k)
}

// shift moves what is held to the front, into less room if little is held.
func (q *checkQueue) shift() {
	q.settle(q.all[:copy(q.all, q.all[q.from:])])
}

// settle makes held, which begins where the room does, all there is.
func (q *checkQueue) settle(held []check) {
	if cap(held) > smallQueue && len(held) < cap(held)/4 {
		held = append([]check(nil), held...) // slices.Clone of nothing would keep the room
	}
	q.all, q.from = held, 0
}

// pushFront makes k the next one.
func (q *checkQueue) pushFront(k check) {
	if q.from == 0 {
		room := 8 + len(q.all)/4
		q.all = append(make([]check, room, room+len(q.all)), q.all...)
		q.from = room
	}
	q.from--
	q.all[q.from] = k
}

// pop takes the next one out; there is one.
func (q *checkQueue) pop() check {
	k := q.all[q.from]
	if q.from++; q.from == len(q.all) {
		q.settle(q.all[:0])
	}
	return k
}

// keep drops the checks that f does not hold for.
func (q *checkQueue) keep(f func(check) bool) {
	kept := q.all[:0]
	for _, k := range q.all[q.from:] {
		if f(k) {
			kept = append(kept, k)
		}
	}
	q.settle(kept)
}
