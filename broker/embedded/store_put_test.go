package embedded_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// What is put is stored as it is.
func TestStorePut_Fields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 4)
		now := time.Now().UnixMilli()
		r := k.put(embedded.Put{
			Topic: "t", Queue: 2, Flag: 7, SysFlag: message.SysCompressed | message.SysPrepared | message.SysBornHostV6, BornMs: 5,
			BornHost: netip.MustParseAddrPort("10.1.2.3:456"), Reconsumed: 3,
			Properties: props("a", "b"), Extra: props(message.Tags, "paid"), Body: []byte("body"), DueMs: now - 1,
		})[0]
		if r.Queue != 2 || r.Offset != 0 || r.StoredMs != now {
			t.Errorf("got %+v", r)
		}
		want := message.Stored{
			Topic: "t", QueueID: 2, Flag: 7, SysFlag: message.SysCompressed, BornTimestamp: 5, StoreTimestamp: now, PhysicalOffset: r.Pos,
			BornHost: netip.MustParseAddrPort("10.1.2.3:456"), StoreHost: netip.MustParseAddrPort("127.0.0.1:0"), ReconsumeTimes: 3,
			Body: []byte("body"), Properties: "a\x01b\x02TAGS\x01paid\x02",
		}
		if got := every(t, k.queue("t", 2), 0); len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// Any queue means each in turn; an explicit one has to be there.
func TestStorePut_Queues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 3)
		var turn []int
		for range 3 {
			for _, r := range k.put(embedded.Put{Topic: "t", Queue: -1}, embedded.Put{Topic: "t", Queue: -7}) {
				turn = append(turn, r.Queue)
			}
		}
		if !slices.Equal(turn, []int{0, 1, 2, 0, 1, 2}) {
			t.Errorf("any queue: %v", turn)
		}
		for i, r := range k.put(embedded.Put{Topic: "t", Queue: 1}, embedded.Put{Topic: "t", Queue: 0}, embedded.Put{Topic: "t", Queue: 1}) {
			if want := []int64{2, 2, 3}[i]; r.Offset != want {
				t.Errorf("message %d has offset %d, want %d", i, r.Offset, want)
			}
		}
		p := k.store().Put([]embedded.Put{{Topic: "t", Queue: 3}, {Topic: "t", Queue: 2}, {Topic: "none"}, {Topic: "%DLQ%g", Queue: -1}, {Topic: "%DLQ%" + strings.Repeat("g", 300)}})
		rs, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []driver.Code{driver.InvalidArgument, driver.Unknown, driver.NotFound, driver.Unknown, driver.InvalidArgument} {
			if (rs[i].Err != nil || want != driver.Unknown) && driver.CodeOf(rs[i].Err) != want {
				t.Errorf("message %d: %v, want %v", i, rs[i].Err, want)
			}
		}
		if tp, ok := k.store().Topic("%DLQ%g"); !ok || tp.Queues != 1 {
			t.Errorf("topics for dead letters are made: %+v, %v", tp, ok)
		}
		p = k.store().Put(nil)
		if rs, err := p.Wait(t.Context()); err != nil || len(rs) > 0 {
			t.Errorf("nothing: %+v, %v", rs, err)
		}
	})
}

