package embedded

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
)

// Topic is a topic as a [Store] keeps it.
type Topic struct {
	Name string
	// Queues is the number of its queues, 1 to 1024.
	Queues int
	// Settings are the server's own, at most 64 KiB; the store only keeps them.
	// They must not be changed.
	Settings []byte
}

// maxSettings is the most that a server may keep of one topic or group, in
// bytes: small enough for a frame, large for a few dozen attributes.
const maxSettings = 64 << 10

// Topic answers a topic. It is cheap enough to be asked for each message.
func (s *Store) Topic(name string) (Topic, bool) {
	st := s.e.st
	st.mu.RLock()
	defer st.mu.RUnlock()
	t := st.topics[name]
	if t == nil {
		return Topic{}, false
	}
	return st.described(t), true
}

// described is t with its settings; mu is held.
func (st *state) described(t *topic) Topic {
	return Topic{Name: t.name, Queues: len(t.queues), Settings: st.settings[settingKey{record.OfTopic, t.name}]}
}

// Topics answers the topics in the order of their names, those for retries and
// dead letters included.
func (s *Store) Topics() []Topic {
	st := s.e.st
	st.mu.RLock()
	defer st.mu.RUnlock()
	out := make([]Topic, 0, len(st.topics))
	for _, name := range slices.Sorted(maps.Keys(st.topics)) {
		out = append(out, st.described(st.topics[name]))
	}
	return out
}

// PutTopic makes a topic, or adds queues to the one that is there, and keeps
// its settings. Queues are never taken away: a smaller number leaves them as
// they are. It is durable when it returns.
func (s *Store) PutTopic(ctx context.Context, t Topic) error {
	op := "put topic " + t.Name
	if err := driver.ValidTopic(t.Name); err != nil {
		return driver.Errorf(driver.InvalidArgument, op, "%w", err)
	}
	if t.Queues < 1 || t.Queues > maxQueues {
		return invalid(op, "%d queues, it takes 1 to %d", t.Queues, maxQueues)
	}
	if len(t.Settings) > maxSettings {
		return invalid(op, "settings of %d bytes, at most %d are kept", len(t.Settings), maxSettings)
	}
	j := &putTopicJob{topic: t}
	j.topic.Settings = bytes.Clone(t.Settings)
	if err := s.run(ctx, op, j, j.failed); err != nil {
		return err
	}
	s.e.groups.grown(t.Name)
	return nil
}

// putTopicJob makes a topic, adds queues, keeps settings.
type putTopicJob struct {
	topic  Topic
	frames []*frame
	err    *driver.Error
}

func (j *putTopicJob) stage(w *writer) {
	t := w.plan.topic(j.topic.Name)
	if have := len(t.next); have < j.topic.Queues {
		r := record.Topic{Name: j.topic.Name, Queues: j.topic.Queues}
		if t.t != nil {
			r.Origins = t.t.origins
		}
		if j.err = w.createTopic(t, r); j.err != nil {
			return
		}
		j.frames = append(j.frames, t.created)
		j.position(w, have)
	}
	j.frames = w.remember(j.frames, record.Setting{Scope: record.OfTopic, Name: j.topic.Name, Value: j.topic.Settings})
}

// position makes the groups of a topic begin with the first message of each
// queue from number have on: they were there before it. Else one that was to
// begin with the latest message would pass over the first ones if it came back
// after a crash.
func (j *putTopicJob) position(w *writer, have int) {
	lanes := make([]record.LanePosition, 0, j.topic.Queues-have)
	for n := have; n < j.topic.Queues; n++ {
		lanes = append(lanes, record.LanePosition{Queue: n})
	}
	w.st.mu.RLock()
	keys := slices.SortedFunc(maps.Keys(w.st.positions), progressKey.compare)
	w.st.mu.RUnlock()
	for _, k := range keys {
		if k.topic != j.topic.Name {
			continue
		}
		g := record.GroupPositions{Group: k.group, Topic: k.topic, Client: k.client, Lanes: lanes}
		f := positionsFrame(g)
		w.control(f)
		j.frames = append(j.frames, f)
	}
}

