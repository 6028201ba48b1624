package embedded_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// all is a selection without limits.
var all = embedded.Selection{Messages: 1 << 20, Bytes: 1 << 30} //nolint:gochecknoglobals // a constant

// readModel is a queue, and what it is to hold.
type readModel struct {
	*kit
	want []message.Stored
	host netip.AddrPort
}

// read compares one read with what the model says.
func (m *readModel) read(t testing.TB, q embedded.Queue, offset int64, sel embedded.Selection, front []byte) {
	t.Helper()
	b, f, err := q.Read(offset, sel, slices.Clone(front))
	if err != nil || !bytes.HasPrefix(b, front) {
		t.Fatalf("read at %d: %v", offset, err)
	}
	b = b[len(front):]
	var got []message.Stored
	at, size := max(offset, 0), 0
	for ; at < f.Next; at++ {
		s := m.want[at]
		s.StoreHost = m.host
		if s.StoreHost.Addr().Is6() {
			s.SysFlag |= message.SysStoreHostV6
		}
		if !m.selects(s, sel) {
			continue
		}
		if len(b) == 0 {
			t.Fatalf("read at %d: message %d is missing", offset, at)
		}
		one, n, err := message.Decode(b)
		if err != nil || fmt.Sprint(one) != fmt.Sprint(s) {
			t.Fatalf("read at %d: message %d is\n%+v, want\n%+v (%v)", offset, at, one, s, err)
		}
		got, b, size = append(got, one), b[n:], size+n
	}
	if len(b) > 0 || f.Messages != len(got) || f.Lost != 0 {
		t.Fatalf("read at %d: %+v for %d messages, %d bytes too many", offset, f, len(got), len(b))
	}
	if len(got) > sel.Messages || len(got) > 1 && size > sel.Bytes+12*len(got) {
		t.Fatalf("read at %d: %d messages of %d bytes, the limits are %d and %d", offset, len(got), size, sel.Messages, sel.Bytes)
	}
	end := int64(len(m.want))
	if offset < end && f.Next <= offset {
		t.Fatalf("read at %d goes on at %d", offset, f.Next)
	}
	// It ends for a reason.
	if at < end && len(got) < sel.Messages && at-max(offset, 0) < 1<<10 {
		tagged := sel
		tagged.Match = nil // what does not fit is not looked at
		for ; at < end && !m.selects(m.want[at], tagged); at++ {
		}
		if at == end || size+m.want[at].Size() <= sel.Bytes {
			t.Fatalf("read at %d ends at %d with %d messages of %d bytes, though %+v", offset, f.Next, len(got), size, sel)
		}
	}
}

func (m *readModel) selects(s message.Stored, sel embedded.Selection) bool {
	if sel.Tags != nil {
		if _, ok := sel.Tags[message.TagCode(message.Property(s.Properties, message.Tags))]; !ok {
			return false
		}
	}
	return sel.Match == nil || s.Flag%3 == 0
}

// Whatever is asked of a queue, wherever segments end: the answer is what was
// put, record by record, with the store host of the day.
func TestQueue_Read(t *testing.T) {
	t.Parallel()
	hosts := []string{"", "10.1.2.3:10911", "[::ffff:10.1.2.3]:10911", "[2001:db8::1]:10911"}
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			m := &readModel{kit: newKit(t, small), host: netip.MustParseAddrPort("127.0.0.1:0")}
			m.topic("t", 1)
			m.topic("other", 1)
			for len(m.want) < 200 {
				m.some(rnd)
			}
			if rnd.IntN(2) == 0 {
				m.reopen()
			}
			if h := hosts[rnd.IntN(len(hosts))]; h != "" {
				host := netip.MustParseAddrPort(h)
				m.must("set host", m.store().SetHost(host))
				m.host = netip.AddrPortFrom(host.Addr().Unmap(), host.Port())
			}
			q := m.queue("t", 0)
			for range 60 {
				sel := embedded.Selection{Messages: 1 + rnd.IntN(64), Bytes: 1 + rnd.IntN(1<<rnd.IntN(18))}
				if rnd.IntN(3) == 0 {
					sel.Tags = map[int32]struct{}{message.TagCode(fmt.Sprint("tag", rnd.IntN(4))): {}, message.TagCode("tag9"): {}}
				}
				if rnd.IntN(3) == 0 {
					sel.Match = func(v *message.View) bool { return v.Flag%3 == 0 }
				}
				m.read(t, q, int64(rnd.IntN(len(m.want)+3))-1, sel, make([]byte, rnd.IntN(3)*100))
			}
			if t.Failed() {
				t.Logf("SEED=%d", seed)
			}
		})
	})
}

