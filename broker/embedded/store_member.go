package embedded

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// handOver is how long a member in this process waits for the last position of
// the client elsewhere that had its lane. RocketMQ's clients commit as soon as
// they have divided the queues anew, which takes a few milliseconds; what is not
// known by then is delivered twice.
const handOver = 2 * time.Second

// seat is who may get lanes: a member in this process, or a client elsewhere.
type seat struct {
	client  string
	members []*member // of that client id; none: it is elsewhere
}

// seatsOf is everybody who shares the lanes of a topic, in the order of their
// client ids. Members of one id sit apart unless clients elsewhere divide the
// queues, too: they know ids only.
func seatsOf(active []*member, abroad []string) []seat {
	seats := make([]seat, 0, len(active)+len(abroad))
	for _, m := range active {
		if n := len(seats); len(abroad) > 0 && n > 0 && seats[n-1].client == m.conn.id {
			seats[n-1].members = append(seats[n-1].members, m)
			continue
		}
		seats = append(seats, seat{m.conn.id, []*member{m}})
	}
	for _, id := range abroad {
		at, taken := slices.BinarySearchFunc(seats, id, func(s seat, id string) int {
			switch {
			case s.client < id:
				return -1
			case s.client > id:
				return 1
			}
			return 0
		})
		if !taken { // who uses the id of a member in this process gets nothing
			seats = slices.Insert(seats, at, seat{client: id})
		}
	}
	return seats
}

// sit says who is to have the lane, which is the one at the given place of its
// topic. groups.mu is held.
func (s *slot) sit(next seat, at int) {
	was := s.abroad
	s.target, s.abroad = nil, next.client
	if n := len(next.members); n > 0 {
		s.target, s.abroad = next.members[max(at, 0)%n], ""
	}
	switch {
	case s.target == nil:
		s.told()
	case was != "" && s.owner == nil: // else the one elsewhere has not begun yet
		s.handed, s.giver = make(chan struct{}), was
	}
}

// told ends the wait for the last position from elsewhere. groups.mu is held.
func (s *slot) told() {
	if s.handed != nil {
		close(s.handed)
		s.handed, s.giver = nil, ""
	}
}

// awaitHanded waits for the last position from elsewhere, but not for long.
func (g *groups) awaitHanded(handed <-chan struct{}) {
	t := time.NewTimer(handOver)
	defer t.Stop()
	select {
	case <-handed:
	case <-t.C:
	case <-g.e.root.Done():
	}
}

// Join says that a client elsewhere consumes topics as a member of a group, and
// no other ones of it. Its share of the queues is then left to it, by the same
// rule that RocketMQ's clients divide them by (averagely, in the order of the
// client ids); with another rule lanes of a group that has members in this
// process, too, can stay without anybody. The rule counts all clients of the
// group, so all of them have to consume the same topics, as RocketMQ wants it
// anyway. Retry topics are not named: their lanes follow the topics. Broadcast
// clients do not join.
func (s *Store) Join(group, client string, topics []string) {
	g := s.e.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range topics {
		k := subKey{group, t}
		if g.subs[k] == nil {
			g.subs[k] = &subscription{subKey: k, slots: map[string][]*slot{}}
		}
	}
	for k, sub := range g.subs {
		if k.group != group {
			continue
		}
		at, member := slices.BinarySearch(sub.abroad, client)
		switch wanted := slices.Contains(topics, k.topic); {
		case wanted && !member:
			sub.abroad = slices.Insert(sub.abroad, at, client)
		case !wanted && member:
			sub.depart(at)
		default:
			continue
		}
		g.rebalance(sub)
		g.tidy(sub)
	}
}

// Leave takes a client elsewhere out of a group.
func (s *Store) Leave(group, client string) {
	g := s.e.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, sub := range g.subs {
		if k.group != group {
			continue
		}
		if at, ok := slices.BinarySearch(sub.abroad, client); ok {
			sub.depart(at)
			g.rebalance(sub)
			for _, sl := range sub.slots[""] {
				if sl.giver == client {
					sl.told() // it commits nothing any more
				}
			}
			g.tidy(sub)
		}
	}
}

// tidy drops a subscription of which there is nothing to know: names come from
// elsewhere, and must not pile up. mu is held.
func (g *groups) tidy(sub *subscription) {
	if len(sub.members)+len(sub.abroad)+len(sub.slots)+len(sub.apart) == 0 {
		delete(g.subs, sub.subKey)
	}
}

