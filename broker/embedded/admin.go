package embedded

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// topicAdmin manages topics.
type topicAdmin struct{ c *conn }

// CreateTopic makes a topic; see [driver.TopicAdmin]. The number of queues of
// an existing topic cannot be changed.
func (a topicAdmin) CreateTopic(ctx context.Context, t driver.TopicInfo) error {
	op := "create topic " + t.Name
	if err := driver.ValidTopic(t.Name); err != nil {
		return driver.Errorf(driver.InvalidArgument, op, "%w", err)
	}
	if t.Queues < 1 || t.Queues > maxQueues {
		return driver.Errorf(driver.InvalidArgument, op, "%d queues, it takes 1 to %d", t.Queues, maxQueues)
	}
	return a.run(ctx, op, &topicJob{info: t})
}

// DeleteTopic removes a topic, its messages that are not due yet, and the
// positions of its groups. A topic with living members is
// [driver.FailedPrecondition].
func (a topicAdmin) DeleteTopic(ctx context.Context, name string) error {
	op := "delete topic " + name
	e, failure := a.c.use(ctx, op)
	if failure != nil {
		return failure
	}
	if groups := e.groups.living(name); len(groups) > 0 {
		return driver.Errorf(driver.FailedPrecondition, op, "groups %q have living members; stop them first", groups)
	}
	if err := a.run(ctx, op, &topicJob{info: driver.TopicInfo{Name: name}, remove: e.groups}); err != nil {
		return err
	}
	e.groups.forgetTopic(name)
	return nil
}

func (a topicAdmin) run(ctx context.Context, op string, j *topicJob) error {
	e, failure := a.c.use(ctx, op)
	if failure == nil {
		failure = e.w.do(ctx, a.c.done, j, 0)
	}
	if failure == nil {
		failure = j.err
	}
	return asError(failure, op)
}

// Topics lists the topics.
func (a topicAdmin) Topics(ctx context.Context) ([]driver.TopicInfo, error) {
	e, failure := a.c.use(ctx, "list topics")
	if failure != nil {
		return nil, failure
	}
	e.st.mu.RLock()
	defer e.st.mu.RUnlock()
	out := make([]driver.TopicInfo, 0, len(e.st.topics))
	for _, name := range slices.Sorted(maps.Keys(e.st.topics)) {
		out = append(out, driver.TopicInfo{Name: name, Queues: len(e.st.topics[name].queues)})
	}
	return out, nil
}

// topicJob creates or removes a topic.
type topicJob struct {
	info   driver.TopicInfo
	remove *groups // that must forget the topic; nil to create it
	frame  *frame
	err    *driver.Error
}

func (j *topicJob) stage(w *writer) {
	t := w.plan.topic(j.info.Name)
	have := len(t.next)
	switch {
	case j.remove != nil && have == 0:
		j.err = driver.Errorf(driver.NotFound, "", "there is no such topic")
	case j.remove != nil:
		j.frame = &frame{
			fact: fact{kind: record.TopicDeleted, ctl: &control{topic: record.Topic{Name: j.info.Name}}},
			head: record.AppendName(nil, j.info.Name),
		}
		if w.control(j.frame) {
			*t = topicPlan{}
			j.remove.forgetTopic(j.info.Name) // no position of it may be stored behind
			w.emptied(j.frame, func(_, origin string) bool { return origin == j.info.Name })
		}
	case have == j.info.Queues:
		j.err = driver.Errorf(driver.AlreadyExists, "", "the topic exists with %d queues", have)
	case have > 0:
		j.err = driver.Errorf(driver.FailedPrecondition, "", "the topic exists with %d queues, not %d; that cannot be changed", have, j.info.Queues)
	default:
		j.err = w.createTopic(t, record.Topic{Name: j.info.Name, Queues: j.info.Queues})
		j.frame = t.created
	}
}

func (j *topicJob) finish() {
	if j.frame != nil && j.frame.err != nil {
		j.err = j.frame.err
	}
}

// groupAdmin looks after consumer groups.
type groupAdmin struct{ c *conn }

