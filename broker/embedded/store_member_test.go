package embedded_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

func TestCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := small
		cfg.Retention.Bytes = 256 << 10
		k := newKit(t, cfg)
		s := k.store()
		early := s.Cursor("g", "t", 0)
		early.Commit(3) // there is no such queue
		k.topic("t", 2)
		wantPosition(t, "unknown", early, -1)
		k.putN("t", 0, 10)
		for _, c := range []struct{ commit, want int64 }{{4, 4}, {4, 4}, {2, 2}, {99, 10}, {-5, 0}, {7, 7}} {
			early.Commit(c.commit)
			wantPosition(t, fmt.Sprint("after ", c.commit), s.Cursor("g", "t", 0), c.want)
		}
		wantPosition(t, "of another queue", s.Cursor("g", "t", 1), -1)
		wantPosition(t, "of another group", s.Cursor("h", "t", 0), -1)
		wantPosition(t, "of no queue", s.Cursor("g", "t", 2), -1)
		s.Cursor("g", "t", 1).Commit(0) // known now
		time.Sleep(999 * time.Millisecond)
		k.crash()
		s = k.store()
		wantPosition(t, "a second later, after a crash", s.Cursor("g", "t", 0), 7)
		wantPosition(t, "a known zero", s.Cursor("g", "t", 1), 0)
		s.Cursor("g", "t", 0).Commit(8)
		k.reopen() // a close waits for nothing
		wantPosition(t, "after a close", k.store().Cursor("g", "t", 0), 8)
		end := k.store().Stats().End
		k.store().Cursor("g", "t", 0).Commit(8)
		time.Sleep(time.Second)
		if now := k.store().Stats().End; now != end {
			t.Error("a position that has not changed was written")
		}
		// Positions keep within what is there.
		k.fill("t", 0, 2000)
		time.Sleep(time.Minute)
		q := k.queue("t", 0)
		if q.Min() == 0 {
			t.Fatal("nothing was removed")
		}
		k.store().Cursor("g", "t", 0).Reset(1)
		wantPosition(t, "reset to what is gone", k.store().Cursor("g", "t", 0), q.Min())
	})
}

// The retry topic of a group is a topic like others here, whoever consumes it.
func TestCursor_Retry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		const retry = "%RETRY%g"
		k.sendN("a", 1)
		k.sendN("b", 4)
		k.must("retry", s.EnsureRetry(t.Context(), "g", []string{"a", "b"}))
		c := k.join(k.conn, spec("g", "b"))
		c.settle("b/0", driver.Retry, 0, c.fetch("b/0", 4)...)
		c.settle(retry+"/1", driver.Ack, 0, c.fetch(retry+"/1", 2)...)
		if cur := s.Cursor("g", retry, 1); !cur.Held() {
			t.Error("its lane is held")
		}
		c.close()
		wantPosition(t, "consumed here", s.Cursor("g", retry, 1), 2)
		wantPosition(t, "of another topic", s.Cursor("g", retry, 0), -1)
		s.Cursor("g", retry, 1).Commit(3)
		wantTexts(t, "elsewhere", every(t, k.queue(retry, 1), 3), "m3")
		time.Sleep(time.Second)
		k.crash()
		wantPosition(t, "after a crash", k.store().Cursor("g", retry, 1), 3)
		c = k.join(k.conn, spec("g", "b"))
		if got := bodies(c.fetch(retry+"/1", 1)); got[0] != "m3" {
			t.Errorf("got %q, want what was left elsewhere", got)
		}
		// To another group it is a topic like others in every way.
		k.store().Cursor("h", retry, 1).Commit(1)
		wantPosition(t, "of another group", k.store().Cursor("h", retry, 1), 1)
		wantPosition(t, "of the group", k.store().Cursor("g", retry, 1), 3)
	})
}

// Who holds a lane knows better than who commits elsewhere; a reset moves both.
func TestCursor_Held(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		k.sendN("t", 10)
		cur := s.Cursor("g", "t", 0)
		if cur.Held() {
			t.Error("nobody is there")
		}
		c := k.join(k.conn, spec("g", "t"))
		ds := c.fetch("t/0", 5)
		c.settle("t/0", driver.Ack, 0, ds[:2]...)
		if !cur.Held() {
			t.Error("its lane is held")
		}
		cur.Commit(9)
		wantPosition(t, "a commit of somebody else", cur, 2)
		cur.Reset(7)
		wantPosition(t, "a reset", cur, 7)
		c.settle("t/0", driver.Ack, 0, ds[3]) // it means nothing any more
		if got := bodies(c.fetch("t/0", 3)); !slices.Equal(got, []string{"m7", "m8", "m9"}) {
			t.Errorf("after a reset: got %q", got)
		}
		c.close()
		if cur.Held() {
			t.Error("nobody is there any more")
		}
		wantPosition(t, "left", cur, 7)
		cur.Commit(9)
		wantPosition(t, "a commit", cur, 9)
		c = k.join(k.conn, spec("g", "t"))
		if got := bodies(c.fetch("t/0", 1)); got[0] != "m9" {
			t.Errorf("got %q", got)
		}
		c.none("t/0", "that was all")
	})
}

