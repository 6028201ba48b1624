package embedded

import "github.com/sluicemq/sluice/broker/embedded/internal/segindex"

// tail is where the messages of a queue end while max is its end.
type tail struct{ end, max int64 }

// head is where the messages of a queue begin while min is its first offset: at
// first, or not before it if there was none yet.
type head struct {
	first, min int64
	found      bool
}

// first is the offset of the first message: more than Min where those in front of
// it are lost by damage. Without any message, or if the index cannot be read, it
// is Min.
func (q *topicQueue) first() int64 {
	least := q.Min()
	at := least
	if h := q.head.Load(); h != nil && h.min == least {
		if h.found {
			return h.first
		}
		at = h.first
	}
	var buf [256]segindex.Entry
	room := 1 // it is a message, most of the time
	for end := q.Max(); at < end; room = len(buf) {
		n, err := q.Read(at, buf[:room])
		if n == 0 || err != nil {
			return least // it is met by who reads
		}
		for _, e := range buf[:n] {
			if e.Size > 0 {
				q.head.Store(&head{at, least, true})
				return at
			}
			at++
		}
	}
	if at > least {
		q.head.Store(&head{at, least, false})
	}
	return least
}

// lostRun is how many of the first entries are lost and became known at the
// position known.
func lostRun(entries []segindex.Entry, known int64) (n int) {
	for n < len(entries) && entries[n].Size == 0 && entries[n].Pos == known {
		n++
	}
	return n
}

// end is the offset behind the last message: less than Max where the offsets
// behind it are lost, because damage has left open whether there were messages.
// If the index cannot be read it is Max.
func (q *topicQueue) end() int64 {
	end := q.Max()
	if t := q.tail.Load(); t != nil && t.max == end {
		return t.end
	}
	t := &tail{end, end}
	var buf [256]segindex.Entry
	for first := q.Min(); t.end > first; {
		from := max(first, t.end-int64(len(buf)))
		if t.end == end {
			from = end - 1 // it is a message, most of the time
		}
		n, err := q.Read(from, buf[:t.end-from])
		if err != nil || from+int64(n) != t.end {
			return end // it is met by who reads
		}
		for n > 0 && buf[n-1].Size == 0 {
			n--
		}
		if t.end = from + int64(n); n > 0 {
			break
		}
	}
	q.tail.Store(t)
	return t.end
}
