package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

func bySQL(group, topic, expr string) driver.SubscribeSpec {
	return driver.SubscribeSpec{Group: group, Topic: topic, Filter: driver.Filter{SQL: expr}}
}

// noise sends n messages of kind no.
func (k *kit) noise(topic string, n int) {
	k.Helper()
	for n > 0 {
		ms := make([]*driver.Message, min(n, 1000))
		for i := range ms {
			ms[i] = &driver.Message{Topic: topic, Properties: map[string]string{"kind": "no"}}
		}
		k.send(ms...)
		n -= len(ms)
	}
}

// What SQL does not select is passed over for good, however much it is, and
// that becomes durable without any delivery or close.
func TestSQL_PositionMovesOnAndIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.noise("t", 6000) // more than may be in flight
		c := k.join(k.conn, bySQL("g", "t", "kind = 'yes'"))
		c.none("t/0", "nothing is selected")
		time.Sleep(time.Second)
		k.crash()
		lag, err := k.conn.Extensions().Groups.Lag(k.Context(), "g")
		k.must("lag", err)
		for _, l := range lag {
			if l.Behind() != 0 || l.InFlight != 0 {
				t.Errorf("after a crash the group is %d behind on %s with %d in flight, want nothing", l.Behind(), l.Name, l.InFlight)
			}
		}
		// A wider filter does not bring back what was passed over.
		k.join(k.conn, bySQL("g", "t", "TRUE")).none("t/0", "it was passed over")
	})
}

// One message in a long row is found by one Fetch, whatever its limit.
func TestSQL_FindsTheOneAmongMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.noise("t", 2000)
		k.send(&driver.Message{Topic: "t", Body: []byte("one"), Properties: map[string]string{"kind": "yes"}})
		k.noise("t", 2000)
		for _, limit := range []int{1, 64, 10_000} {
			c := k.join(k.b.Connect("c"), bySQL(fmt.Sprint("g", limit), "t", "kind = 'yes'"))
			ds, err := c.lane("t/0").Fetch(t.Context(), limit)
			k.must("fetch", err)
			if got := bodies(ds); !slices.Equal(got, []string{"one"}) {
				t.Errorf("limit %d: got %q, want the one", limit, got)
			}
			c.settle("t/0", driver.Ack, 0, ds...)
			c.none("t/0", "the rest is not selected")
		}
	})
}

// Fetch ends in its time though messages that it does not select keep coming.
func TestSQL_FetchEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.noise("t", 1)
		c := k.join(k.conn, bySQL("g", "t", "kind = 'yes'"))
		l := c.lane("t/0")
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 300 {
				k.noise("t", 1)
				time.Sleep(10 * time.Millisecond)
			}
		})
		defer wg.Wait()
		start := time.Now()
		ds, err := l.Fetch(t.Context(), 10)
		k.must("fetch", err)
		if took := time.Since(start); len(ds) > 0 || took != time.Second {
			t.Errorf("Fetch took %v and gave %d deliveries, want none after a second", took, len(ds))
		}
	})
}

// slowReads is a file system that takes its time for each read.
type slowReads struct {
	vfs.FS
	each atomic.Int64 // time.Duration
}

type slowFile struct {
	vfs.File
	fs *slowReads
}

func (s *slowReads) open(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s}, nil
}

func (s *slowReads) Create(name string) (vfs.File, error) { return s.open(s.FS.Create(name)) }
func (s *slowReads) OpenReadWrite(name string) (vfs.File, error) {
	return s.open(s.FS.OpenReadWrite(name))
}
func (s *slowReads) OpenRead(name string) (vfs.File, error) { return s.open(s.FS.OpenRead(name)) }

func (f *slowFile) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(time.Duration(f.fs.each.Load()))
	return f.File.ReadAt(p, off)
}

// Fetch ends in its time though there is more to be looked at, and the next one
// goes on where it ended.
func TestSQL_FetchEndsBeforeAllIsLookedAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fs := &slowReads{FS: vfs.NewMem()}
		b := mustOpen(t, "", embedded.Config{FS: fs, Queues: 1})
		defer func() { _ = b.Close(t.Context()) }()
		k := &kit{TB: t, b: b, conn: b.Connect("main")}
		k.noise("t", 3000)
		k.send(&driver.Message{Topic: "t", Body: []byte("one"), Properties: map[string]string{"kind": "yes"}})
		l := k.join(k.conn, bySQL("g", "t", "kind = 'yes'")).lane("t/0")
		fs.each.Store(int64(time.Millisecond))
		start := time.Now()
		for {
			began := time.Now()
			ds, err := l.Fetch(t.Context(), 1)
			k.must("fetch", err)
			if took := time.Since(began); took > 1010*time.Millisecond {
				t.Errorf("one Fetch took %v", took)
			}
			if len(ds) > 0 {
				break
			}
		}
		if took := time.Since(start); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("3,000 reads of 1ms took %v", took)
		}
	})
}