// A lane that comes from elsewhere waits for the last position, for as long as
// its client is there and the time is not up.
func TestStoreJoin_HandOver(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		lives int // of members here that came and went before
		tell  func(k *kit)
		after time.Duration
		from  string // the first message
	}{
		"told":             {0, func(k *kit) { k.store().Cursor("g", "t", 0).Commit(6) }, 0, "m6"},
		"told as it was":   {0, func(k *kit) { k.store().Cursor("g", "t", 0).Commit(3) }, 0, "m3"},
		"left":             {0, func(k *kit) { k.store().Leave("g", "x") }, 0, "m3"},
		"told by others":   {0, func(k *kit) { k.store().Cursor("g", "t", 1).Commit(0); k.store().Leave("g", "y") }, 2 * time.Second, "m3"},
		"never":            {0, func(*kit) {}, 2 * time.Second, "m3"},
		"told, second":     {1, func(k *kit) { k.store().Cursor("g", "t", 0).Commit(6) }, 0, "m6"},
		"never, third":     {2, func(*kit) {}, 2 * time.Second, "m3"},
		"reset meanwhile":  {0, func(k *kit) { k.store().Cursor("g", "t", 0).Reset(8) }, 2 * time.Second, "m8"},
		"other topics now": {0, func(k *kit) { k.store().Join("g", "x", nil); k.store().Cursor("g", "t", 0).Commit(5) }, 0, "m5"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, embedded.Config{Queues: 2})
				s := k.store()
				k.topic("t", 2)
				k.putN("t", 0, 10)
				for range c.lives {
					k.join(k.b.Connect("a"), spec("g", "t")).close()
				}
				s.Join("g", "x", []string{"t"})
				s.Join("g", "y", []string{"t"})
				s.Cursor("g", "t", 0).Commit(3)
				if s.Cursor("g", "t", 0).Held() {
					t.Fatal("nobody is there")
				}
				time.Sleep(time.Minute)
				here := k.join(k.b.Connect("a"), spec("g", "t")) // the first of the ids
				synctest.Wait()
				if len(here.owned()) > 1 { // the retry lane is nobody's yet, but x's
					t.Fatalf("it owns %d lanes before it was told", len(here.owned()))
				}
				if !s.Cursor("g", "t", 0).Held() {
					t.Error("it is to get the lane")
				}
				start := time.Now()
				c.tell(k)
				here.lane("t/0")
				if took := time.Since(start); took < c.after || took > c.after+10*time.Millisecond {
					t.Errorf("it waited %v, want %v", took, c.after)
				}
				if got := string(here.fetch("t/0", 1)[0].Body); got != c.from {
					t.Errorf("it begins with %s, want %s", got, c.from)
				}
				s.Cursor("g", "t", 0).Commit(9)
				here.close()
				want := int64(c.from[1] - '0')
				wantPosition(t, "a commit that came too late", s.Cursor("g", "t", 0), want)
			})
		})
	}
}

// A lane that goes elsewhere is held until its member has settled its work.
func TestStoreJoin_Revocation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		k.sendN("t", 10)
		var told []string
		s.OnMembers(func(group string) { told = append(told, group+fmt.Sprint(s.Members(group))) })
		here := k.join(k.b.Connect("m"), spec("g", "t"))
		ds := here.fetch("t/0", 4)
		here.hold = func(_ context.Context, l driver.Lane) {
			time.Sleep(3 * time.Second)
			if l.Name() == "t/0" {
				_ = l.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}, {Delivery: ds[1], Outcome: driver.Ack}})
			}
		}
		s.Join("g", "a", []string{"t"}) // comes before m
		s.Join("g", "a", []string{"t"})
		time.Sleep(2 * time.Second)
		if !s.Cursor("g", "t", 0).Held() {
			t.Error("it is still at work")
		}
		time.Sleep(2 * time.Second)
		if s.Cursor("g", "t", 0).Held() {
			t.Error("it is a's now")
		}
		wantPosition(t, "handed over", s.Cursor("g", "t", 0), 2)
		s.Cursor("g", "t", 0).Commit(5)
		s.Leave("g", "a")
		s.Leave("g", "a")
		if got := bodies(here.fetch("t/0", 5)); got[0] != "m5" {
			t.Errorf("it came back with %q", got)
		}
		here.hold = nil
		here.close()
		k.join(k.conn, driver.SubscribeSpec{Group: "r", Topic: "t", Broadcast: true}).close()
		if want := []string{"g[m]", "g[]", "r[]", "r[]"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
		s.OnMembers(nil)
		k.join(k.conn, spec("g", "t")).close()
		if len(told) != 4 {
			t.Errorf("told %q", told)
		}
	})
}

