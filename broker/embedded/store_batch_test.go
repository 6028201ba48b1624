package embedded

import (
	"fmt"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// What waits in line for the write path belongs to the caller again, too, and
// keeps its order.
func TestStore_PutsInLine(t *testing.T) {
	t.Parallel()
	b, _ := memory(t)
	s, err := b.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutTopic(t.Context(), Topic{Name: "t", Queues: 1}); err != nil {
		t.Fatal(err)
	}
	w := b.attempt.engine.w
	w.path.Lock()
	body := make([]byte, 0, 10)
	var ps []*Pending
	for i := range 100 {
		body = fmt.Appendf(body[:0], "m%d", i)
		p := s.Put([]Put{{Topic: "t", Body: body}})
		if p.Ready() {
			t.Error("it waits in line")
		}
		ps = append(ps, p)
		clear(body)
	}
	w.leave()
	q, _ := s.Queue("t", 0)
	for i, p := range ps {
		if !p.Ready() {
			t.Errorf("put %d is not ready", i)
		}
		if rs, err := p.Wait(t.Context()); err != nil || rs[0].Err != nil || rs[0].Offset != int64(i) {
			t.Fatalf("put %d: %+v, %v", i, rs, err)
		}
		p.Release()
		r, _, err := q.Read(int64(i), Selection{Messages: 1, Bytes: 1}, nil)
		if m, _, derr := message.Decode(r); err != nil || derr != nil || string(m.Body) != fmt.Sprint("m", i) {
			t.Errorf("message %d: %q, %v, %v", i, m.Body, err, derr)
		}
	}
}

// The end of the broker is an answer, which nobody has to wait for.
func TestStore_PutMeetsTheEnd(t *testing.T) {
	t.Parallel()
	b, _ := memory(t)
	s, err := b.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := b.attempt.engine.w
	w.path.Lock()
	p := s.Put([]Put{{Topic: "t"}})
	w.over = true
	w.leave()
	w.path.Lock()
	w.over = false
	w.leave()
	if !p.Ready() {
		t.Error("it has ended, and is not ready")
	}
	if _, err := p.Wait(t.Context()); driver.CodeOf(err) != driver.Closed {
		t.Errorf("got %v", err)
	}
}

// Settings that are as they were are not written again, unless something else
// is on its way.
func TestStore_SettingsOfABatch(t *testing.T) {
	t.Parallel()
	b, _ := memory(t)
	s, err := b.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put := func(v string) func() error {
		return func() error { return s.PutGroup(t.Context(), Group{Name: "g", Settings: []byte(v)}) }
	}
	for range 2 {
		if err := put("one")(); err != nil {
			t.Fatal(err)
		}
	}
	end := s.Stats().End
	if err := put("one")(); err != nil || s.Stats().End != end {
		t.Errorf("what is there was written again: %v", err)
	}
	for _, err := range oneBatch(t, b, put("two"), put("one")) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if g, _ := s.Group("g"); string(g.Settings) != "one" {
		t.Errorf("the last settings are one, not %s", g.Settings)
	}
	topic := func(n int, v string) func() error {
		return func() error { return s.PutTopic(t.Context(), Topic{Name: "t", Queues: n, Settings: []byte(v)}) }
	}
	remove := func() error { return s.DeleteTopic(t.Context(), "t") }
	if err := topic(1, "one")(); err != nil {
		t.Fatal(err)
	}
	for _, err := range oneBatch(t, b, topic(3, "two"), remove, topic(2, "one"), topic(1, "three"), topic(1, "one")) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if tp, _ := s.Topic("t"); tp.Queues != 2 || string(tp.Settings) != "one" {
		t.Errorf("got %+v", tp)
	}
}

// Positions that come to the write path behind the end of their topic or group,
// but are older, are not stored.
func TestStore_PositionsBehindADeletion(t *testing.T) {
	t.Parallel()
	for what, remove := range map[string]func(s *Store) []func() error{
		"group": func(s *Store) []func() error {
			return []func() error{func() error { return s.DeleteGroup(t.Context(), "g", true) }}
		},
		"topic": func(s *Store) []func() error {
			return []func() error{
				func() error { return s.DeleteTopic(t.Context(), "t") },
				func() error { return s.PutTopic(t.Context(), Topic{Name: "t", Queues: 1}) },
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b, _ := memory(t)
			s, err := b.Store(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.PutTopic(t.Context(), Topic{Name: "t", Queues: 1}); err != nil {
				t.Fatal(err)
			}
			if rs, err := s.Put([]Put{{Topic: "t"}, {Topic: "t"}}).Wait(t.Context()); err != nil || rs[1].Err != nil {
				t.Fatal(rs, err)
			}
			s.Cursor("g", "t", 0).Commit(1)
			f := b.attempt.engine.flush
			late := f.take()
			calls := append(remove(s), func() error { f.store(late); return nil })
			for _, err := range oneBatch(t, b, calls...) {
				if err != nil {
					t.Fatal(err)
				}
			}
			if at, ok := s.Cursor("g", "t", 0).Position(); ok || len(s.Groups()) > 0 {
				t.Errorf("the position %d came back", at)
			}
		})
	}
}