// A delayed message is where its position says, and nowhere else before its time.
func TestStorePut_Delayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 2)
		r := k.put(embedded.Put{Topic: "t", Queue: 1, Body: []byte("late"), DueMs: k.store().NowMs() + 5000, Properties: props(message.UniqKey, "id")})[0]
		if r.Queue != 1 || r.Offset != 0 {
			t.Errorf("got %+v", r)
		}
		rec, err := k.store().Record(r.Pos, nil)
		if err != nil || rec.Visible {
			t.Errorf("record: visible %v, %v", rec.Visible, err)
		}
		wantTexts(t, "record", records(t, rec.Bytes), "late")
		k.putN("t", 1, 1)
		time.Sleep(4999 * time.Millisecond)
		k.crash()
		wantTexts(t, "before its time", every(t, k.queue("t", 1), 0), "m0")
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		got := every(t, k.queue("t", 1), 0)
		wantTexts(t, "at its time", got, "m0", "late")
		if m := got[1]; m.PreparedTransactionOffset != 0 || m.QueueOffset != 1 || m.PhysicalOffset == r.Pos {
			t.Errorf("got %+v", m)
		}
		rec, err = k.store().Record(got[1].PhysicalOffset, []byte("in front"))
		if err != nil || !rec.Visible || !bytes.HasPrefix(rec.Bytes, []byte("in front")) {
			t.Errorf("record: visible %v, %v", rec.Visible, err)
		}
		if m := records(t, rec.Bytes[8:])[0]; m.PreparedTransactionOffset != 0 {
			t.Errorf("the record names %d, which only the broker understands", m.PreparedTransactionOffset)
		}
	})
}

// A half message of an identity is stored once, whenever the second one comes.
func TestStorePut_HalfTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := slowKit(t, 10*time.Millisecond)
		k.topic("t", 3)
		s := k.store()
		h := half("t", "p", "tx")
		h.Queue = 2
		other := half("t", "q", "tx") // of another group, so another one
		var ps []*embedded.Pending
		ps = append(ps, s.Put([]embedded.Put{h, h, other}), s.Put([]embedded.Put{h}), s.Put([]embedded.Put{h}))
		var rs []embedded.PutResult
		for _, p := range ps {
			got, err := p.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rs = append(rs, got...)
			p.Release()
		}
		first := rs[0]
		if first.Err != nil || first.Queue != 2 || first.Offset != 0 || rs[2].Pos == first.Pos {
			t.Errorf("got %+v", rs)
		}
		for i, r := range rs {
			if i != 2 && r != first {
				t.Errorf("half %d: %+v, want %+v", i, r, first)
			}
		}
		time.Sleep(time.Second)
		for _, how := range []string{"later", "after a restart", "after its decision"} {
			if r := k.put(h)[0]; r.Pos != first.Pos || r.StoredMs < first.StoredMs {
				t.Errorf("%s: %+v, want that at %d", how, r, first.Pos)
			}
			if how == "later" {
				k.reopen()
				continue
			}
			rs, err := k.store().Resolve(embedded.HalfID{Group: "p", Tx: "tx", Pos: first.Pos}, driver.Commit).Wait(t.Context())
			if err != nil || rs[0].Err != nil {
				t.Fatal(err, rs)
			}
		}
		got := every(t, k.queue("t", 2), 0)
		wantTexts(t, "committed", got, "tx")
	})
}

// What a start reads from the record has to be what was said.
func TestStorePut_HalfIsWhatItSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 1)
		for what, p := range map[string]embedded.Put{
			"no properties":   {Topic: "t", Group: "p", Tx: "tx"},
			"another id":      {Topic: "t", Group: "p", Tx: "tx", Properties: props(message.UniqKey, "tx2", message.ProducerGroup, "p")},
			"another group":   {Topic: "t", Group: "p", Tx: "tx", Properties: props(message.UniqKey, "tx", message.ProducerGroup, "p2")},
			"the last counts": {Topic: "t", Group: "p", Tx: "tx", Properties: props(message.UniqKey, "tx", message.ProducerGroup, "p"), Extra: props(message.UniqKey, "tx2")},
		} {
			wantCode(t, what, k.refusal(p), driver.InvalidArgument)
		}
		r := k.put(half("t", "p", "tx"))[0]
		k.crash()
		if again := k.put(half("t", "p", "tx"))[0]; again.Pos != r.Pos {
			t.Errorf("after a crash it is another one: %+v, want %+v", again, r)
		}
	})
}

