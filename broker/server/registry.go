package server

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// client is who is registered on a connection.
type client struct {
	conn     *conn
	id       string
	language remoting.Language
	version  int
	seen     int64 // the last heartbeat, by the server's clock
	// unask, of a producer, ends the questions about half messages.
	unask func()
}

// group is a consumer group with members on connections, as the newest
// heartbeat of any of them describes it. That is how RocketMQ's brokers see
// groups, too: two members with different subscriptions replace each other's.
type group struct {
	name      string
	members   map[*conn]*client
	subs      map[string]*subscription // by topic
	consume   string                   // such as CONSUME_PASSIVELY
	model     string                   // CLUSTERING or BROADCASTING
	fromWhere string                   // such as CONSUME_FROM_LAST_OFFSET
	changed   time.Time
}

// groupView is a copy of a group.
type groupView struct {
	name      string
	clients   []client
	subs      []*subscription // in the order of the topics
	consume   string
	model     string
	fromWhere string
}

// registration is what a heartbeat says about one consumer group.
type registration struct {
	group, consume, model, fromWhere string
	subs                             []*subscription
	// complete: topics that are not in subs are no longer consumed.
	complete bool
}

// registry knows the clients of the connections by their groups. It is safe
// for concurrent use.
type registry struct {
	clock         *clock
	groupsMost    int
	topicsPerSubs int
	setting       func(field string) string // see Config.setting
	// joined and left are told who shares the lanes of a group, in the order
	// in which it happens, with mu held.
	joined func(group, id string, topics []string)
	left   func(group, id string)
	// asked makes a connection one that is asked for the decisions of a
	// producer group, until leave is called.
	asked func(c *conn, group string) (leave func())

	mu        sync.RWMutex
	groups    map[string]*group
	producers map[string]map[*conn]*client
}

func newRegistry(clock *clock, l Limits) *registry {
	return &registry{
		clock: clock, groupsMost: l.Groups, topicsPerSubs: l.Subscriptions, setting: Config{}.setting,
		joined: func(string, string, []string) {}, left: func(string, string) {},
		asked:  func(*conn, string) func() { return func() {} },
		groups: map[string]*group{}, producers: map[string]map[*conn]*client{},
	}
}

// room refuses a client another consumer group, as [registry.consume] would.
func (r *registry) room(c *conn, name string) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g := r.groups[name]
	if g == nil {
		if err := r.another(); err != nil {
			return err
		}
	}
	if g == nil || g.members[c] == nil {
		return c.mayEnroll()
	}
	return nil
}

// another refuses one more consumer group when there are as many as may be; mu
// is held.
func (r *registry) another() error {
	if n := len(r.groups); n >= r.groupsMost {
		return refuse(remoting.ResSystemError, "there are %d consumer groups, as many as may be registered (%s)", n, r.setting("Limits.Groups"))
	}
	return nil
}

// consume registers a client as a member of a consumer group. It answers
// whether the members have to divide the queues anew.
func (r *registry) consume(who client, reg registration) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[reg.group]
	if g == nil {
		if err := r.another(); err != nil {
			return false, err
		}
		g = &group{name: reg.group, members: map[*conn]*client{}, subs: map[string]*subscription{}}
	}
	if len(reg.subs) > r.topicsPerSubs {
		return false, refuse(remoting.ResSystemError, "group %s subscribes to %d topics, at most %d are allowed (%s)", reg.group, len(reg.subs), r.topicsPerSubs, r.setting("Limits.Subscriptions"))
	}
	if who.conn.unregistered {
		return false, errShutdown // it ended while its heartbeat was being served
	}
	old := g.members[who.conn]
	if old == nil {
		if err := who.conn.enroll(); err != nil {
			return false, err
		}
	}
	r.groups[reg.group] = g
	if g.model == remoting.Clustering && reg.model != g.model {
		for _, id := range g.ids() {
			r.left(g.name, id)
		}
	}
	g.consume, g.model, g.fromWhere = reg.consume, reg.model, reg.fromWhere
	who.seen = r.clock.now()
	g.members[who.conn] = &who
	if old != nil && old.id != who.id {
		r.depart(g, old.id)
	}
	changed = g.subscribe(reg) || old == nil || old.id != who.id
	if changed {
		g.changed = time.Now()
		r.join(g)
	}
	return changed, nil
}

// enrolledMost is how many groups one connection may be in: more than any
// client instance has.
const enrolledMost = 512

// enroll counts a group that a connection is in. registry.mu is held.
func (c *conn) enroll() error {
	if err := c.mayEnroll(); err != nil {
		return err
	}
	c.enrolled++
	return nil
}

func (c *conn) mayEnroll() error {
	if c.enrolled >= enrolledMost {
		return refuse(remoting.ResSystemError, "the client is in %d groups, as many as one may be in", c.enrolled)
	}
	return nil
}

// subscribe takes over subscriptions: the newer one of a topic counts.
func (g *group) subscribe(reg registration) (changed bool) {
	listed := make(map[string]bool, len(reg.subs))
	for _, sub := range reg.subs {
		listed[sub.topic] = true
		old := g.subs[sub.topic]
		if old == nil || old.version < sub.version {
			g.subs[sub.topic] = sub
		}
		changed = changed || old == nil
	}
	if !reg.complete {
		return changed
	}
	for topic := range g.subs {
		if !listed[topic] {
			delete(g.subs, topic)
			changed = true
		}
	}
	return changed
}

// join tells the store who shares the lanes of g, and of which topics.
func (r *registry) join(g *group) {
	if g.model != remoting.Clustering {
		return
	}
	topics := make([]string, 0, len(g.subs))
	for topic := range g.subs {
		if _, own := ownerOf(topic); !own {
			topics = append(topics, topic)
		}
	}
	for _, id := range g.ids() {
		r.joined(g.name, id, topics)
	}
}