// Lanes that change hands faster than their members can follow come to rest
// with the last word, and nobody waits for a client that never had them.
func TestStoreJoin_BackAndForth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		k.sendN("t", 3)
		here := k.join(k.b.Connect("m"), spec("g", "t"))
		here.lane("t/0")
		here.hold = func(context.Context, driver.Lane) { time.Sleep(time.Second) }
		for range 5 { // a never gets the lane: m is still at work
			s.Join("g", "a", []string{"t"})
			time.Sleep(100 * time.Millisecond)
			s.Leave("g", "a")
		}
		s.Join("g", "a", []string{"t"})
		time.Sleep(100 * time.Millisecond)
		s.Join("g", "a", nil)
		start := time.Now()
		time.Sleep(time.Second)
		synctest.Wait()
		if here.lane("t/0"); time.Since(start) > 1100*time.Millisecond {
			t.Errorf("it waited %v", time.Since(start))
		}
		here.hold = nil
		// Once it has it, the wait is for the one who had it last, and ends if
		// the lane goes away again.
		s.Join("g", "a", []string{"t"})
		time.Sleep(time.Second)
		for range 3 {
			s.Leave("g", "a")
			s.Join("g", "a", []string{"t"})
		}
		synctest.Wait()
		if s.Cursor("g", "t", 0).Held() {
			t.Error("it is a's")
		}
		s.Join("g", "a", nil) // it has other topics, and may still commit
		synctest.Wait()
		if !s.Cursor("g", "t", 0).Held() || len(here.owned()) > 0 {
			t.Error("it is to be m's")
		}
		start = time.Now()
		here.close() // nobody waits any more
		k.must("close", k.b.Close(t.Context()))
		if time.Since(start) > 0 {
			t.Errorf("the close took %v", time.Since(start))
		}
	})
}

// Members of one id sit together if clients elsewhere share the lanes, because
// those know ids only; who uses the id of a member here gets nothing.
func TestStoreJoin_Seats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 8})
		s := k.store()
		k.topic("t", 8)
		m1, m2 := k.join(k.b.Connect("m"), spec("g", "t")), k.join(k.b.Connect("m"), spec("g", "t"))
		n := k.join(k.b.Connect("n"), spec("g", "t"))
		synctest.Wait()
		if got := []int{len(m1.owned()), len(m2.owned()), len(n.owned())}; !slices.Equal(got, []int{4, 3, 2}) {
			t.Errorf("alone they own %v, want 3 and the retry lane, 3, 2", got)
		}
		s.Join("g", "z", []string{"t"})
		s.Join("g", "m", []string{"t"})
		time.Sleep(time.Minute)
		if got := len(m1.owned()) + len(m2.owned()); got != 4 || len(m1.owned()) == 0 || len(m2.owned()) == 0 {
			t.Errorf("m owns %d and %d lanes, want 3 and the retry lane together", len(m1.owned()), len(m2.owned()))
		}
		if got := len(n.owned()); got != 3 {
			t.Errorf("n owns %d lanes, want 3", got)
		}
		for q, held := range []bool{true, true, true, true, true, true, false, false} {
			if got := s.Cursor("g", "t", q).Held(); got != held {
				t.Errorf("queue %d held: %v", q, got)
			}
		}
		if got := s.Members("g"); !slices.Equal(got, []string{"m", "n"}) {
			t.Errorf("members %q", got)
		}
		infos, err := k.conn.Extensions().Groups.Groups(t.Context())
		k.must("groups", err)
		if len(infos) != 1 || !slices.Equal(infos[0].Members, []string{"m", "n", "z"}) {
			t.Errorf("groups %+v", infos)
		}
		_, err = k.conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: "g2", Topic: "t", Broadcast: true}, m1)
		k.must("broadcast", err)
		s.Join("g3", "z", []string{"t"})
		_, err = k.conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: "g3", Topic: "t", Broadcast: true}, m1)
		wantCode(t, "broadcast where others share", err, driver.FailedPrecondition)
	})
}