// Redeliveries go to the queue of their topic, which is made if need be.
func TestStorePut_Retry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		const retry = "%RETRY%g"
		k.topic("t1", 1)
		k.topic("t2", 1)
		again := func(of, body string) embedded.Put {
			return embedded.Put{Topic: retry, Queue: 9, Group: "g", RetryOf: of, Body: []byte(body), Properties: props(message.RetryTopic, of)}
		}
		late := again("t2", "late")
		late.DueMs = k.store().NowMs() + 1000
		rs := k.put(again("t1", "a"), again("t2", "b"), again("t1", "c"), late)
		if rs[0].Queue != 0 || rs[1].Queue != 1 || rs[2].Queue != 0 || rs[2].Offset != 1 || rs[3].Queue != 1 {
			t.Errorf("got %+v", rs)
		}
		time.Sleep(2 * time.Second)
		c := k.join(k.conn, spec("g", "t2"))
		if got := bodies(c.fetch(retry+"/1", 2)); !slices.Equal(got, []string{"b", "late"}) {
			t.Errorf("got %q", got)
		}
		// A group that is no redelivery's, and one whose topic it is not.
		rs = k.put(embedded.Put{Topic: "t1", Queue: 0, Group: "g", RetryOf: "t2"}, embedded.Put{Topic: retry, Queue: 1})
		if rs[0].Offset != 0 || rs[1].Queue != 1 {
			t.Errorf("got %+v", rs)
		}
		wantCode(t, "a redelivery of a bad name", k.refusal(again("a b", "")), driver.InvalidArgument)
	})
}

// A refusal is of all, and leaves nothing behind.
func TestStorePut_Refusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, br := vfs.NewMem(), &breaker{}
		b, err := embedded.Open("", embedded.Config{Queues: 1, MaxBody: 100, FS: br.fs(m, vfs.OpWrite, vfs.OpAllocate)})
		if err != nil {
			t.Fatal(err)
		}
		k := &kit{TB: t, b: b, conn: b.Connect("main")}
		defer func() { _ = k.b.Close(t.Context()) }()
		k.topic("t", 1)
		fine := embedded.Put{Topic: "t", Body: []byte("fine")}
		late := half("t", "p", "tx")
		late.DueMs = k.store().NowMs() + 1
		for what, bad := range map[string]embedded.Put{
			"a body":     {Topic: "t", Body: make([]byte, 101)},
			"properties": {Topic: "t", Properties: props("a", strings.Repeat("b", 20000)), Extra: props("c", strings.Repeat("d", 20000))},
			"a topic":    {Topic: strings.Repeat("t", 1<<16)},
			"a half":     late,
		} {
			err := k.refusal(fine, bad)
			wantCode(t, what, err, driver.InvalidArgument)
			if err != nil && !strings.Contains(err.Error(), "message 1") {
				t.Errorf("%s: the error does not say which: %v", what, err)
			}
		}
		if n := k.queue("t", 0).Max(); n != 0 {
			t.Errorf("%d messages were stored", n)
		}
		k.put(embedded.Put{Topic: "t", Body: make([]byte, 100)})
		br.fail(syscall.ENOSPC)
		rs, failure := k.store().Put([]embedded.Put{fine, fine}).Wait(t.Context())
		for _, r := range rs {
			wantCode(t, "put to a full disk", r.Err, driver.ResourceExhausted)
		}
		if failure != nil && failure.Code != driver.ResourceExhausted {
			t.Errorf("put to a full disk: %v", failure)
		}
		time.Sleep(time.Second)
		wantCode(t, "put to a full store", k.refusal(fine), driver.ResourceExhausted)
		br.mend()
		time.Sleep(3 * time.Second)
		k.put(fine)
		if n := k.queue("t", 0).Max(); n != 2 {
			t.Errorf("%d messages, want 2", n)
		}
		s := k.store()
		k.must("close", k.b.Close(t.Context()))
		p := s.Put([]embedded.Put{fine})
		_, failure = p.Wait(t.Context())
		wantCode(t, "put to a closed broker", failure, driver.Closed)
		if !p.Ready() {
			t.Error("it was ready at once")
		}
	})
}

