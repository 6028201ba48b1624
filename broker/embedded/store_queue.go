package embedded

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Queue is one queue of a topic. A queue whose topic was deleted stays as it
// was; ask [Store.Queue] again from time to time.
type Queue struct {
	s     *Store
	q     *topicQueue
	topic string
}

// Queue answers a queue of a topic, or false if there is none.
func (s *Store) Queue(topic string, n int) (Queue, bool) {
	if n < 0 { // the retry lane of a group has a number below zero
		return Queue{}, false
	}
	q := s.e.st.queue("", topic, n)
	return Queue{s: s, q: q, topic: topic}, q != nil
}

// Min is the offset of the first message that is still there.
func (q Queue) Min() int64 { return q.q.first() }

// Max is the offset that the next message gets.
func (q Queue) Max() int64 { return q.q.Max() }

// End is the offset behind the last message. It is less than Max where damage has
// left out offsets at the end of the queue that lost messages may have had; they
// count for nothing in what is told of lengths and lags.
func (q Queue) End() int64 { return q.q.end() }

// AtTime answers the offset of the first message that was stored at or after
// ms, in milliseconds since 1970, or Max. If the index cannot be read it is
// Min: more again is better than less.
func (q Queue) AtTime(ms int64) int64 {
	at, err := q.q.AtTime(ms)
	if err != nil {
		return q.q.Min()
	}
	return at
}

// StoredMs answers when the message at an offset was stored, false if there is
// none.
func (q Queue) StoredMs(offset int64) (int64, bool) {
	var one [1]segindex.Entry
	if n, err := q.q.Read(offset, one[:]); n == 0 || err != nil || one[0].Size == 0 {
		return 0, false
	}
	return one[0].StoredMs, true
}

// Watch calls f for each message that comes into the queue, until stop is
// called; a call may still be under way then. f runs on the write path: it must
// not block and must take no lock that is held over a call of the store.
func (q Queue) Watch(f func()) (stop func()) {
	w := &watch{f: f}
	q.q.watch(w)
	return func() { q.q.unwatch(w) }
}

type watch struct{ f func() }

func (w *watch) signal() { w.f() }

// Selection says what [Queue.Read] is to answer.
type Selection struct {
	// Group is who reads, for the log and the counters; "" for readers that are
	// no consumer group, to whom nothing is lost.
	Group string
	// Messages and Bytes end the read; the first message is answered whatever
	// its size. Both are above zero.
	Messages, Bytes int
	// Tags, if not nil, are the hashes of the tags that are wanted, see
	// [message.TagCode].
	Tags map[int32]struct{}
	// Match, if not nil, decides about each message that Tags has let pass. The
	// view is valid during the call.
	Match func(v *message.View) bool
}

// Found is what [Queue.Read] has found.
type Found struct {
	// Messages were appended.
	Messages int
	// Next is where to go on: behind the last message that was looked at.
	Next int64
	// Lost is how many of the offsets that were passed hold no message any
	// more, because of damage.
	Lost int64
}

// How many entries one Read looks at: enough to pass over many messages for
// others, few enough for a millisecond; far fewer where each has to be read.
const (
	scanMost  = 16 << 10
	matchMost = 1 << 10
)

// Read appends the records of messages from offset on to b, one behind the
// other as RocketMQ sends them, with the store host of [Store.SetHost]. Below
// Min it begins there. It answers an error only if nothing was appended and the
// message at Next cannot be read.
func (q Queue) Read(offset int64, sel Selection, b []byte) ([]byte, Found, error) {
	r := queueReads.Get().(*queueRead)
	defer r.release()
	defer r.tell(q, sel.Group)
	f := Found{Next: max(offset, q.q.Min())}
	limit, most := len(b)+sel.Bytes, scanMost
	if sel.Match != nil {
		most = matchMost
	}
	for scanned := 0; f.Messages < sel.Messages && scanned < most; {
		n, err := r.fill(q.q, f.Next, sel, sel.Messages-f.Messages)
		if first := q.q.Min(); errors.Is(err, segindex.ErrTrimmed) && f.Next < first {
			r.lose(q, sel.Group, &f, first-f.Next, driver.GapError{Reason: q.s.e.gone()}) // retention was faster
			continue
		}
		if err != nil && f.Messages == 0 {
			q.s.e.rotten(err)
			return b, f, readError(err, "read "+q.q.lane)
		}
		if n == 0 || err != nil {
			break
		}
		scanned += n
		lost := f.Lost
		var full bool
		b, full, err = r.take(q, sel, b, limit, &f)
		scanned -= int(f.Lost - lost) // passed at once, however many
		if err != nil && f.Messages == 0 {
			return b, f, err
		}
		if full || err != nil {
			break
		}
	}
	return b, f, nil
}