// some puts a few messages of many kinds.
func (m *readModel) some(rnd *rand.Rand) {
	m.Helper()
	var puts []embedded.Put
	for range 1 + rnd.IntN(40) {
		p := embedded.Put{
			Topic: "t", Flag: int32(rnd.IntN(10)), BornMs: rnd.Int64N(1 << 40), Body: bytes.Repeat([]byte{byte(rnd.IntN(256))}, rnd.IntN(1<<rnd.IntN(11))),
			Properties: props("n", fmt.Sprint(len(m.want))), BornHost: netip.MustParseAddrPort([]string{"10.0.0.1:5", "[fe80::1]:9"}[rnd.IntN(2)]),
		}
		if n := rnd.IntN(5); n > 0 {
			p.Extra = props(message.Tags, fmt.Sprint("tag", n-1))
		}
		if rnd.IntN(4) == 0 {
			puts = append(puts, embedded.Put{Topic: "other", Body: make([]byte, rnd.IntN(1000))})
		}
		puts = append(puts, p)
	}
	for i, r := range m.put(puts...) {
		p := puts[i]
		if p.Topic != "t" {
			continue
		}
		s := message.Stored{
			Topic: "t", QueueOffset: int64(len(m.want)), PhysicalOffset: r.Pos, Flag: p.Flag, BornTimestamp: p.BornMs, BornHost: p.BornHost,
			StoreTimestamp: r.StoredMs, StoreHost: m.host, Body: p.Body, Properties: string(p.Properties) + string(p.Extra),
		}
		if p.BornHost.Addr().Is6() {
			s.SysFlag = message.SysBornHostV6
		}
		m.want = append(m.want, s)
	}
	time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
}

// The first message is answered whatever its size, and alone if it is too large.
func TestQueue_ReadLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 1)
		k.put(embedded.Put{Topic: "t", Body: []byte("a")}, embedded.Put{Topic: "t", Body: make([]byte, 5000)}, embedded.Put{Topic: "t", Body: []byte("c")})
		q := k.queue("t", 0)
		for _, c := range []struct {
			offset          int64
			messages, bytes int
			want, next      int
		}{
			{0, 10, 1, 1, 1},
			{0, 10, 92 + 1, 1, 1},
			{0, 10, 1000, 1, 1},
			{1, 10, 1, 1, 2},
			{1, 10, 5100, 1, 2},
			{0, 10, 6000, 3, 3},
			{0, 2, 6000, 2, 2},
			{0, 1, 6000, 1, 1},
			{2, 1, 1, 1, 3},
			{3, 1, 1, 0, 3},
			{7, 1, 1, 0, 7},
			{-9, 1, 1000, 1, 1},
		} {
			b, f, err := q.Read(c.offset, embedded.Selection{Messages: c.messages, Bytes: c.bytes}, nil)
			if n := len(records(t, b)); err != nil || n != c.want || f.Messages != n || f.Next != int64(c.next) {
				t.Errorf("%+v: %d messages, %+v, %v", c, n, f, err)
			}
		}
		// A wide read of what does not match ends some time, without anything.
		var many []embedded.Put
		for range 3000 {
			many = append(many, embedded.Put{Topic: "t"})
		}
		k.put(many...)
		none := all
		none.Match = func(*message.View) bool { return false }
		if b, f, err := q.Read(0, none, nil); err != nil || len(b) > 0 || f.Next <= 0 || f.Next >= 3003 {
			t.Errorf("nothing matches: %+v, %v", f, err)
		}
		none.Match, none.Tags = nil, map[int32]struct{}{}
		if b, f, err := q.Read(0, none, nil); err != nil || len(b) > 0 || f.Next != 3003 {
			t.Errorf("no tag is wanted: %+v, %v", f, err)
		}
	})
}