// Puts that were begun, and wait for a slow disk, keep the order of the calls,
// and share a sync; the caller has his memory back all the while.
func TestStorePut_OrderOfBegun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := slowKit(t, 10*time.Millisecond)
		k.topic("t", 1)
		s := k.store()
		start := time.Now()
		body, pairs := make([]byte, 0, 100), make([]byte, 0, 100)
		var ps []*embedded.Pending
		for i := range 500 {
			body = fmt.Appendf(body[:0], "m%d", i)
			pairs = append(pairs[:0], props(message.UniqKey, fmt.Sprint("id", i))...)
			ps = append(ps, s.Put([]embedded.Put{{Topic: "t", Body: body, Properties: pairs, Extra: pairs[:0]}}))
			clear(body)
			clear(pairs)
		}
		if time.Since(start) != 0 {
			t.Error("Put has waited")
		}
		if k.queue("t", 0).Max() != 0 || ps[499].Ready() {
			t.Error("what is not synced is not to be seen")
		}
		for i, p := range ps {
			rs, err := p.Wait(t.Context())
			if err != nil || rs[0].Err != nil || rs[0].Offset != int64(i) || !p.Ready() {
				t.Fatalf("put %d: %+v, %v, ready %v", i, rs, err, p.Ready())
			}
			p.Release()
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		for i, m := range every(t, k.queue("t", 0), 0) {
			if string(m.Body) != fmt.Sprint("m", i) || message.Property(m.Properties, message.UniqKey) != fmt.Sprint("id", i) {
				t.Fatalf("message %d: %q %q", i, m.Body, m.Properties)
			}
		}
	})
}

// Who gives up waiting knows nothing, and spoils nothing.
func TestStorePut_GivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := slowKit(t, 10*time.Millisecond)
		k.topic("t", 1)
		s := k.store()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 100 {
			p := s.Put([]embedded.Put{{Topic: "t", Body: fmt.Appendf(nil, "m%d", i)}})
			if i%2 == 0 {
				if _, err := p.Wait(gone); driver.CodeOf(err) != driver.Canceled || !err.MaybeDone {
					t.Fatalf("given up: %v", err)
				}
			}
			p.Release()
		}
		time.Sleep(time.Second)
		if n := k.queue("t", 0).Max(); n != 100 {
			t.Errorf("%d messages, want 100", n)
		}
		for i, m := range every(t, k.queue("t", 0), 0) {
			if string(m.Body) != fmt.Sprint("m", i) {
				t.Fatalf("message %d: %q", i, m.Body)
			}
		}
	})
}

// A sync that fails is what every put of its round hears.
func TestStorePut_FailedSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, br := vfs.NewMem(), &breaker{}
		b, err := embedded.Open("", embedded.Config{Queues: 1, FS: m})
		if err != nil {
			t.Fatal(err)
		}
		k := &kit{TB: t, b: b}
		k.topic("t", 1)
		k.must("close", b.Close(t.Context()))
		b, err = embedded.Open("", embedded.Config{Queues: 1, FS: br.fs(m, vfs.OpSync)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Close(t.Context()) }()
		k = &kit{TB: t, b: b}
		s := k.store()
		h := half("t", "p", "tx")
		br.fail(syscall.EIO)
		for _, p := range []*embedded.Pending{s.Put([]embedded.Put{{Topic: "t"}, h, h}), s.Put([]embedded.Put{h})} {
			rs, err := p.Wait(t.Context())
			if err != nil {
				wantCode(t, "put", err, driver.Unavailable)
				continue
			}
			for _, r := range rs {
				wantCode(t, "put", r.Err, driver.Unavailable)
			}
			p.Release()
		}
		wantCode(t, "health", s.Health(), driver.Unavailable)
		if k.queue("t", 0).Max() != 0 {
			t.Error("what is not synced is to be seen")
		}
	})
}
