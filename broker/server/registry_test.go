package server

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting"
)

// registryModel is a registry beside a plain list of what happened.
type registryModel struct {
	r     *registry
	clock *clock
	conns []*conn
	model map[string]map[*conn]registered // by group
	store map[string]map[string]bool      // what the store was told: group, id
}

type registered struct {
	id string
	at int64
}

var modelGroups = []string{"A", "B", "C"}

func newRegistryModel() *registryModel {
	m := &registryModel{
		clock: &clock{started: time.Now()}, model: map[string]map[*conn]registered{}, store: map[string]map[string]bool{},
	}
	m.clock.last.Store(1)
	m.r = newRegistry(m.clock, Limits{}.withDefaults())
	for _, g := range modelGroups {
		m.model[g], m.store[g] = map[*conn]registered{}, map[string]bool{}
	}
	m.r.joined = func(group, id string, _ []string) { m.store[group][id] = true }
	m.r.left = func(group, id string) { delete(m.store[group], id) }
	for i := range 5 {
		m.conns = append(m.conns, &conn{remote: fmt.Sprint(i)})
	}
	return m
}

func (m *registryModel) draw(t *rapid.T) (*conn, string) {
	return rapid.SampledFrom(m.conns).Draw(t, "conn"), rapid.SampledFrom(modelGroups).Draw(t, "group")
}

func (m *registryModel) Beat(t *rapid.T) {
	c, g := m.draw(t)
	id := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "id")
	old, was := m.model[g][c]
	changed, err := m.r.consume(client{conn: c, id: id}, registration{group: g, model: remoting.Clustering, complete: true})
	if c.unregistered {
		if err == nil {
			t.Fatal("a connection that has ended is registered")
		}
		return
	}
	if err != nil || changed != (!was || old.id != id) {
		t.Fatalf("changed %v, error %v", changed, err)
	}
	m.model[g][c] = registered{id, m.clock.now()}
}

func (m *registryModel) Leave(t *rapid.T) {
	c, g := m.draw(t)
	_, was := m.model[g][c]
	if m.r.leave(c, g) != was {
		t.Fatalf("leave of a member %v", was)
	}
	delete(m.model[g], c)
}

func (m *registryModel) Gone(t *rapid.T) {
	c, _ := m.draw(t)
	var want []string
	for _, g := range modelGroups {
		if _, was := m.model[g][c]; was {
			want = append(want, g)
			delete(m.model[g], c)
		}
	}
	got := m.r.gone(c)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("groups %v, want %v", got, want)
	}
}

func (m *registryModel) Expire(t *rapid.T) {
	const after = 15
	m.clock.last.Add(int64(rapid.IntRange(0, 10).Draw(t, "later")))
	m.r.expire(after)
	for _, members := range m.model {
		maps.DeleteFunc(members, func(_ *conn, s registered) bool { return s.at < m.clock.now()-after })
	}
}

func (m *registryModel) Check(t *rapid.T) {
	for _, g := range modelGroups {
		var want []string
		for _, s := range m.model[g] {
			want = append(want, s.id)
		}
		slices.Sort(want)
		want = slices.Compact(want)
		if got := m.r.ids(g); !slices.Equal(got, want) {
			t.Fatalf("group %s has %v, want %v", g, got, want)
		}
		if told := slices.Sorted(maps.Keys(m.store[g])); !slices.Equal(told, want) {
			t.Fatalf("the store was told of %v in group %s, want %v", told, g, want)
		}
		if _, ok := m.r.view(g); ok != (len(want) > 0) {
			t.Fatalf("group %s is there: %v", g, ok)
		}
	}
}

// TestRegistry_Model: whatever clients do, the registry has the members that a
// plain list of what happened has, and the store was told the same.
func TestRegistry_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { t.Repeat(rapid.StateMachineActions(newRegistryModel())) })
}

func TestRegistry_Subscriptions(t *testing.T) {
	t.Parallel()
	r := newRegistry(newClock(), Limits{}.withDefaults())
	c := &conn{remote: "a"}
	register := func(complete bool, subs ...*subscription) bool {
		t.Helper()
		changed, err := r.consume(client{conn: c, id: "me"}, registration{group: "G", model: remoting.Clustering, subs: subs, complete: complete})
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	of := func(topic, text string, version int64) *subscription {
		return newSubscription(topic, text, remoting.ExpressionTag, nil, version)
	}
	have := func() string {
		v, _ := r.view("G")
		text := ""
		for _, s := range v.subs {
			text += fmt.Sprintf("%s=%s@%d ", s.topic, s.text, s.version)
		}
		return text
	}
	for _, step := range []struct {
		subs     []*subscription
		partial  bool
		changed  bool
		have     string
		consumer []string // groups that subscribe to B
	}{
		{subs: []*subscription{of("A", "x", 5)}, changed: true, have: "A=x@5 "},
		{subs: []*subscription{of("A", "x", 5)}, have: "A=x@5 "},
		{subs: []*subscription{of("A", "y", 4)}, have: "A=x@5 "},
		{subs: []*subscription{of("A", "y", 6)}, have: "A=y@6 "},
		{subs: []*subscription{of("A", "y", 6), of("B", "*", 1)}, changed: true, have: "A=y@6 B=*@1 ", consumer: []string{"G"}},
		{partial: true, have: "A=y@6 B=*@1 ", consumer: []string{"G"}},
		{subs: []*subscription{of("B", "*", 2)}, changed: true, have: "B=*@2 ", consumer: []string{"G"}},
	} {
		if got := register(!step.partial, step.subs...); got != step.changed || have() != step.have {
			t.Errorf("changed %v, have %q; want %v, %q", got, have(), step.changed, step.have)
		}
		if got := r.consumersOf("B"); !slices.Equal(got, step.consumer) {
			t.Errorf("groups of B: %v", got)
		}
	}
}

func TestSubscription(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, kind string
		tags       []string
		names      []string
		all, bad   bool
	}{
		{text: "*", all: true},
		{text: "", all: true},
		{text: " * ", all: true},
		{text: "a", names: []string{"a"}},
		{text: " a || b||", names: []string{"a", "b"}},
		{text: "", tags: []string{"c"}, names: []string{"c"}},
		{text: "a", tags: []string{"c"}, names: []string{"a"}},
		{text: " || ", bad: true},
		{text: "a = 1", kind: remoting.ExpressionSQL92},
		{text: "a = ", kind: remoting.ExpressionSQL92, bad: true},
		{text: "class X", kind: "CLASS", bad: true},
	} {
		s := newSubscription("T", test.text, test.kind, test.tags, 1)
		if (s.bad != nil) != test.bad || !test.bad && test.kind == "" && ((s.tags == nil) != test.all || !slices.Equal(s.names, test.names)) {
			t.Errorf("%q of %s: %+v", test.text, test.kind, s)
		}
		if (s.expr != nil) != (test.kind == remoting.ExpressionSQL92 && !test.bad) {
			t.Errorf("%q of %s: compiled %v", test.text, test.kind, s.expr)
		}
	}
}
