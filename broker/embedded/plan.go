package embedded

import (
	"slices"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// plan is the state of the topics as it will be once everything that was
// staged is applied. It belongs to whoever holds the write path.
type plan struct {
	st         *state
	queues     int
	autoCreate bool
	topics     map[string]*topicPlan
	nextID     uint32 // of the next new queue
	stale      bool   // something was staged and not stored
}

// topicPlan is one topic; without queues it does not exist.
type topicPlan struct {
	t       *topic  // nil if it does not exist
	next    []int64 // offset that the next message of a queue gets
	turn    uint32  // round robin
	created *frame  // what made it what it is, if that was staged
}

// forget drops the plan after something was staged and not stored. The numbers
// of queues that were planned are not used again.
func (p *plan) forget() {
	clear(p.topics)
	p.stale = false
}

// topic answers the plan of a topic, which may say that there is none.
func (p *plan) topic(name string) *topicPlan {
	if t := p.topics[name]; t != nil {
		return t
	}
	t := &topicPlan{}
	p.st.mu.RLock()
	if t.t = p.st.topics[name]; t.t != nil {
		for _, q := range t.t.queues {
			t.next = append(t.next, q.next)
		}
	}
	p.st.mu.RUnlock()
	p.topics[name] = t
	return t
}

// ensureTopic answers the plan of a topic and creates it if need be.
func (w *writer) ensureTopic(name string) (*topicPlan, *driver.Error) {
	t := w.plan.topic(name)
	if len(t.next) > 0 {
		return t, nil
	}
	queues := w.plan.queues
	switch {
	case envelope.Internal(name):
		queues = 1
	case !w.plan.autoCreate:
		return nil, driver.Errorf(driver.NotFound, "", "topic %q does not exist and is not created by its first use (NoAutoCreate)", name)
	}
	return t, w.createTopic(t, record.Topic{Name: name, Queues: queues})
}

// createTopic makes a topic or adds queues to it.
func (w *writer) createTopic(t *topicPlan, r record.Topic) *driver.Error {
	made := &topic{name: r.Name, origins: slices.Clone(r.Origins)}
	if t.t != nil {
		made.queues = slices.Clone(t.t.queues)
	}
	for i := len(made.queues); i < r.Queues; i++ {
		made.queues = append(made.queues, w.st.newQueue(r.Name, i, w.plan.nextID, 0))
		w.plan.nextID++
	}
	for _, q := range made.queues {
		r.IDs = append(r.IDs, q.id)
	}
	f := &frame{fact: fact{kind: record.TopicCreated, ctl: &control{topic: r, made: made}}, head: r.Append(nil)}
	t.created = f
	if !w.control(f) {
		return f.err
	}
	t.t = made
	t.next = append(t.next, make([]int64, r.Queues-len(t.next))...)
	return nil
}

// ensureRetryQueue answers the queue of the group's retry topic that holds
// redeliveries for topic.
func (w *writer) ensureRetryQueue(group, name string) (int, *driver.Error) {
	retry := retryTopic(group)
	t := w.plan.topic(retry)
	var origins []string
	if t.t != nil {
		origins = t.t.origins
	}
	if i := slices.Index(origins, name); i >= 0 {
		return i, nil
	}
	// A retry topic that was made by a send of somebody has queues without an
	// origin; the first origins get them.
	origins = append(slices.Clone(origins), name)
	n := len(origins) - 1
	return n, w.createTopic(t, record.Topic{Name: retry, Queues: max(len(t.next), len(origins)), Origins: origins})
}

// appendMessage appends the frame of a message, delayed or not, to a queue.
func (w *writer) appendMessage(f *frame, t *topicPlan, queue int) {
	if w.broken != nil {
		f.err = w.broken
		return
	}
	m := &f.fact.msg
	m.queue, m.q, m.offset = queue, t.t.queues[queue], 0
	if f.fact.kind == record.Delayed {
		w.append(f, record.DueSize())
		return
	}
	m.offset = t.next[queue]
	if w.append(f, 0) {
		t.next[queue]++
	}
}

// choose picks a queue: the explicit one, that of the ordering key, else the
// next in turn.
func (t *topicPlan) choose(name string, explicit bool, queue int, key string) (int, *driver.Error) {
	n := len(t.next)
	switch {
	case explicit && (queue < 0 || queue >= n):
		return 0, driver.Errorf(driver.InvalidArgument, "", "topic %q has no queue %d; it has 0 to %d", name, queue, n-1)
	case explicit:
		return queue, nil
	case key != "":
		return keyQueue(key, n), nil
	}
	t.turn++
	return int(t.turn-1) % n, nil
}

// keyQueue is RocketMQ's SelectMessageQueueByHash: the Java hash of the key,
// without its sign, modulo the number of queues.
func keyQueue(key string, queues int) int {
	h := int(message.TagCode(key)) % queues
	if h < 0 {
		h = -h
	}
	return h
}