// What damage has taken stays in the way, or is passed over and counted.
func TestQueue_ReadDamaged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, small)
		k.fill("t", 0, 1000)
		k.must("close", k.b.Close(t.Context()))
		k.damage(k.files(".log")[1], 5000)
		k.open()
		q := k.queue("t", 0)
		read := func(offset int64) (got []string, f embedded.Found, err error) {
			for err == nil && offset < q.Max() {
				var b []byte
				b, f, err = q.Read(offset, embedded.Selection{Messages: 64, Bytes: 1 << 20}, nil)
				got = append(got, texts(records(t, b))...)
				offset = f.Next
			}
			return got, f, err
		}
		got, f, err := read(0)
		wantCode(t, "the damaged message", err, driver.Corrupt)
		at := len(got)
		if inOrder(t, got, 0, at); f.Next != int64(at) || f.Messages != 0 || at == 0 {
			t.Errorf("it stays in the way at %d: %+v", at, f)
		}
		if _, ok := q.StoredMs(int64(at)); !ok {
			t.Error("the index knows it")
		}
		if got, _, err = read(int64(at) + 1); err != nil {
			t.Errorf("behind it: %v", err)
		}
		inOrder(t, got, at+1, 999-at)
		k.cfg.OnCorruption = embedded.Quarantine
		k.reopen()
		q = k.queue("t", 0)
		var lost int64
		got = nil
		for offset := int64(0); offset < q.Max(); {
			b, f, err := q.Read(offset, embedded.Selection{Group: "g", Messages: 64, Bytes: 1 << 20}, nil)
			k.must("read", err)
			_, again, err := q.Read(offset, embedded.Selection{Messages: 64, Bytes: 1 << 20}, nil) // who is no group loses nothing
			if k.must("read", err); again != f {
				t.Errorf("got %+v without a group, %+v with one", again, f)
			}
			got = append(got, texts(records(t, b))...)
			offset, lost = f.Next, lost+f.Lost
		}
		inOrder(t, slices.Insert(got, at, fmt.Sprintf("%06d", at)), 0, 1000)
		if lost != 1 || k.stats().LostToDamage != 1 {
			t.Errorf("%d lost, counted %d", lost, k.stats().LostToDamage)
		}
		// A hole that opening has met.
		k.must("close", k.b.Close(t.Context()))
		for _, name := range k.files("STATE-", ".idx") {
			k.must("remove", k.fs.Remove(name))
		}
		k.open()
		q = k.queue("t", 0)
		got, lost = nil, 0
		for offset := int64(0); offset < q.Max(); {
			b, f, err := q.Read(offset, embedded.Selection{Messages: 64, Bytes: 1 << 20}, nil)
			k.must("read", err)
			got = append(got, texts(records(t, b))...)
			offset, lost = f.Next, lost+f.Lost
		}
		if int64(len(got))+lost != q.Max() || lost < 1 {
			t.Errorf("%d messages, %d lost, %d offsets", len(got), lost, q.Max())
		}
		if _, ok := q.StoredMs(int64(at)); ok {
			t.Error("there is nothing at the lost offset")
		}
	})
}

// Reading begins with what retention has left, also when it comes meanwhile.
func TestQueue_ReadTrimmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := small
		cfg.Retention.Bytes = 256 << 10
		k := newKit(t, cfg)
		k.fill("t", 0, 2000)
		q := k.queue("t", 0)
		old := every(t, q, 0)[0].PhysicalOffset
		time.Sleep(time.Minute)
		first := q.Min()
		if first == 0 {
			t.Fatal("nothing was removed")
		}
		b, f, err := q.Read(0, embedded.Selection{Messages: 1, Bytes: 1}, nil)
		if rs := records(t, b); err != nil || len(rs) != 1 || rs[0].QueueOffset != first || f.Next != first+1 || f.Lost != 0 {
			t.Errorf("got %+v, %v", f, err)
		}
		inOrder(t, texts(every(t, q, 0)), int(first), 2000-int(first))
		if _, ok := q.StoredMs(first - 1); ok {
			t.Error("what was removed has no time")
		}
		_, err = k.store().Record(old, nil)
		wantCode(t, "a record that was removed", err, driver.NotFound)
		// Retention passes while a read is at work, in the middle of what it knows
		// of the index, and at the end of that.
		for _, at := range []int{1, 97, 256} {
			k.fill("t", int(q.Max()), 500)
			calls, from := 0, q.Max()-400
			sel := embedded.Selection{Messages: 10, Bytes: 1 << 20, Match: func(*message.View) bool {
				if calls++; calls == at {
					k.fill("t", int(q.Max()), 1500)
					time.Sleep(time.Minute)
				}
				return false
			}}
			_, f, err := q.Read(from, sel, nil)
			if err != nil || f.Next < q.Min() || f.Lost > 0 || q.Min() < from+256 {
				t.Errorf("read at %d, met by retention in call %d: %+v, %v; it begins at %d", from, at, f, err, q.Min())
			}
		}
	})
}