// Expressions see the properties by the names they have on the wire of
// RocketMQ, those of the broker included.
func TestSQL_NamesOnTheWire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.send(&driver.Message{
			Topic: "t", ID: "id-1", Tag: "water", Keys: []string{"B-1", "B-2"}, OrderingKey: "account 7",
			Body: []byte("m"), Properties: map[string]string{"amount": "12.5", "note": "it's"},
		})
		for i, expr := range []string{
			"TAGS = 'water'", "KEYS = 'B-1 B-2'", "UNIQ_KEY = 'id-1'", "__SHARDINGKEY = 'account 7'", "amount BETWEEN 12.0 AND 13.0",
			"note CONTAINS '''s' AND none IS NULL", "TRUE",
		} {
			c := k.join(k.b.Connect("c"), bySQL(fmt.Sprint("g", i), "t", expr))
			if d := c.fetch("t/0", 1)[0]; d.Properties["note"] != "it's" || d.Tag != "water" || len(d.Keys) != 2 {
				t.Errorf("%s: got %+v", expr, d)
			}
		}
	})
}

// The order of what is selected is kept on an ordered lane, and a failed
// attempt comes again in its place.
func TestSQL_Ordered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		for i := range 9 {
			k.send(&driver.Message{Topic: "t", Body: fmt.Appendf(nil, "m%d", i), Properties: map[string]string{"i": fmt.Sprint(i)}})
		}
		s := bySQL("g", "t", "i IN ('1', '4', '7')")
		s.Ordered = true
		c := k.join(k.conn, s)
		ds := c.fetch("t/0", 3)
		c.settle("t/0", driver.Retry, time.Minute, ds[1])
		c.settle("t/0", driver.Return, time.Minute, ds[2])
		c.settle("t/0", driver.Ack, 0, ds[0])
		again := c.fetch("t/0", 2)
		if got := bodies(again); !slices.Equal(got, []string{"m4", "m7"}) || again[0].Attempt != 2 {
			t.Errorf("again: got %q, the first with attempt %d, want m4 with attempt 2, then m7", got, again[0].Attempt)
		}
	})
}

// The members that come next may filter otherwise; what they do not select of
// the unsettled rest is passed over.
func TestSQL_NextMembersFilterOtherwise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		for _, kind := range []string{"a", "b", "c"} {
			k.send(&driver.Message{Topic: "t", Tag: kind, Body: []byte(kind)})
		}
		c := k.join(k.conn, spec("g", "t"))
		c.fetch("t/0", 2) // never settled
		c.close()
		c = k.join(k.conn, bySQL("g", "t", "TAGS <> 'a'"))
		if got := bodies(c.fetch("t/0", 2)); !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("got %q, want b and c", got)
		}
		c.close()
		c = k.join(k.conn, spec("g", "t"))
		if got := bodies(c.fetch("t/0", 2)); !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("without a filter: got %q, want what was not settled", got)
		}
		c.none("t/0", "a was passed over")
	})
}

func TestSubscribe_SQLRefused(t *testing.T) {
	t.Parallel()
	b, err := embedded.Open("", oneQueue)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	c := b.Connect("c")
	_, err = c.Subscribe(t.Context(), bySQL("g", "t", "color = 'red' AND size LIKE '1%'"), nil)
	wantCode(t, "subscribe with LIKE", err, driver.InvalidArgument)
	if se, ok := errors.AsType[*sql92.SyntaxError](err); !ok || se.Pos != 23 {
		t.Errorf("subscribe with LIKE: got error %v, want a SyntaxError at 23", err)
	}
	both := bySQL("g", "t", "TRUE")
	both.Filter.Tags = []string{"a"}
	_, err = c.Subscribe(t.Context(), both, nil)
	wantCode(t, "subscribe with tags and SQL", err, driver.InvalidArgument)
	if topics, err := c.Extensions().Topics.Topics(t.Context()); err != nil || len(topics) > 0 {
		t.Errorf("a refused subscription left topics %v, error %v", topics, err)
	}
}