// depart tells the store that an id is gone, unless another connection has it.
func (r *registry) depart(g *group, id string) {
	for _, m := range g.members {
		if m.id == id {
			return
		}
	}
	r.left(g.name, id)
}

// ids are the client ids of the members, once each, in their order.
func (g *group) ids() []string {
	ids := make([]string, 0, len(g.members))
	for _, m := range g.members {
		ids = append(ids, m.id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// produce registers a client in a producer group.
func (r *registry) produce(who client, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if who.conn.unregistered {
		return errShutdown
	}
	p := r.producers[name]
	if p == nil && len(r.producers) >= r.groupsMost {
		return refuse(remoting.ResSystemError, "there are %d producer groups, as many as may be registered (%s)", len(r.producers), r.setting("Limits.Groups"))
	}
	if p[who.conn] == nil {
		if err := who.conn.enroll(); err != nil {
			return err
		}
	}
	if p == nil {
		p = map[*conn]*client{}
		r.producers[name] = p
	}
	who.seen = r.clock.now()
	if old := p[who.conn]; old != nil {
		who.unask = old.unask
	} else {
		who.unask = r.asked(who.conn, name)
	}
	p[who.conn] = &who
	return nil
}

// leave takes a connection out of a consumer group. It answers whether it was
// in it.
func (r *registry) leave(c *conn, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[name]
	return g != nil && r.remove(g, c)
}

// remove takes a connection out of a group. mu is held.
func (r *registry) remove(g *group, c *conn) bool {
	m := g.members[c]
	if m == nil {
		return false
	}
	delete(g.members, c)
	c.enrolled--
	if len(g.members) == 0 {
		delete(r.groups, g.name)
	}
	r.depart(g, m.id)
	return true
}

// retire takes a connection out of a producer group.
func (r *registry) retire(c *conn, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removeProducer(name, c)
}

func (r *registry) removeProducer(name string, c *conn) {
	p := r.producers[name]
	m := p[c]
	if m == nil {
		return
	}
	m.unask()
	c.enrolled--
	if delete(p, c); len(p) == 0 {
		delete(r.producers, name)
	}
}

// bar keeps a connection that has ended out from now on: a heartbeat of it may
// still be being served.
func (r *registry) bar(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.unregistered = true
}

// gone takes a connection that was barred out of everything, and answers the
// consumer groups that it was in.
func (r *registry) gone(c *conn) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []string
	for name, g := range r.groups {
		if r.remove(g, c) {
			left = append(left, name)
		}
	}
	for name := range r.producers {
		r.removeProducer(name, c)
	}
	return left
}

// expire takes out who has sent no heartbeat for so long, and answers the
// consumer groups that have lost a member.
func (r *registry) expire(after time.Duration) []string {
	oldest := r.clock.now() - int64(after)
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []string
	for name, g := range r.groups {
		lost := false
		for c, m := range g.members {
			if m.seen < oldest {
				lost = r.remove(g, c) || lost
			}
		}
		if lost {
			left = append(left, name)
		}
	}
	for name, p := range r.producers {
		for c, m := range p {
			if m.seen < oldest {
				r.removeProducer(name, c)
			}
		}
	}
	return left
}

// subscription answers what a group wants of a topic, and how the group is
// registered; false if no member of it is.
func (r *registry) subscription(name, topic string) (sub *subscription, model string, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g := r.groups[name]
	if g == nil {
		return nil, "", false
	}
	return g.subs[topic], g.model, true
}

// view copies a group; false if it has no members.
func (r *registry) view(name string) (groupView, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g := r.groups[name]
	if g == nil {
		return groupView{name: name}, false
	}
	v := groupView{name: name, consume: g.consume, model: g.model, fromWhere: g.fromWhere, clients: sorted(g.members)}
	for _, topic := range slices.Sorted(maps.Keys(g.subs)) {
		v.subs = append(v.subs, g.subs[topic])
	}
	return v, true
}

// sorted copies clients in the order of their ids and addresses.
func sorted(members map[*conn]*client) []client {
	out := make([]client, 0, len(members))
	for _, m := range members {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b client) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.conn.remote, b.conn.remote))
	})
	return out
}

// ids are the client ids of the members of a group.
func (r *registry) ids(name string) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g := r.groups[name]
	if g == nil {
		return nil
	}
	return g.ids()
}

// member finds the connection of a member by its client id; the newest
// heartbeat counts if there are several.
func (r *registry) member(name, id string) (client, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g := r.groups[name]
	if g == nil {
		return client{}, false
	}
	return newest(g.members, id)
}

func newest(members map[*conn]*client, id string) (found client, ok bool) {
	for _, m := range members {
		if m.id == id && (!ok || m.seen > found.seen) {
			found, ok = *m, true
		}
	}
	return found, ok
}

// producersOf copies the members of a producer group.
func (r *registry) producersOf(name string) []client {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sorted(r.producers[name])
}

// producer finds the connection of any producer by its client id, whatever its
// group: replies are sent to clients.
func (r *registry) producer(id string) (found client, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, p := range r.producers {
		if m, has := newest(p, id); has && (!ok || m.seen > found.seen) {
			found, ok = m, true
		}
	}
	return found, ok
}

// groupNames are the consumer groups with members, in their order.
func (r *registry) groupNames() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.groups))
}

// producerGroups are the producer groups with members, in their order.
func (r *registry) producerGroups() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.producers))
}

// consumersOf are the groups that subscribe to a topic now, in their order.
func (r *registry) consumersOf(topic string) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var names []string
	for name, g := range r.groups {
		if g.subs[topic] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
