package embedded_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// described is what a store says of its topics.
func described(s *embedded.Store) []string {
	var out []string
	for _, t := range s.Topics() {
		out = append(out, fmt.Sprintf("%s %d %q", t.Name, t.Queues, t.Settings))
		if one, ok := s.Topic(t.Name); !ok || one.Queues != t.Queues || string(one.Settings) != string(t.Settings) {
			out = append(out, fmt.Sprintf("but alone it is %+v", one))
		}
	}
	return out
}

func wantLines(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestStore_Topics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		settings := []byte("perm=6")
		k.must("put", s.PutTopic(t.Context(), embedded.Topic{Name: "b", Queues: 2, Settings: settings}))
		clear(settings) // they were copied
		k.must("put", s.PutTopic(t.Context(), embedded.Topic{Name: "a", Queues: 1}))
		k.must("put", s.PutTopic(t.Context(), embedded.Topic{Name: "c", Queues: 3, Settings: []byte("old")}))
		wantLines(t, "made", described(s), `a 1 ""`, `b 2 "perm=6"`, `c 3 "old"`)
		k.must("grow, keep", s.PutTopic(t.Context(), embedded.Topic{Name: "b", Queues: 5, Settings: []byte("perm=6")}))
		k.must("no queues less", s.PutTopic(t.Context(), embedded.Topic{Name: "c", Queues: 1, Settings: []byte("new")}))
		want := []string{`a 1 ""`, `b 5 "perm=6"`, `c 3 "new"`}
		wantLines(t, "changed", described(s), want...)
		k.crash()
		wantLines(t, "after a crash", described(k.store()), want...)
		k.reopen() // from a checkpoint
		wantLines(t, "after a close", described(k.store()), want...)
		k.must("no settings any more", k.store().PutTopic(t.Context(), embedded.Topic{Name: "c", Queues: 3}))
		k.crash()
		wantLines(t, "after another crash", described(k.store()), `a 1 ""`, `b 5 "perm=6"`, `c 3 ""`)
		if _, ok := k.store().Topic("d"); ok {
			t.Error("there is no topic d")
		}
		for n, ok := range map[int]bool{-1: false, 0: true, 4: true, 5: false} {
			if _, got := k.store().Queue("b", n); got != ok {
				t.Errorf("queue %d of b: %v", n, got)
			}
		}
		for what, bad := range map[string]embedded.Topic{
			"no name": {Queues: 1}, "a bad name": {Name: "a/b", Queues: 1}, "no queue": {Name: "d"}, "too many queues": {Name: "d", Queues: 1025},
			"too long settings": {Name: "d", Queues: 1, Settings: make([]byte, 64<<10+1)},
		} {
			wantCode(t, "put a topic with "+what, k.store().PutTopic(t.Context(), bad), driver.InvalidArgument)
		}
		k.must("long settings", k.store().PutTopic(t.Context(), embedded.Topic{Name: "d", Queues: 1024, Settings: make([]byte, 64<<10)}))
	})
}

// Settings outlive the part of the log in which they were written, without a
// checkpoint, too.
func TestStore_SettingsSurviveRetention(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := small
		cfg.Retention.Bytes = 256 << 10
		k := newKit(t, cfg)
		k.must("put", k.store().PutTopic(t.Context(), embedded.Topic{Name: "t", Queues: 2, Settings: []byte("of t")}))
		k.must("put", k.store().PutGroup(t.Context(), embedded.Group{Name: "g", Settings: []byte("of g")}))
		k.must("put", k.store().PutGroup(t.Context(), embedded.Group{Name: "gone", Settings: []byte("x")}))
		k.must("delete", k.store().DeleteGroup(t.Context(), "gone", true))
		k.fill("u", 0, 2000)
		time.Sleep(time.Minute)
		if k.stats().Start == 0 {
			t.Fatal("nothing was removed")
		}
		for _, without := range [][]string{nil, {"STATE-", ".idx"}} {
			k.must("close", k.b.Close(t.Context()))
			if without != nil {
				for _, name := range k.files(without...) {
					k.must("remove", k.fs.Remove(name))
				}
			}
			k.open()
			wantLines(t, fmt.Sprint("without ", without), described(k.store())[:1], `t 2 "of t"`)
			if gs := k.store().Groups(); len(gs) != 1 || gs[0].Name != "g" || string(gs[0].Settings) != "of g" {
				t.Errorf("without %v: groups %+v", without, gs)
			}
		}
	})
}

