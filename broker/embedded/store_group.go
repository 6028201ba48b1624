package embedded

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// Group is a consumer group as a [Store] keeps it.
type Group struct {
	Name string
	// Settings are the server's own, at most 64 KiB. They must not be changed.
	Settings []byte
}

// Group answers a group that has settings or a position.
func (s *Store) Group(name string) (Group, bool) {
	stands := false
	s.e.groups.standing(name, func(progressKey, int) { stands = true })
	st := s.e.st
	st.mu.RLock()
	defer st.mu.RUnlock()
	if v, ok := st.settings[settingKey{record.OfGroup, name}]; ok {
		return Group{Name: name, Settings: v}, true
	}
	if stands {
		return Group{Name: name}, true
	}
	for k, p := range st.positions {
		if k.group == name && p.consumes() {
			return Group{Name: name}, true
		}
	}
	return Group{}, false
}

// Groups answers the groups that have settings or a position, in the order of
// their names.
func (s *Store) Groups() []Group {
	all := map[string][]byte{}
	s.e.groups.standing("", func(k progressKey, _ int) { all[k.group] = nil }) // not stored yet, perhaps
	st := s.e.st
	st.mu.RLock()
	defer st.mu.RUnlock()
	for k, p := range st.positions {
		if p.consumes() {
			all[k.group] = nil
		}
	}
	for k, v := range st.settings {
		if k.scope == record.OfGroup {
			all[k.name] = v
		}
	}
	out := make([]Group, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, Group{Name: name, Settings: all[name]})
	}
	return out
}

// PutGroup keeps the settings of a group; without any it forgets them. It is
// durable when it returns.
func (s *Store) PutGroup(ctx context.Context, g Group) error {
	op := "put group " + g.Name
	if err := driver.ValidGroup(g.Name); err != nil {
		return driver.Errorf(driver.InvalidArgument, op, "%w", err)
	}
	if len(g.Settings) > maxSettings {
		return invalid(op, "settings of %d bytes, at most %d are kept", len(g.Settings), maxSettings)
	}
	j := &groupJob{setting: record.Setting{Scope: record.OfGroup, Name: g.Name, Value: bytes.Clone(g.Settings)}}
	return s.run(ctx, op, j, j.failed)
}

// DeleteGroup forgets the settings of a group, and its positions too if it is
// told to: it starts anew, and what waits in its retry topic does not come
// again. With positions and living members in this process it is
// [driver.FailedPrecondition].
func (s *Store) DeleteGroup(ctx context.Context, name string, positions bool) error {
	op := "delete group " + name
	if positions && s.e.groups.hasMembers(name) {
		return driver.Errorf(driver.FailedPrecondition, op, "it has living members in this process; stop them first")
	}
	j := &groupJob{setting: record.Setting{Scope: record.OfGroup, Name: name}}
	if positions {
		j.forget = s.e.groups
	}
	if err := s.run(ctx, op, j, j.failed); err != nil {
		return err
	}
	if positions {
		s.e.groups.forgetGroup(name)
	}
	return nil
}

// groupJob keeps or forgets the settings of a group.
type groupJob struct {
	setting record.Setting
	forget  *groups // that must forget the group; nil if only the settings go
	frames  []*frame
}

func (j *groupJob) stage(w *writer) {
	if j.forget == nil {
		j.frames = w.remember(j.frames, j.setting)
		return
	}
	f := &frame{fact: fact{kind: record.GroupDeleted, ctl: &control{setting: j.setting}}, head: record.AppendName(nil, j.setting.Name)}
	if w.control(f) {
		j.forget.forgetGroup(j.setting.Name) // no position of it may be stored behind
		w.emptied(f, func(retry, _ string) bool { return retry == retryTopic(j.setting.Name) })
	}
	j.frames = append(j.frames, f)
}

func (j *groupJob) finish() {}

func (j *groupJob) failed() *driver.Error { return firstError(nil, j.frames) }

// Consumed answers the topics on which a group has positions, in the order of
// their names; redeliveries count as the retry topic of the group.
func (s *Store) Consumed(group string) []string {
	return s.consumption(func(k progressKey, lane int) (string, bool) {
		if lane == record.RetryLane {
			return retryTopic(group), k.group == group
		}
		return k.topic, k.group == group
	})
}

// GroupsOf answers the groups that have positions on a topic, in the order of
// their names.
func (s *Store) GroupsOf(topic string) []string {
	return s.consumption(func(k progressKey, lane int) (string, bool) {
		return k.group, k.topic == topic || lane == record.RetryLane && retryTopic(k.group) == topic
	})
}

// consumption answers, sorted and once each, what pick picks of the positions
// that are not of broadcast groups.
func (s *Store) consumption(pick func(k progressKey, lane int) (string, bool)) []string {
	found := map[string]bool{}
	s.e.groups.standing("", func(k progressKey, lane int) { // not stored yet, perhaps
		if name, ok := pick(k, lane); ok {
			found[name] = true
		}
	})
	st := s.e.st
	st.mu.RLock()
	defer st.mu.RUnlock()
	for k, p := range st.positions {
		if k.client != "" || !p.consumes() {
			continue
		}
		for lane := range p.lanes {
			if name, ok := pick(k, lane); ok {
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