// depart takes the client at a place of the list out.
func (sub *subscription) depart(at int) { sub.abroad = slices.Delete(sub.abroad, at, at+1) }

// Members answers the client ids of the members of a group in this process, in
// their order, once each. Those that leave, and those of a broadcast group,
// which share nothing, are left out.
func (s *Store) Members(group string) []string {
	g := s.e.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []string
	for k, sub := range g.subs {
		if k.group != group || sub.spec.Broadcast {
			continue
		}
		for _, m := range sub.members {
			if !m.leaving {
				ids = append(ids, m.conn.id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Cursor is the position of a group on one queue of a topic. The retry topic of
// the group is a topic like others here.
type Cursor struct {
	g            *groups
	group, topic string
	queue        int // or record.RetryLane
}

// Cursor answers the position of a group on a queue, of which nothing need
// exist yet.
func (s *Store) Cursor(group, topic string, queue int) Cursor {
	c := Cursor{g: s.e.groups, group: group, topic: topic, queue: queue}
	if topic == retryTopic(group) {
		if origin := s.e.st.origin(group, queue); origin != "" {
			c.topic, c.queue = origin, record.RetryLane
		}
	}
	return c
}

// known finds the lane if it is in memory, else nil. groups.mu is held.
func (c Cursor) known() *slot {
	sub := c.g.subs[subKey{c.group, c.topic}]
	if sub == nil {
		return nil
	}
	same := func(s *slot) bool { return s.queue == c.queue }
	if i := slices.IndexFunc(sub.slots[""], same); i >= 0 {
		return sub.slots[""][i]
	}
	if i := slices.IndexFunc(sub.apart, same); i >= 0 {
		return sub.apart[i]
	}
	return nil
}

// slot is known, but makes the lane if it is not in memory. It answers nil if
// there is no such queue. groups.mu is held.
func (c Cursor) slot() *slot {
	if s := c.known(); s != nil || c.g.e.st.queue(c.group, c.topic, c.queue) == nil {
		return s
	}
	sub := c.g.subs[subKey{c.group, c.topic}]
	if sub == nil {
		// The names may be parts of a request, which may be large.
		k := subKey{strings.Clone(c.group), strings.Clone(c.topic)}
		sub = &subscription{subKey: k, slots: map[string][]*slot{}}
		c.g.subs[k] = sub
	}
	s := newSlot(c.g.e, sub, "", c.queue)
	sub.apart = append(sub.apart, s)
	return s
}

// Position answers the offset of the first message that is not settled, false
// if the group has no position here.
func (c Cursor) Position() (int64, bool) {
	c.g.mu.Lock()
	s := c.known()
	c.g.mu.Unlock()
	if s == nil {
		// Whoever asks leaves nothing behind.
		q := c.g.e.st.queue(c.group, c.topic, c.queue)
		if q == nil {
			return 0, false
		}
		p, ok := c.g.e.st.within(progressKey{group: c.group, topic: c.topic}, c.queue, q.Max())
		return p.Position(), ok
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.win.Position(), s.known
}

// Held reports whether a member in this process has the lane, or is about to
// get it.
func (c Cursor) Held() bool {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	s := c.known()
	return s != nil && (s.owner != nil || s.target != nil)
}

// Commit says that a client elsewhere has consumed everything below offset. It
// is durable within a second. A member in this process that has the lane knows
// better: then nothing changes. Offsets beyond the end are taken as the end.
func (c Cursor) Commit(offset int64) { c.set(offset, false) }

// Missed reports to log and counters what a client elsewhere that asked for offset
// has lost because the queue, which is the one of the cursor, begins behind it.
// The position moves there, so that it is told once. Nothing is lost to a group
// that was already further, or that has no position and asks for the beginning.
func (c Cursor) Missed(q Queue, offset int64) {
	position, known := c.Position()
	first := q.Min()
	if known && position >= first || !known && offset <= 0 {
		return
	}
	f := Found{Next: max(offset, position)}
	if f.Next >= first {
		return
	}
	r := queueReads.Get().(*queueRead)
	defer r.release()
	defer r.tell(q, c.group)
	if kept := min(q.q.Min(), first); f.Next < kept {
		r.lose(q, c.group, &f, kept-f.Next, driver.GapError{Reason: c.g.e.gone()})
	}
	for f.Next < first {
		if _, err := r.fill(q.q, f.Next, Selection{}, 1024); err != nil {
			break
		}
		at := r.entries[0].Pos
		n := lostRun(r.entries, at)
		if n == 0 {
			break
		}
		r.lose(q, c.group, &f, int64(n), driver.GapError{Reason: driver.Damage, Unsure: c.g.e.guessed(at)})
	}
	if known {
		c.Commit(first)
	}
}

// Reset moves the group to an offset, whoever has the lane; a member in this
// process goes on from there.
func (c Cursor) Reset(offset int64) { c.set(offset, true) }

func (c Cursor) set(offset int64, force bool) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	s := c.slot()
	if s == nil {
		return
	}
	s.move(offset, force)
	if !force {
		s.told() // no sooner: the lane would not take the position any more
	}
}

// move sets the position: nothing below offset comes again. Without force a
// member in this process knows better.
func (s *slot) move(offset int64, force bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane != nil && !force {
		return
	}
	offset = max(0, min(offset, s.max()))
	if s.known && s.lane == nil && s.win.Next() == offset && s.win.Position() == offset {
		return
	}
	s.reset(driver.Position{Kind: driver.AtOffset, Offset: offset})
}

// Flush makes the positions of a group durable that were committed before; with
// [Cursor.Commit] alone they are so within a second.
func (s *Store) Flush(ctx context.Context, group string) error {
	op := "store the positions of group " + group
	j := &positionsJob{slots: s.e.groups.slotsOf(group)}
	err := s.run(ctx, op, j, func() *driver.Error { return j.err })
	if err != nil {
		for _, sl := range j.slots {
			sl.touch() // tried again within a second
		}
	}
	return err
}

// slotsOf answers the lanes in memory of a group that is not broadcast.
func (g *groups) slotsOf(group string) []*slot {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []*slot
	for k, sub := range g.subs {
		if k.group == group {
			out = append(append(out, sub.slots[""]...), sub.apart...)
		}
	}
	return out
}

// standing calls f for each lane in memory on which the group, or any group for
// "", has a position; not for those that are broadcast.
func (g *groups) standing(group string, f func(k progressKey, lane int)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, sub := range g.subs {
		if group != "" && k.group != group {
			continue
		}
		for _, s := range slices.Concat(sub.slots[""], sub.apart) {
			s.mu.Lock()
			known := s.known
			s.mu.Unlock()
			if known {
				f(progressKey{group: k.group, topic: k.topic}, s.queue)
			}
		}
	}
}

// grown gives the members of a topic that has more queues their share. Of a
// retry topic each queue is a lane of another topic.
func (g *groups) grown(topic string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.divide(topic)
}

// divide is grown with mu held.
func (g *groups) divide(topic string) {
	for k, sub := range g.subs {
		switch {
		case len(sub.members) == 0:
			continue
		case k.topic == topic:
			for client := range sub.slots {
				sub.ensureSlots(g, client)
			}
		case retryTopic(k.group) != topic:
			continue
		}
		g.rebalance(sub)
	}
}

// forgetGroup drops the lanes of a group that was deleted, unless it lives.
func (g *groups) forgetGroup(group string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, sub := range g.subs {
		if k.group == group && len(sub.members) == 0 {
			sub.forget(nil)
			g.tidy(sub)
		}
	}
}

// forget drops the lanes whose queue number gone holds for, nil for all: what
// they know is not stored any more, not even what waits for that.
func (sub *subscription) forget(gone func(queue int) bool) {
	drop := func(s *slot) bool {
		if gone != nil && !gone(s.queue) {
			return false
		}
		s.forget()
		return true
	}
	sub.apart = slices.DeleteFunc(sub.apart, drop)
	for client, slots := range sub.slots {
		if sub.slots[client] = slices.DeleteFunc(slots, drop); len(sub.slots[client]) == 0 {
			delete(sub.slots, client)
		}
	}
}

// hasMembers reports whether members in this process belong to a group, those
// that leave included.
func (g *groups) hasMembers(group string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, sub := range g.subs {
		if k.group == group && len(sub.members) > 0 {
			return true
		}
	}
	return false
}