// Members in this process get their share of new queues at once, and begin each
// with its first message, though they wanted the latest ones only.
func TestStore_PutTopicGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 1)
		k.putN("t", 0, 3)
		latest := spec("g", "t")
		latest.From = driver.Position{Kind: driver.Latest}
		a := k.join(k.b.Connect("a"), latest)
		b := k.join(k.b.Connect("b"), latest)
		gone := latest
		gone.Group = "gone"
		k.join(k.b.Connect("c"), gone).close()
		everyone := latest
		everyone.Group, everyone.Broadcast = "everyone", true
		radio := k.join(k.b.Connect("radio"), everyone)
		synctest.Wait()
		k.topic("t", 4)
		synctest.Wait()
		if got := []int{len(a.owned()), len(b.owned()), len(radio.owned())}; !slices.Equal(got, []int{3, 2, 4}) {
			t.Errorf("a, b and radio own %d lanes, want 3, with the retry lane, 2 and 4", got)
		}
		k.put(embedded.Put{Topic: "t", Queue: 1, Body: []byte("one")}, embedded.Put{Topic: "t", Queue: 3, Body: []byte("three")})
		if got := string(a.fetch("t/1", 1)[0].Body) + string(b.fetch("t/3", 1)[0].Body) + string(radio.fetch("t/3", 1)[0].Body); got != "onethreethree" {
			t.Errorf("got %q", got)
		}
		k.crash() // nothing was settled, the positions of the old queues are all that was stored
		for _, s := range []driver.SubscribeSpec{latest, gone} {
			c := k.join(k.conn, s)
			if got := string(c.fetch("t/1", 1)[0].Body) + string(c.fetch("t/3", 1)[0].Body); got != "onethree" {
				t.Errorf("after a crash group %s got %q", s.Group, got)
			}
			c.none("t/0", "the group wanted the latest ones")
		}
		radio = k.join(k.b.Connect("radio"), everyone)
		if got := string(radio.fetch("t/1", 1)[0].Body) + string(radio.fetch("t/3", 1)[0].Body); got != "onethree" {
			t.Errorf("after a crash radio got %q", got)
		}
	})
}

func TestStore_DeleteTopic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		wantCode(t, "delete what is not there", s.DeleteTopic(t.Context(), "t"), driver.NotFound)
		k.must("put", s.PutTopic(t.Context(), embedded.Topic{Name: "t", Queues: 2, Settings: []byte("x")}))
		k.putN("t", 0, 5)
		k.put(embedded.Put{Topic: "t", Queue: 0, Body: []byte("late"), DueMs: s.NowMs() + 5000})
		q := k.queue("t", 0)
		s.Cursor("g", "t", 0).Commit(4)
		s.Join("g", "elsewhere", []string{"t"})
		time.Sleep(time.Second)
		c := k.join(k.conn, spec("h", "t"))
		wantCode(t, "delete a topic in use", s.DeleteTopic(t.Context(), "t"), driver.FailedPrecondition)
		c.close()
		k.must("delete, with members elsewhere", s.DeleteTopic(t.Context(), "t"))
		wantPosition(t, "deleted", s.Cursor("g", "t", 0), -1)
		if q.Max() != 5 || q.Min() != 5 {
			t.Errorf("the queue that is gone has %d to %d", q.Min(), q.Max())
		}
		if b, f, err := q.Read(0, embedded.Selection{Messages: 10, Bytes: 1000}, nil); err != nil || len(b) > 0 || f.Next != 5 {
			t.Errorf("reading it: %d bytes, %+v, %v", len(b), f, err)
		}
		c = k.join(k.conn, spec("z", "t")) // makes it anew, without a word about settings
		c.close()
		time.Sleep(time.Minute)
		for range 2 {
			if tp, _ := k.store().Topic("t"); tp.Settings != nil || tp.Queues != 1 || k.queue("t", 0).Max() != 0 {
				t.Errorf("the new topic: %+v with %d messages", tp, k.queue("t", 0).Max())
			}
			wantPosition(t, "made anew", k.store().Cursor("g", "t", 0), -1)
			k.crash()
		}
	})
}