func (j *putTopicJob) finish() {}

func (j *putTopicJob) failed() *driver.Error { return firstError(j.err, j.frames) }

// firstError is err, or else that of the first frame that was not stored.
func firstError(err *driver.Error, frames []*frame) *driver.Error {
	for _, f := range frames {
		if err == nil {
			err = f.err
		}
	}
	return err
}

// remember appends a frame of settings, if they differ from what is applied.
func (w *writer) remember(frames []*frame, r record.Setting) []*frame {
	w.st.mu.RLock()
	old := w.st.settings[settingKey{r.Scope, r.Name}]
	w.st.mu.RUnlock()
	if bytes.Equal(old, r.Value) && !w.syncs() && len(w.round.frames) == 0 {
		return frames // nothing is staged that is not applied
	}
	f := settingFrame(r)
	w.control(f)
	return append(frames, f)
}

// DeleteTopic removes a topic, what waits for its time to go there, the
// positions of its groups and its settings. Members elsewhere do not hold it;
// with living members in this process it is [driver.FailedPrecondition]. A
// retry topic is consumed by the members of its group.
func (s *Store) DeleteTopic(ctx context.Context, name string) error {
	op := "delete topic " + name
	if groups := s.e.groups.living(name); len(groups) > 0 {
		return driver.Errorf(driver.FailedPrecondition, op, "groups %q have living members in this process; stop them first", groups)
	}
	j := &topicJob{info: driver.TopicInfo{Name: name}, remove: s.e.groups}
	if err := s.run(ctx, op, j, func() *driver.Error { return j.err }); err != nil {
		return err
	}
	s.e.groups.forgetTopic(name)
	return nil
}

// EnsureRetry makes the retry topic of a group, with a queue for the
// redeliveries of each topic. Topics that have one, and retry topics, are
// passed over; without any, the retry topic has one queue that belongs to none.
func (s *Store) EnsureRetry(ctx context.Context, group string, topics []string) error {
	op := "make the retry topic of group " + group
	if err := driver.ValidGroup(group); err != nil {
		return driver.Errorf(driver.InvalidArgument, op, "%w", err)
	}
	if n := len(retryTopic(group)); n > driver.MaxInternalName {
		return invalid(op, "the group's name leaves no room for %s in front", retryTopic(""))
	}
	missing := topics[:0:0]
	for _, t := range topics {
		if err := driver.ValidTopic(t); err != nil {
			return driver.Errorf(driver.InvalidArgument, op, "%w", err)
		}
		if !envelope.Internal(t) && s.e.st.retryQueue(group, t) < 0 {
			missing = append(missing, t)
		}
	}
	if _, ok := s.Topic(retryTopic(group)); ok && len(missing) == 0 {
		return nil
	}
	j := &retryJob{group: group, topics: missing}
	if err := s.run(ctx, op, j, j.failed); err != nil {
		return err
	}
	s.e.groups.grown(retryTopic(group))
	return nil
}

// retryJob makes the queues of a retry topic.
type retryJob struct {
	group  string
	topics []string
	frames []*frame
	err    *driver.Error
}

func (j *retryJob) stage(w *writer) {
	t := w.plan.topic(retryTopic(j.group))
	var err *driver.Error
	if len(j.topics) == 0 {
		_, err = w.ensureTopic(retryTopic(j.group))
	}
	for _, name := range j.topics {
		if err == nil {
			_, err = w.ensureRetryQueue(j.group, name)
		}
	}
	if j.err = err; err == nil && t.created != nil {
		j.frames = append(j.frames, t.created)
	}
}

func (j *retryJob) finish() {}

func (j *retryJob) failed() *driver.Error { return firstError(j.err, j.frames) }
