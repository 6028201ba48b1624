package embedded_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// store is the store of the broker as it is open now.
func (k *kit) store() *embedded.Store {
	k.Helper()
	s, err := k.b.Store(k.Context())
	k.must("store", err)
	return s
}

// topic makes a topic, or lets it grow.
func (k *kit) topic(name string, queues int) {
	k.Helper()
	k.must("put topic "+name, k.store().PutTopic(k.Context(), embedded.Topic{Name: name, Queues: queues}))
}

// queue is a queue that has to be there.
func (k *kit) queue(topic string, n int) embedded.Queue {
	k.Helper()
	q, ok := k.store().Queue(topic, n)
	if !ok {
		k.Fatalf("there is no queue %s/%d", topic, n)
	}
	return q
}

// put stores messages and answers what became of them, one after the other.
func (k *kit) put(puts ...embedded.Put) []embedded.PutResult {
	k.Helper()
	p := k.store().Put(puts)
	rs, err := p.Wait(k.Context())
	if err != nil {
		k.Fatalf("put: %v", err)
	}
	out := slices.Clone(rs)
	p.Release()
	for i, r := range out {
		if r.Err != nil {
			k.Fatalf("put %d: %v", i, r.Err)
		}
	}
	return out
}

// putN stores n small messages whose bodies are m0, m1, ….
func (k *kit) putN(topic string, queue, n int) []embedded.PutResult {
	k.Helper()
	puts := make([]embedded.Put, n)
	for i := range puts {
		puts[i] = embedded.Put{Topic: topic, Queue: queue, Body: fmt.Appendf(nil, "m%d", i)}
	}
	return k.put(puts...)
}

// refusal is the error of a Put of which nothing was begun.
func (k *kit) refusal(puts ...embedded.Put) error {
	k.Helper()
	p := k.store().Put(puts)
	defer p.Release()
	if !p.Ready() {
		k.Error("a refusal is ready at once")
	}
	if _, err := p.Wait(k.Context()); err != nil {
		return err
	}
	return nil
}

// props encodes properties: name, value, and so on.
func props(pairs ...string) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		b = message.AppendProperty(b, pairs[i], pairs[i+1])
	}
	return b
}

// half is a half message of a producer group.
func half(topic, group, tx string) embedded.Put {
	return embedded.Put{
		Topic: topic, Group: group, Tx: tx, Body: []byte(tx),
		Properties: props(message.TranMsg, "true", message.UniqKey, tx), Extra: props(message.ProducerGroup, group),
	}
}

// every reads everything a queue has from offset on.
func every(t testing.TB, q embedded.Queue, offset int64) []message.Stored {
	t.Helper()
	var out []message.Stored
	for offset < q.Max() {
		b, f, err := q.Read(offset, embedded.Selection{Messages: 1000, Bytes: 1 << 30}, nil)
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		if f.Next <= offset {
			t.Fatalf("read at %d goes on at %d", offset, f.Next)
		}
		offset = f.Next
		out = append(out, records(t, b)...)
	}
	return out
}

// records takes apart what a read has answered.
func records(t testing.TB, b []byte) []message.Stored {
	t.Helper()
	var out []message.Stored
	for len(b) > 0 {
		s, n, err := message.Decode(b)
		if err != nil {
			t.Fatalf("record %d: %v", len(out), err)
		}
		out = append(out, s)
		b = b[n:]
	}
	return out
}

// texts are the bodies of records.
func texts(rs []message.Stored) []string {
	out := []string{}
	for _, r := range rs {
		out = append(out, string(r.Body))
	}
	return out
}

func wantTexts(t testing.TB, what string, got []message.Stored, want ...string) {
	t.Helper()
	if g := texts(got); !slices.Equal(g, want) {
		t.Errorf("%s: got %q, want %q", what, g, want)
	}
}

// wantPosition compares the position of a group; below zero there is none.
func wantPosition(t testing.TB, what string, c embedded.Cursor, want int64) {
	t.Helper()
	got, ok := c.Position()
	if !ok {
		got = -1
	}
	if got != want {
		t.Errorf("%s: the position is %d, want %d", what, got, want)
	}
}

// slowDisk is a file system whose syncs of files take a while. (A hook of
// vfs.Inject must not sleep: it holds a lock, and a bubble waits for those.)
type slowDisk struct {
	vfs.FS
	d time.Duration
}

type slowSync struct {
	vfs.File
	d time.Duration
}

func (s slowDisk) Create(name string) (vfs.File, error) { return s.slow(s.FS.Create(name)) }

func (s slowDisk) OpenReadWrite(name string) (vfs.File, error) {
	return s.slow(s.FS.OpenReadWrite(name))
}

func (s slowDisk) slow(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return slowSync{f, s.d}, nil
}

func (f slowSync) Sync() error {
	time.Sleep(f.d)
	return f.File.Sync()
}

func (f slowSync) SyncData() error {
	time.Sleep(f.d)
	return f.File.SyncData()
}

// slowKit is a kit whose syncs take a while.
func slowKit(t testing.TB, d time.Duration) *kit {
	m := vfs.NewMem()
	b, err := embedded.Open("", embedded.Config{Queues: 1, FS: slowDisk{m, d}})
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{TB: t, fs: m, b: b, conn: b.Connect("main")}
	t.Cleanup(func() { _ = k.b.Close(context.Background()) })
	return k
}

// What a Store says of itself.
func TestStore_About(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{MaxBody: 1000})
		s := k.store()
		if s.MaxBody() != 1000 || !s.Durable() || s.Health() != nil || s.StoreID() == 0 {
			t.Errorf("max body %d, durable %v, health %v, id %d", s.MaxBody(), s.Durable(), s.Health(), s.StoreID())
		}
		before := s.NowMs()
		time.Sleep(time.Second)
		if took := s.NowMs() - before; took != 1000 {
			t.Errorf("a second took %d ms", took)
		}
		k.topic("t", 1)
		k.putN("t", 0, 3)
		if s.Stats().End == 0 {
			t.Error("the log has an end")
		}
		id := s.StoreID()
		k.reopen()
		if k.store().StoreID() != id {
			t.Error("another id after a restart")
		}
		for _, bad := range []netip.AddrPort{{}, netip.MustParseAddrPort("10.0.0.1:0")} {
			wantCode(t, "set host "+bad.String(), k.store().SetHost(bad), driver.InvalidArgument)
		}
		old := k.store()
		k.must("close", k.b.Close(t.Context()))
		if _, err := k.b.Store(t.Context()); driver.CodeOf(err) != driver.Closed {
			t.Errorf("store of a closed broker: %v", err)
		}
		wantCode(t, "put topic", old.PutTopic(t.Context(), embedded.Topic{Name: "u", Queues: 1}), driver.Closed)
		wantCode(t, "put group", old.PutGroup(t.Context(), embedded.Group{Name: "g", Settings: []byte("x")}), driver.Closed)
		if _, ok := old.Topic("t"); !ok {
			t.Error("what was there last is answered")
		}
	})
	b, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(t.Context()) }()
	if s, err := b.Store(t.Context()); err != nil || s.Durable() {
		t.Errorf("a store in memory: %v, durable %v", err, s.Durable())
	}
}