// What was committed shortly before the end of a topic or of a group, and was
// on its way to the log, says nothing about what comes after it.
func TestStore_DeletionForgetsWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	for what, remove := range map[string]func(k *kit){
		"topic": func(k *kit) {
			k.must("delete", k.store().DeleteTopic(k.Context(), "t"))
			k.topic("t", 1)
			k.putN("t", 0, 20)
		},
		"topic, by a client": func(k *kit) {
			k.must("delete", k.conn.Extensions().Topics.DeleteTopic(k.Context(), "t"))
			k.topic("t", 1)
			k.putN("t", 0, 20)
		},
		"group": func(k *kit) { k.must("delete", k.store().DeleteGroup(k.Context(), "g", true)) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, oneQueue)
				k.topic("t", 1)
				k.putN("t", 0, 10)
				k.store().Cursor("g", "t", 0).Commit(7)
				remove(k)
				wantPosition(t, "at once", k.store().Cursor("g", "t", 0), -1)
				time.Sleep(2 * time.Second)
				wantPosition(t, "later", k.store().Cursor("g", "t", 0), -1)
				if gs := k.store().Groups(); len(gs) > 0 {
					t.Errorf("groups %+v", gs)
				}
				k.reopen()
				wantPosition(t, "after a restart", k.store().Cursor("g", "t", 0), -1)
				c := k.join(k.conn, spec("g", "t"))
				c.fetch("t/0", 10) // from the first one on
			})
		})
	}
}

// A retry topic belongs to its group: it is in use as long as somebody consumes
// its lanes, and takes their positions along.
func TestStore_DeleteRetryTopic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s := k.store()
		k.topic("t", 1)
		k.putN("t", 0, 3)
		const retry = "%RETRY%g"
		c := k.join(k.conn, spec("g", "t"))
		c.settle("t/0", driver.Retry, 0, c.fetch("t/0", 3)...)
		c.settle(retry+"/0", driver.Ack, 0, c.fetch(retry+"/0", 3)...)
		wantCode(t, "delete it in use", s.DeleteTopic(t.Context(), retry), driver.FailedPrecondition)
		c.close()
		wantPosition(t, "consumed", s.Cursor("g", retry, 0), 3)
		wantLines(t, "consumed", s.Consumed("g"), retry, "t")
		k.must("delete", s.DeleteTopic(t.Context(), retry))
		for range 2 {
			s = k.store()
			wantLines(t, "deleted", s.Consumed("g"), "t")
			k.must("make it anew", s.EnsureRetry(t.Context(), "g", []string{"t"}))
			wantPosition(t, "made anew", s.Cursor("g", retry, 0), -1)
			wantPosition(t, "of the topic", s.Cursor("g", "t", 0), 3)
			k.crash()
		}
		k.put(embedded.Put{Topic: retry, Group: "g", RetryOf: "t", Body: []byte("again")})
		if got := k.join(k.conn, spec("g", "t")).fetch(retry+"/0", 1); string(got[0].Body) != "again" {
			t.Errorf("got %q", got[0].Body)
		}
	})
}

func TestStore_EnsureRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s, ctx := k.store(), t.Context()
		const retry = "%RETRY%g"
		k.must("none", s.EnsureRetry(ctx, "lonely", nil))
		if tp, ok := s.Topic("%RETRY%lonely"); !ok || tp.Queues != 1 {
			t.Errorf("without topics: %+v, %v", tp, ok)
		}
		k.must("two", s.EnsureRetry(ctx, "g", []string{"t1", "t2", retry, "%DLQ%g", "t1"}))
		end := s.Stats().End
		k.must("again", s.EnsureRetry(ctx, "g", []string{"t2", "t1"}))
		if s.Stats().End != end {
			t.Error("what is there was written again")
		}
		var wg sync.WaitGroup
		errs := make([]error, 20)
		for i := range errs {
			wg.Go(func() { errs[i] = s.EnsureRetry(ctx, "g", []string{fmt.Sprint("t", i%5), fmt.Sprint("t", i%3)}) })
		}
		wg.Wait()
		for _, err := range errs {
			k.must("at once", err)
		}
		for range 2 {
			if tp, _ := k.store().Topic(retry); tp.Queues != 5 {
				t.Errorf("%d queues for t0 to t4", tp.Queues)
			}
			seen := map[int]bool{}
			for i := range 5 {
				r := k.put(embedded.Put{Topic: retry, Group: "g", RetryOf: fmt.Sprint("t", i)})[0]
				seen[r.Queue] = true
			}
			if len(seen) != 5 {
				t.Errorf("five topics have %d queues", len(seen))
			}
			k.crash()
		}
		// The queue that belonged to none is the first topic's.
		k.must("late", k.store().EnsureRetry(ctx, "lonely", []string{"t"}))
		if tp, _ := k.store().Topic("%RETRY%lonely"); tp.Queues != 1 {
			t.Errorf("%d queues", tp.Queues)
		}
		for what, bad := range map[string][]string{"group": {""}, "long group": {strings.Repeat("g", driver.MaxInternalName)}, "topic": {"g", "a b"}} {
			wantCode(t, "a bad "+what, k.store().EnsureRetry(ctx, bad[0], bad[1:]), driver.InvalidArgument)
		}
	})
}
