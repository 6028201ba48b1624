package embedded

import (
	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// joinJob makes durable what a member needs.
type joinJob struct {
	st     *state
	spec   driver.SubscribeSpec
	client string
	err    *driver.Error
	topics []*topicPlan
	frame  *frame
}

func (j *joinJob) stage(w *writer) {
	s := j.spec
	t, err := w.ensureTopic(s.Topic)
	j.topics = append(j.topics, t)
	if err == nil && !s.Broadcast && !s.Ordered {
		_, err = w.ensureRetryQueue(s.Group, s.Topic)
		j.topics = append(j.topics, w.plan.topic(retryTopic(s.Group)))
	}
	if err != nil {
		j.err = err
		return
	}
	g := record.GroupPositions{Group: s.Group, Topic: s.Topic}
	if s.Broadcast {
		g.Client = j.client
	}
	k := progressKey{g.Group, g.Topic, g.Client}
	for n := range t.next {
		if _, ok := j.st.position(k, n); ok {
			continue
		}
		g.Lanes = append(g.Lanes, record.LanePosition{Queue: n, Next: j.first(w, n, t.next[n])})
	}
	if len(g.Lanes) == 0 {
		return
	}
	j.frame = positionsFrame(g)
	w.control(j.frame)
}

// first is where a group without a position begins on a queue. Messages of the
// batch at hand count as if they came before the group.
func (j *joinJob) first(w *writer, n int, end int64) int64 {
	q := j.st.queue("", j.spec.Topic, n)
	if q == nil {
		return 0 // the queue is made in this batch
	}
	if j.spec.From.Kind == driver.Latest {
		return end
	}
	return resolve(q, j.spec.From)
}

func (j *joinJob) finish() {
	for _, t := range j.topics {
		if t != nil && t.created != nil && t.created.err != nil {
			j.err = t.created.err
		}
	}
	if j.frame != nil && j.frame.err != nil {
		j.err = j.frame.err
	}
}