func TestQueue_Times(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 1)
		q := k.queue("t", 0)
		var at []int64
		for range 5 {
			at = append(at, k.putN("t", 0, 1)[0].StoredMs)
			time.Sleep(10 * time.Millisecond)
		}
		for i, ms := range at {
			if got, ok := q.StoredMs(int64(i)); !ok || got != ms {
				t.Errorf("message %d was stored at %d, not %d", i, ms, got)
			}
			if a, b, c := q.AtTime(ms-1), q.AtTime(ms), q.AtTime(ms+1); a != int64(i) || b != int64(i) || c != int64(i)+1 {
				t.Errorf("around message %d: %d %d %d", i, a, b, c)
			}
		}
		for _, offset := range []int64{-1, 5, 1 << 40} {
			if _, ok := q.StoredMs(offset); ok {
				t.Errorf("there is nothing at %d", offset)
			}
		}
		if q.AtTime(0) != 0 || q.AtTime(1<<50) != 5 || q.Min() != 0 || q.Max() != 5 {
			t.Errorf("ends: %d %d %d %d", q.AtTime(0), q.AtTime(1<<50), q.Min(), q.Max())
		}
	})
}

// Watchers hear of each message that becomes visible, and of nothing after stop.
func TestQueue_Watch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 2)
		q := k.queue("t", 0)
		var calls, others int
		var seen int64
		stop := q.Watch(func() { calls, seen = calls+1, q.Max() })
		stopOther := k.queue("t", 0).Watch(func() { others++ })
		k.putN("t", 0, 2)
		k.putN("t", 1, 5)
		k.put(embedded.Put{Topic: "t", DueMs: k.store().NowMs() + 1000})
		r := k.put(half("t", "p", "tx"))[0]
		if calls != 2 || seen != 2 || others != 2 {
			t.Errorf("%d and %d calls for 2 messages, the last saw %d", calls, others, seen)
		}
		k.topic("t", 4) // the queue goes on
		stopOther()
		time.Sleep(2 * time.Second)
		if _, err := k.store().Resolve(embedded.HalfID{Group: "p", Tx: "tx", Pos: r.Pos}, driver.Commit).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if calls != 4 || seen != 4 || others != 2 {
			t.Errorf("%d and %d calls for 4 messages, the last saw %d", calls, others, seen)
		}
		stop()
		stop()
		if k.putN("t", 0, 1); calls != 4 {
			t.Error("it was stopped")
		}
	})
}

// Records are found by their position, in whatever state, and by nothing else.
func TestStore_Record(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		k.must("put", s.PutTopic(t.Context(), embedded.Topic{Name: "t", Queues: 1, Settings: []byte(strings.Repeat("x", 500))}))
		host := netip.MustParseAddrPort("[2001:db8::7]:10911")
		k.must("set host", s.SetHost(host))
		plain := k.put(embedded.Put{Topic: "t", Body: []byte("plain")})[0]
		late := k.put(embedded.Put{Topic: "t", Body: []byte("late"), DueMs: s.NowMs() + 1e6})[0]
		h := k.put(half("t", "p", "tx"))[0]
		rs, err := s.Resolve(embedded.HalfID{Group: "p", Tx: "tx", Pos: h.Pos}, driver.Commit).Wait(t.Context())
		if err != nil || rs[0].Err != nil {
			t.Fatal(err, rs)
		}
		large := k.put(embedded.Put{Topic: "t", Body: make([]byte, 1<<20)})[0]
		for _, c := range []struct {
			pos      int64
			body     string
			visible  bool
			prepared int64
		}{
			{plain.Pos, "plain", true, 0},
			{late.Pos, "late", false, 0},
			{h.Pos, "tx", false, 0},
			{rs[0].Pos, "tx", true, h.Pos},
			{large.Pos, string(make([]byte, 1<<20)), true, 0},
		} {
			r, err := s.Record(c.pos, nil)
			k.must("record", err)
			m := records(t, r.Bytes)[0]
			if string(m.Body) != c.body || r.Visible != c.visible || m.PreparedTransactionOffset != c.prepared || m.StoreHost != host || m.PhysicalOffset != c.pos {
				t.Errorf("at %d: visible %v, %.200v", c.pos, r.Visible, m)
			}
		}
		if m := every(t, k.queue("t", 0), 1)[0]; m.SysFlag&message.SysTransaction != message.SysCommit || message.Property(m.Properties, message.ProducerGroup) != "p" {
			t.Errorf("a committed message: %+v", m)
		}
		for _, pos := range []int64{0, -1, -1 << 62, plain.Pos + 1, s.Stats().End, 1 << 62} {
			_, err := s.Record(pos, nil)
			wantCode(t, fmt.Sprint("record at ", pos), err, driver.NotFound)
		}
		q := k.queue("t", 0)
		k.must("close", k.b.Close(t.Context()))
		_, err2 := s.Record(plain.Pos, nil)
		wantCode(t, "record of a closed store", err2, driver.Closed)
		_, _, err2 = q.Read(0, all, nil)
		wantCode(t, "read of a closed store", err2, driver.Closed)
		_, _, err2 = s.Find(embedded.Query{Topic: "t", Key: "k", ToMs: 1 << 60, Limit: 1}, nil)
		if err2 != nil {
			wantCode(t, "find in a closed store", err2, driver.Closed)
		}
	})
}