// queueRead is the memory of a Read.
type queueRead struct {
	entries []segindex.Entry
	gap     driver.GapError // that is not told yet; none if it is empty
}

var queueReads = sync.Pool{New: func() any { return new(queueRead) }} //nolint:gochecknoglobals // a pool has no state

func (r *queueRead) release() { queueReads.Put(r) }

// fill reads entries from offset on: about as many as are wanted, more if most
// of them may be filtered out.
func (r *queueRead) fill(q *topicQueue, offset int64, sel Selection, room int) (int, error) {
	want := room
	if sel.Tags != nil || sel.Match != nil {
		want = max(want, 256)
	}
	if left := q.Max() - offset; int64(want) > left {
		want = int(max(left, 0))
	}
	if want = min(want, 1024); cap(r.entries) < want {
		r.entries = make([]segindex.Entry, want)
	}
	r.entries = r.entries[:want]
	if want == 0 {
		return 0, nil
	}
	n, err := q.Read(offset, r.entries)
	if n > 0 {
		err = nil
	} else if err == nil {
		err = errNoEntry
	}
	r.entries = r.entries[:n]
	return n, err
}

// take appends what is wanted of the entries. full reports that the limits are
// reached.
func (r *queueRead) take(q Queue, sel Selection, b []byte, limit int, f *Found) (out []byte, full bool, err error) {
	for i := 0; i < len(r.entries); {
		e := r.entries[i]
		if e.Size == 0 {
			n := lostRun(r.entries[i:], e.Pos)
			r.lose(q, sel.Group, f, int64(n), driver.GapError{Reason: driver.Damage, Unsure: q.s.e.guessed(e.Pos)})
			i += n
			continue
		}
		if !sel.tagged(e) {
			f.Next++
			i++
			continue
		}
		run := r.run(i, sel, sel.Messages-f.Messages, limit-len(b))
		if run == 0 {
			if f.Messages > 0 {
				return b, true, nil
			}
			run = 1 // the first message is answered whatever its size
		}
		var n int
		if b, n, err = r.readRun(q, r.entries[i:i+run], sel, b, f); err != nil {
			return b, false, err
		}
		i += n
		if f.Messages >= sel.Messages {
			return b, true, nil
		}
	}
	return b, false, nil
}

func (sel *Selection) tagged(e segindex.Entry) bool {
	if sel.Tags == nil {
		return true
	}
	_, ok := sel.Tags[e.Tag]
	return ok
}

// run is how many entries from i on are read at once: wanted ones that lie
// close together, within the limits.
func (r *queueRead) run(i int, sel Selection, messages, bytes int) int {
	first, end, n, size := r.entries[i].Pos, r.entries[i].Pos, 0, 0
	for _, e := range r.entries[i:] {
		if e.Size == 0 || n == messages || !sel.tagged(e) || size+int(e.Size) > bytes {
			break
		}
		frameEnd := e.Pos + commitlog.FrameSize(int(e.Size))
		if n > 0 && (e.Pos < end || e.Pos-end > runGap || frameEnd-first > runBytes) {
			break
		}
		end = frameEnd
		size += int(e.Size)
		n++
	}
	return n
}

