package embedded_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// describedGroups is what a store says of its groups.
func describedGroups(s *embedded.Store) []string {
	var out []string
	for _, g := range s.Groups() {
		out = append(out, fmt.Sprintf("%s %q %q", g.Name, g.Settings, s.Consumed(g.Name)))
		if one, ok := s.Group(g.Name); !ok || one.Name != g.Name || string(one.Settings) != string(g.Settings) {
			out = append(out, fmt.Sprintf("but alone it is %+v, %v", one, ok))
		}
	}
	return out
}

func TestStore_Groups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		s, ctx := k.store(), t.Context()
		for _, topic := range []string{"t1", "t2", "t3"} {
			k.topic(topic, 2)
			k.putN(topic, 0, 9)
		}
		settings := []byte("retry=3")
		k.must("put", s.PutGroup(ctx, embedded.Group{Name: "both", Settings: settings}))
		clear(settings)
		k.must("put", s.PutGroup(ctx, embedded.Group{Name: "quiet", Settings: []byte("q")}))
		k.must("retry", s.EnsureRetry(ctx, "both", []string{"t2"}))
		k.put(embedded.Put{Topic: "%RETRY%both", Group: "both", RetryOf: "t2"})
		for _, at := range []struct {
			group, topic string
		}{{"both", "t1"}, {"both", "t2"}, {"both", "%RETRY%both"}, {"reads", "t2"}} {
			s.Cursor(at.group, at.topic, 0).Commit(1)
		}
		k.join(k.conn, driver.SubscribeSpec{Group: "radio", Topic: "t3", Broadcast: true}).close()
		time.Sleep(time.Second)
		want := []string{
			`both "retry=3" ["%RETRY%both" "t1" "t2"]`, `quiet "q" []`, `radio "" []`, `reads "" ["t2"]`,
		}
		wantLines(t, "groups", describedGroups(s), want...)
		wantLines(t, "groups of t2", s.GroupsOf("t2"), "both", "reads")
		wantLines(t, "groups of t3", s.GroupsOf("t3"))
		wantLines(t, "groups of the retry topic", s.GroupsOf("%RETRY%both"), "both")
		k.crash()
		wantLines(t, "after a crash", describedGroups(k.store()), want...)
		k.reopen()
		s = k.store()
		wantLines(t, "after a close", describedGroups(s), want...)
		k.must("forget settings", s.PutGroup(ctx, embedded.Group{Name: "quiet"}))
		k.must("only settings", s.DeleteGroup(ctx, "both", false))
		k.must("all", s.DeleteGroup(ctx, "reads", true))
		k.must("what is not there", s.DeleteGroup(ctx, "nobody", true))
		k.must("what is not there", s.DeleteGroup(ctx, "nobody", false))
		want = []string{`both "" ["%RETRY%both" "t1" "t2"]`, `radio "" []`}
		wantLines(t, "after deletions", describedGroups(s), want...)
		wantPosition(t, "of a group that was deleted", s.Cursor("reads", "t2", 0), -1)
		wantPosition(t, "of a group whose settings were", s.Cursor("both", "%RETRY%both", 0), 1)
		k.must("all", s.DeleteGroup(ctx, "both", true))
		// The originals come again, so what waits in the retry topic must not.
		wantPosition(t, "of the retry topic", s.Cursor("both", "%RETRY%both", 0), 1)
		k.crash()
		wantLines(t, "after a crash", describedGroups(k.store()), `radio "" []`)
		if _, ok := k.store().Group("both"); ok {
			t.Error("both was deleted")
		}
		for what, bad := range map[string]embedded.Group{"no name": {}, "a bad name": {Name: "a b"}, "long settings": {Name: "g", Settings: make([]byte, 64<<10+1)}} {
			wantCode(t, "put a group with "+what, k.store().PutGroup(ctx, bad), driver.InvalidArgument)
		}
	})
}

// A group that lives keeps its positions; those elsewhere are the server's.
func TestStore_DeleteGroupThatLives(t *testing.T) {
	t.Parallel()
	for what, s := range map[string]driver.SubscribeSpec{
		"shared": {Group: "g", Topic: "t"}, "ordered": {Group: "g", Topic: "t", Ordered: true}, "broadcast": {Group: "g", Topic: "t", Broadcast: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, oneQueue)
				k.sendN("t", 5)
				k.must("put", k.store().PutGroup(t.Context(), embedded.Group{Name: "g", Settings: []byte("x")}))
				c := k.join(k.conn, s)
				c.settle("t/0", driver.Ack, 0, c.fetch("t/0", 3)...)
				wantCode(t, "delete a group that lives", k.store().DeleteGroup(t.Context(), "g", true), driver.FailedPrecondition)
				if g, ok := k.store().Group("g"); !ok || string(g.Settings) != "x" {
					t.Errorf("group %+v, %v", g, ok)
				}
				k.must("its settings only", k.store().DeleteGroup(t.Context(), "g", false))
				c.close()
				k.must("delete", k.store().DeleteGroup(t.Context(), "g", true))
				c = k.join(k.conn, s)
				if got := bodies(c.fetch("t/0", 5)); got[0] != "m0" {
					t.Errorf("got %q, want all from the first one on", got)
				}
			})
		})
	}
}

// A cursor that is only read leaves nothing behind, whatever the names.
func TestStore_PositionsOfStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.topic("t", 1)
		k.putN("t", 0, 3)
		before := embedded.Subscriptions(k.b)
		for i := range 100 {
			for _, topic := range []string{"t", "none", fmt.Sprint("none", i), "%RETRY%g"} {
				c := k.store().Cursor(fmt.Sprint("g", i), topic, i%2)
				if _, ok := c.Position(); ok || c.Held() {
					t.Fatalf("group g%d has a position on %s", i, topic)
				}
				if topic != "t" || i%2 == 1 {
					c.Commit(1) // of nothing
				}
			}
			k.store().Join(fmt.Sprint("g", i), "x", []string{"t", "none"})
			k.store().Leave(fmt.Sprint("g", i), "x")
		}
		if after := embedded.Subscriptions(k.b); after != before {
			t.Errorf("%d subscriptions are remembered, before %d", after, before)
		}
		if gs := k.store().Groups(); len(gs) > 0 {
			t.Errorf("groups %+v", gs)
		}
	})
}

// A group that was deleted gets the originals again, so neither what waits in
// its retry topic nor what waits for its time to go there comes, too.
func TestStore_DeleteGroupEndsRedeliveries(t *testing.T) {
	t.Parallel()
	for what, crash := range map[string]bool{"at once": false, "after a crash": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, oneQueue)
				k.sendN("t", 2)
				spec := driver.SubscribeSpec{Group: "g", Topic: "t"}
				c := k.join(k.conn, spec)
				got := c.fetch("t/0", 2)
				c.settle("t/0", driver.Retry, 0, got[0])
				c.settle("t/0", driver.Return, time.Minute, got[1])
				c.close()
				k.must("delete", k.store().DeleteGroup(t.Context(), "g", true))
				if crash {
					k.crash()
				}
				c = k.join(k.conn, spec)
				for _, d := range c.fetch("t/0", 2) {
					if d.Attempt != 1 {
						t.Errorf("%q came with attempt %d", d.Body, d.Attempt)
					}
					c.settle("t/0", driver.Ack, 0, d)
				}
				time.Sleep(2 * time.Minute)
				for _, l := range c.owned() {
					ds, err := l.Fetch(t.Context(), 5)
					if err != nil || len(ds) > 0 {
						t.Errorf("%s: got %d deliveries, %v; want none", l.Name(), len(ds), err)
					}
				}
			})
		})
	}
}