// Groups lists the groups that have a position or living members.
func (a groupAdmin) Groups(ctx context.Context) ([]driver.GroupInfo, error) {
	e, failure := a.c.use(ctx, "list groups")
	if failure != nil {
		return nil, failure
	}
	infos := map[string]*driver.GroupInfo{}
	info := func(name string) *driver.GroupInfo {
		if infos[name] == nil {
			infos[name] = &driver.GroupInfo{Name: name}
		}
		return infos[name]
	}
	e.groups.mu.Lock()
	for k, sub := range e.groups.subs {
		if len(sub.members)+len(sub.abroad) == 0 {
			continue
		}
		g := info(k.group)
		g.Members = append(g.Members, sub.abroad...)
		if len(sub.members) == 0 {
			continue
		}
		g.Subscriptions = append(g.Subscriptions, k.topic+" "+sub.spec.Filter.String())
		for _, m := range sub.members {
			g.Members = append(g.Members, m.conn.id)
		}
	}
	e.groups.mu.Unlock()
	e.st.mu.RLock()
	for k, p := range e.st.positions {
		if p.consumes() {
			info(k.group)
		}
	}
	e.st.mu.RUnlock()
	out := make([]driver.GroupInfo, 0, len(infos))
	for _, name := range slices.Sorted(maps.Keys(infos)) {
		g := infos[name]
		slices.Sort(g.Members)
		g.Members = slices.Compact(g.Members)
		slices.Sort(g.Subscriptions)
		out = append(out, *g)
	}
	return out, nil
}

// Lag tells how far a group is behind; see [driver.GroupAdmin].
func (a groupAdmin) Lag(ctx context.Context, group string) ([]driver.LaneLag, error) {
	op := "lag of group " + group
	e, failure := a.c.use(ctx, op)
	if failure != nil {
		return nil, failure
	}
	slots := e.groupSlots(group, "")
	if len(slots) == 0 {
		return nil, driver.Errorf(driver.NotFound, op, "the group has consumed nothing yet")
	}
	out := make([]driver.LaneLag, 0, len(slots))
	for _, s := range slots {
		at, inFlight := s.progress()
		out = append(out, driver.LaneLag{Lane: s.info, Name: s.name, Committed: at, Max: max(s.end(), at), InFlight: inFlight})
	}
	return out, nil
}

// ResetOffsets moves a group; see [driver.GroupAdmin]. Redeliveries that wait
// are skipped along, except to an offset, which means nothing on their lane.
// They never come again: their originals do.
func (a groupAdmin) ResetOffsets(ctx context.Context, group, topic string, p driver.Position) error {
	op := fmt.Sprintf("reset group %s on %s to %s", group, topic, p)
	e, failure := a.c.use(ctx, op)
	if failure != nil {
		return failure
	}
	if p.Kind > driver.AtTime {
		return driver.Errorf(driver.InvalidArgument, op, "position of kind %d", p.Kind)
	}
	slots := e.groupSlots(group, topic)
	if len(slots) == 0 {
		return driver.Errorf(driver.NotFound, op, "the group has no position on the topic")
	}
	for _, s := range slots {
		switch {
		case s.queue != record.RetryLane:
			s.seek(p)
		case p.Kind != driver.AtOffset:
			s.skipTo(p)
		}
	}
	j := &positionsJob{slots: slots}
	if failure = e.w.do(ctx, a.c.done, j, 0); failure == nil {
		failure = j.err
	}
	return asError(failure, op)
}

// groupSlots answers the lanes of a group, on one topic or on all, living or
// not, in the order of topics, clients and queues.
func (e *engine) groupSlots(group, topic string) []*slot {
	e.groups.mu.Lock()
	defer e.groups.mu.Unlock()
	keys := map[progressKey]bool{}
	e.st.mu.RLock()
	for k, p := range e.st.positions {
		if k.group == group && p.consumes() && (topic == "" || k.topic == topic) {
			keys[k] = true
		}
	}
	e.st.mu.RUnlock()
	var out []*slot
	sorted := slices.SortedFunc(maps.Keys(keys), func(a, b progressKey) int {
		return slices.Compare([]string{a.topic, a.client}, []string{b.topic, b.client})
	})
	for _, k := range sorted {
		sk := subKey{k.group, k.topic}
		sub := e.groups.subs[sk]
		if sub == nil {
			sub = &subscription{subKey: sk, slots: map[string][]*slot{}}
			sub.spec.Broadcast = k.client != ""
			e.groups.subs[sk] = sub
		}
		if len(sub.members) == 0 || len(sub.slots[k.client]) == 0 {
			e.groups.restore(sub, k.client)
		}
		out = append(out, sub.slots[k.client]...)
	}
	return out
}