// A retry topic that gets queues for more topics is divided anew for those it
// had.
func TestStoreJoin_RetryTopicGrows(t *testing.T) {
	t.Parallel()
	for what, grow := range map[string]func(k *kit){
		"by a member here":    func(k *kit) { k.join(k.b.Connect("m"), spec("g", "c")) },
		"by one elsewhere":    func(k *kit) { k.must("retry", k.store().EnsureRetry(k.Context(), "g", []string{"c"})) },
		"by a redelivery":     func(k *kit) { k.put(embedded.Put{Topic: "%RETRY%g", Group: "g", RetryOf: "c"}) },
		"by an administrator": func(k *kit) { k.topic("%RETRY%g", 3) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, oneQueue)
				s := k.store()
				k.topic("c", 1)
				for _, topic := range []string{"a", "b"} {
					k.join(k.b.Connect("m"), spec("g", topic))
				}
				s.Join("g", "z", []string{"a", "b"})
				time.Sleep(time.Minute)
				held := func() (out []bool) {
					for n := range 2 {
						out = append(out, s.Cursor("g", "%RETRY%g", n).Held())
					}
					return out
				}
				if got := held(); !slices.Equal(got, []bool{true, false}) {
					t.Errorf("of two, held are %v", got)
				}
				grow(k)
				time.Sleep(time.Minute)
				if got := held(); !slices.Equal(got, []bool{true, true}) {
					t.Errorf("of three, held are %v", got)
				}
			})
		})
	}
}

// Everything at once, from everywhere.
func TestStore_Races(t *testing.T) {
	t.Parallel()
	b, err := embedded.Open("", embedded.Config{Queues: 2, CheckAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{TB: t, b: b}
	s := k.store()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	loop := func(f func(n int)) {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil && n < 300; n++ {
				f(n)
			}
		})
	}
	for j := range 2 {
		conn := b.Connect(fmt.Sprint("c", j))
		loop(func(n int) {
			if sub, err := conn.Subscribe(ctx, spec("g", fmt.Sprint("t", n%2)), &consumer{lanes: map[string]driver.Lane{}}); err == nil {
				_ = sub.Close(ctx)
			}
		})
		loop(func(n int) {
			_ = s.PutTopic(ctx, embedded.Topic{Name: fmt.Sprint("t", n%2), Queues: 1 + n%5, Settings: []byte(fmt.Sprint(n % 3))})
			_ = s.EnsureRetry(ctx, "g", []string{fmt.Sprint("t", n%3)})
			if n%10 == 0 {
				_ = s.DeleteTopic(ctx, fmt.Sprint("t", n%2))
				_ = s.DeleteTopic(ctx, "%RETRY%g")
			}
		})
		loop(func(n int) {
			s.Join("g", fmt.Sprint("x", j), []string{"t0", "t1"}[:n%3])
			if n%7 == 0 {
				s.Leave("g", fmt.Sprint("x", j))
			}
			for _, topic := range []string{"t0", "t1", "%RETRY%g"} {
				c := s.Cursor("g", topic, n%2)
				c.Commit(int64(n))
				c.Position()
				c.Held()
			}
			s.Consumed("g")
			s.GroupsOf("t0")
			s.Members("g")
		})
		loop(func(n int) {
			again := embedded.Put{Topic: "%RETRY%g", Group: "g", RetryOf: "t1"}
			p := s.Put([]embedded.Put{{Topic: fmt.Sprint("t", n%2), Queue: -1}, half("t0", "p", fmt.Sprint("tx", n)), again})
			if rs, err := p.Wait(ctx); err == nil && rs[1].Err == nil {
				s.Resolve(embedded.HalfID{Group: "p", Tx: fmt.Sprint("tx", n), Pos: rs[1].Pos}, driver.Commit).Wait(ctx)
			}
			p.Release()
			if q, ok := s.Queue("t0", 0); ok {
				stop := q.Watch(func() {})
				_, _, _ = q.Read(q.Min(), embedded.Selection{Messages: 10, Bytes: 1000}, nil)
				stop()
			}
		})
		loop(func(n int) {
			leave := s.Checks("p", func(embedded.Check) bool { return n%2 == 0 })
			_ = s.PutGroup(ctx, embedded.Group{Name: fmt.Sprint("g", n%4), Settings: []byte("x")[:n%2]})
			_ = s.DeleteGroup(ctx, fmt.Sprint("g", n%4), n%3 == 0)
			s.Groups()
			s.Topics()
			leave()
		})
	}
	time.Sleep(200 * time.Millisecond)
	k.must("close", b.Close(t.Context()))
	cancel()
	wg.Wait()
}