// readRun reads entries that lie close together, and appends their records. It
// answers how many entries it has passed.
func (r *queueRead) readRun(q Queue, entries []segindex.Entry, sel Selection, b []byte, f *Found) ([]byte, int, error) {
	log := q.s.e.log
	first, last := entries[0].Pos, entries[len(entries)-1]
	size := int(last.Pos + commitlog.FrameSize(int(last.Size)) - first)
	at := len(b)
	b = slices.Grow(b, size)
	raw, err := log.ReadRaw(first, size, b[at:at:at+size])
	if err != nil && len(entries) > 1 {
		// A segment ends within the run, or something cannot be read: one by one.
		return r.readRun(q, entries[:1], sel, b[:at], f)
	}
	if err != nil {
		return r.unreadable(q, entries[0], sel.Group, b[:at], f, err)
	}
	for i, e := range entries {
		kind, payload, err := log.ParseFrame(e.Pos, raw[e.Pos-first:][:commitlog.FrameSize(int(e.Size))])
		if err == nil {
			if _, payload, err = storedPart(record.Kind(kind), payload); err != nil {
				err = errors.Join(commitlog.ErrCorrupt, err) // the index leads astray
			}
		}
		if err != nil {
			if i > 0 {
				return b[:at], i, nil // it is met first by the next run
			}
			return r.unreadable(q, e, sel.Group, b[:at], f, err)
		}
		f.Next++
		if sel.Match != nil {
			v, _, err := message.DecodeView(payload)
			if err != nil || !sel.Match(&v) {
				continue
			}
		}
		n := copy(b[at:at+len(payload)], payload) // to the left, over the header of the frame
		b = q.s.present(b[:at+n], at, record.Kind(kind))
		if len(b) != at+n {
			// It has grown over what is read next.
			f.Messages++
			return b, i + 1, nil
		}
		at += n
		f.Messages++
	}
	return b[:at], len(entries), nil
}

// unreadable decides about a message that cannot be read: one that is gone, or
// whose damage is tolerated, is passed over and reported; else it stays in the
// way.
func (r *queueRead) unreadable(q Queue, e segindex.Entry, group string, b []byte, f *Found, err error) ([]byte, int, error) {
	eng := q.s.e
	op := "read " + q.q.lane
	if errors.Is(err, commitlog.ErrClosed) {
		return b, 0, closedError(op)
	}
	if errors.Is(err, commitlog.ErrRange) && e.Pos < eng.log.Start() {
		r.lose(q, group, f, 1, driver.GapError{Reason: eng.gone()}) // retention was faster; the index may still know it
		return b, 1, nil
	}
	eng.count.unread(err)
	if errors.Is(err, commitlog.ErrCorrupt) && eng.cfg.OnCorruption == Quarantine {
		r.lose(q, group, f, 1, driver.GapError{Reason: driver.Damage})
		return b, 1, nil
	}
	failure := readError(err, op)
	if q.q.stuck.meets(group, f.Next) {
		eng.cfg.Logger.Error("a stored message cannot be read", slog.String("group", group), slog.String("lane", q.q.lane),
			slog.Int64("offset", f.Next), slog.Int64("position", e.Pos), slog.Any("error", failure))
	}
	return b, 0, failure
}

// lose passes n offsets whose messages are lost for the reason that is given.
func (r *queueRead) lose(q Queue, group string, f *Found, n int64, why driver.GapError) {
	if r.gap.To != f.Next || r.gap.Reason != why.Reason || r.gap.Unsure != why.Unsure {
		r.tell(q, group)
		r.gap = why
		r.gap.Lane, r.gap.From = q.q.lane, f.Next
	}
	f.Next += n
	r.gap.To = f.Next
	if why.Reason == driver.Damage {
		f.Lost += n
	}
}

// tell reports what is lost: clients elsewhere cannot be told, so the log and the
// counters are. To a reader that is no group nothing is lost.
func (r *queueRead) tell(q Queue, group string) {
	g := r.gap
	r.gap = driver.GapError{}
	switch {
	case g.To == g.From:
	case group != "":
		_ = q.s.e.lost(&g, group, "")
	case !g.Unsure && g.Reason == driver.Damage:
		q.s.e.cfg.Logger.Warn("a reader without a group passes messages that damage has taken", slog.String("lane", g.Lane),
			slog.Int64("from", g.From), slog.Int64("to", g.To))
	}
}

// stuckPause is how long a message that cannot be read is not told of again, as
// readers try it all the time.
const stuckPause = time.Minute

// stuck are the readers of a queue that cannot read on, by group.
type stuck struct {
	mu   sync.Mutex
	told map[string]place
}

// place is the message that a reader met, and when that was told.
type place struct {
	offset int64
	at     time.Time
}