// Found are visible messages of the topic, the newest first, each once.
func TestStore_Find(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		k.topic("t", 2)
		k.topic("u", 1)
		keyed := func(topic, id, keys string) embedded.Put {
			return embedded.Put{Topic: topic, Queue: -1, Body: []byte(id), Properties: props(message.UniqKey, id, message.Keys, keys)}
		}
		var at []int64
		for i, p := range []embedded.Put{
			keyed("t", "a", "k1 k2"), keyed("t", "b", "k2 k2 k2"), keyed("u", "c", "k2"), keyed("t", "d", "d k1"), keyed("t", "b", "k3"),
		} {
			at = append(at, k.put(p)[0].StoredMs)
			time.Sleep(time.Duration(i+1) * time.Millisecond)
		}
		late := keyed("t", "late", "k2")
		late.DueMs = s.NowMs() + 1000
		h := half("t", "p", "tx")
		h.Extra = append(h.Extra, props(message.Keys, "k2")...)
		k.put(late, h)
		for _, c := range []struct {
			q    embedded.Query
			want []string
		}{
			{embedded.Query{Topic: "t", Key: "k2"}, []string{"b", "a"}},
			{embedded.Query{Topic: "t", Key: "k1"}, []string{"d", "a"}},
			{embedded.Query{Topic: "u", Key: "k2"}, []string{"c"}},
			{embedded.Query{Topic: "u", Key: "k1"}, []string{}},
			{embedded.Query{Topic: "none", Key: "k1"}, []string{}},
			{embedded.Query{Topic: "t", Key: "d", Unique: true}, []string{"d"}},
			{embedded.Query{Topic: "t", Key: "d"}, []string{"d"}},
			{embedded.Query{Topic: "t", Key: "k1", Unique: true}, []string{}},
			{embedded.Query{Topic: "t", Key: "b", Unique: true}, []string{"b", "b"}},
			{embedded.Query{Topic: "t", Key: "b", Unique: true, Limit: 1}, []string{"b"}},
			{embedded.Query{Topic: "t", Key: "b", Unique: true, Limit: -1}, []string{}},
			{embedded.Query{Topic: "t", Key: "k1", FromMs: at[1]}, []string{"d"}},
			{embedded.Query{Topic: "t", Key: "k1", FromMs: at[0], ToMs: at[3]}, []string{"d", "a"}},
			{embedded.Query{Topic: "t", Key: "k1", FromMs: at[0], ToMs: at[3] - 1}, []string{"a"}},
			{embedded.Query{Topic: "t", Key: "k1", FromMs: at[0] + 1, ToMs: at[3] - 1}, []string{}},
			{embedded.Query{Topic: "t", Key: "tx", Unique: true}, []string{}},
		} {
			if c.q.ToMs == 0 {
				c.q.ToMs = 1 << 60
			}
			if c.q.Limit == 0 {
				c.q.Limit = 10
			}
			b, n, err := s.Find(c.q, []byte("front"))
			rs := records(t, b[5:])
			if err != nil || n != len(rs) || string(b[:5]) != "front" || !slices.Equal(texts(rs), c.want) {
				t.Errorf("%+v: %d, %q, %v; want %q", c.q, n, texts(rs), err, c.want)
			}
		}
		time.Sleep(2 * time.Second)
		b, n, err := s.Find(embedded.Query{Topic: "t", Key: "k2", ToMs: 1 << 60, Limit: 2}, nil)
		if err != nil || n != 2 {
			t.Errorf("%d, %v", n, err)
		}
		wantTexts(t, "with the late one", records(t, b), "late", "b")
		k.must("delete", s.DeleteTopic(t.Context(), "t"))
		if _, n, err := s.Find(embedded.Query{Topic: "t", Key: "k2", ToMs: 1 << 60, Limit: 9}, nil); err != nil || n != 0 {
			t.Errorf("of a topic that was deleted: %d, %v", n, err)
		}
	})
}