// meets reports whether it is to be told now that group has met the message at
// offset.
func (s *stuck) meets(group string, offset int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if p, ok := s.told[group]; ok && p.offset == offset && now.Sub(p.at) < stuckPause {
		return false
	}
	maps.DeleteFunc(s.told, func(_ string, p place) bool { return now.Sub(p.at) >= stuckPause })
	if s.told == nil {
		s.told = map[string]place{}
	}
	s.told[strings.Clone(group)] = place{offset, now} // it is part of a request
	return true
}

// present makes the record at b[at:], the last one, what clients are to see: it
// names this broker, and no position that only the broker understands.
func (s *Store) present(b []byte, at int, k record.Kind) []byte {
	if k == record.Fired {
		message.PatchPrepared(b[at:], 0)
	}
	host := s.host.Load()
	if host == nil || message.PatchStoreHost(b[at:], *host) {
		return b
	}
	v, _, err := message.DecodeTrusted(slices.Clone(b[at:]))
	if err != nil {
		return b
	}
	v.StoreHost = *host
	if wider, err := v.AppendTo(b[:at]); err == nil {
		return wider
	}
	return b
}

// Record is a stored message that was read by its position.
type Record struct {
	// Bytes is the record as clients see it.
	Bytes []byte
	// Visible: it has its place in a queue. Else it is a half message, or one
	// that is not due.
	Visible bool
}

// Record appends to b the record whose physical offset is pos; the answer's
// bytes are the whole of it. A position where no message begins, or of which
// nothing is kept any more, is [driver.NotFound]; one whose bytes have changed is
// [driver.Corrupt].
func (s *Store) Record(pos int64, b []byte) (Record, error) {
	const op = "read a message by its position"
	kind, raw, err := s.e.log.ReadSized(pos, sizeUnknown, nil)
	if errors.Is(err, commitlog.ErrClosed) {
		return Record{}, closedError(op)
	}
	if damaged(err) {
		s.e.count.unread(err)
		return Record{}, readError(err, op)
	}
	if err == nil {
		_, raw, err = storedPart(record.Kind(kind), raw)
	}
	if err != nil {
		return Record{}, driver.Errorf(driver.NotFound, op, "no message begins at %d: %w", pos, err)
	}
	at := len(b)
	b = append(b, raw...)
	k := record.Kind(kind)
	return Record{Bytes: s.present(b, at, k), Visible: visibleKind(k)}, nil
}

// Query is a search by key.
type Query struct {
	Topic, Key string
	// Unique: Key is a unique id, else a business key.
	Unique bool
	// FromMs and ToMs bound the time of storing, both inclusive.
	FromMs, ToMs int64
	// Limit is how many messages are answered at the most.
	Limit int
}

// Find appends the records of messages that match, the newest first, and
// answers how many. If one that may match is damaged, the error is
// [driver.Corrupt], beside those that could be read.
func (s *Store) Find(q Query, b []byte) ([]byte, int, error) {
	op := "find key " + q.Key + " in " + q.Topic
	kind := byte(byKey)
	if q.Unique {
		kind = byID
	}
	var candidates []int64
	err := s.e.st.set.Lookup(keyHash(kind, q.Topic, q.Key), func(pos int64) bool {
		candidates = append(candidates, pos)
		return true
	})
	if err != nil {
		return b, 0, readError(err, op)
	}
	slices.SortFunc(candidates, func(x, y int64) int { return cmp.Compare(y, x) })
	found := 0
	var lost *driver.Error
	for _, pos := range slices.Compact(candidates) { // a message may name a key twice
		if found >= q.Limit {
			break
		}
		d, failure := s.e.visibleAt(q.Topic, pos)
		if failure != nil && failure.Code == driver.Corrupt {
			lost = failure
			continue
		}
		if failure != nil {
			return b, found, withOp(failure, op)
		}
		if d == nil || !q.matches(d) {
			continue
		}
		r, err := s.Record(pos, b)
		if err != nil {
			continue // retention was faster
		}
		b = r.Bytes
		found++
	}
	return b, found, asError(lost, op)
}

func (q *Query) matches(d *driver.Delivery) bool {
	ms := d.StoredAt.UnixMilli()
	if ms < q.FromMs || ms > q.ToMs {
		return false
	}
	if q.Unique {
		return d.ID == q.Key
	}
	return slices.Contains(d.Keys, q.Key)
}
