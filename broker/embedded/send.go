package embedded

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

func retryTopic(group string) string { return driver.RetryTopic(group) }

// internalTopic reports whether the broker makes the topic by itself.
func internalTopic(name string) bool {
	return strings.HasPrefix(name, "%RETRY%") || strings.HasPrefix(name, "%DLQ%")
}

func laneName(topic string, queue int) string { return topic + "/" + strconv.Itoa(queue) }

// sendJob stores the messages of one Send.
type sendJob struct{ items []sendItem }

type sendItem struct {
	frame    frame
	explicit bool
	queue    int
	key      string
	at       int // index of the message in the request
}

func (j *sendJob) stage(w *writer) {
	for i := range j.items {
		it := &j.items[i]
		m := &it.frame.fact.msg
		t, err := w.ensureTopic(m.topic)
		if err == nil {
			it.queue, err = t.choose(m.topic, it.explicit, it.queue, it.key)
		}
		if err != nil {
			it.frame.err = err
			continue
		}
		w.appendMessage(&it.frame, t, it.queue)
	}
}

// appendMessage appends the frame of a message, delayed or not, to a queue.
func (w *writer) appendMessage(f *frame, t *topicPlan, queue int) {
	if w.broken != nil {
		f.err = w.broken
		return
	}
	skip := 0
	delayed := f.fact.kind == record.Delayed
	if delayed {
		skip = record.DueSize()
	}
	t.place(&f.fact.msg, queue, delayed)
	if !w.append(f, skip) && !delayed {
		t.next[queue]--
	}
}

func (j *sendJob) finish() {}

// newItem encodes one message of a request.
func newItem(o *outgoing, m *driver.Message, at int) (sendItem, error) {
	payload, err := o.payload()
	if err != nil {
		return sendItem{}, err
	}
	return sendItem{
		frame: frame{payload: payload, fact: fact{kind: o.kind(), msg: messageFact{
			topic: o.stored.Topic, tag: o.tag, id: o.id, keys: o.keys, due: o.due,
		}}},
		explicit: m.QueueSet, queue: m.Queue, key: m.OrderingKey, at: at,
	}, nil
}

// result answers one stored message.
func (it *sendItem) result() driver.SendResult {
	f := &it.frame.fact
	r := driver.SendResult{
		ID: f.msg.id, OffsetID: message.OffsetID(storeHost(), f.pos), Queue: f.msg.queue,
		Lane: laneName(f.msg.topic, f.msg.queue), Offset: f.msg.offset, Status: driver.Stored,
	}
	if f.kind == record.Delayed {
		r.Offset = -1
	}
	return r
}

// send is [driver.Conn.Send]; closed ends the wait.
func (e *engine) send(ctx context.Context, closed <-chan struct{}, req driver.SendRequest) []driver.SendResult {
	results := make([]driver.SendResult, len(req.Messages))
	refuse := func(i int, err *driver.Error) {
		results[i].Status, results[i].Err = driver.NotStored, withOp(err, "send to "+topicOf(req.Messages[i]))
	}
	for i, m := range req.Messages {
		if m != nil {
			results[i].ID = m.ID
		}
	}
	if n := len(req.Messages); n > e.cfg.MaxBatch {
		for i := range results {
			refuse(i, driver.Errorf(driver.InvalidArgument, "", "%d messages in one call, at most %d are allowed", n, e.cfg.MaxBatch))
		}
		return results
	}
	j := &sendJob{items: make([]sendItem, 0, len(req.Messages))}
	size, now := 0, e.log.Now()
	for i, m := range req.Messages {
		it, err := e.prepareSend(ctx, m, i, func() outgoing { return newOutgoing(m, results[i].ID, now) }, &results[i])
		if err != nil {
			refuse(i, err)
			continue
		}
		size += len(it.frame.payload)
		j.items = append(j.items, it)
	}
	if len(j.items) == 0 {
		return results
	}
	var gaveUp *driver.Error
	if req.NoAck {
		_, gaveUp = e.w.submit(j, size)
	} else {
		gaveUp = e.w.do(ctx, closed, j, size)
	}
	for i := range j.items {
		at := j.items[i].at
		switch {
		case gaveUp != nil:
			refuse(at, gaveUp)
		case req.NoAck:
			results[at].Status = driver.Unconfirmed
		case j.items[i].frame.err != nil:
			refuse(at, j.items[i].frame.err)
		default:
			results[at] = j.items[i].result()
		}
	}
	return results
}

// prepareSend checks and encodes one message; r gets its id.
func (e *engine) prepareSend(ctx context.Context, m *driver.Message, at int, out func() outgoing, r *driver.SendResult) (sendItem, *driver.Error) {
	if m == nil {
		return sendItem{}, driver.Errorf(driver.InvalidArgument, "", "message %d of the call is nil", at)
	}
	if r.ID == "" {
		r.ID = e.ids.Next()
	}
	if err := e.checkMessage(m); err != nil {
		return sendItem{}, driver.Errorf(driver.InvalidArgument, "", "%w", err)
	}
	if ctx.Err() != nil {
		return sendItem{}, driver.FromContext(ctx, "", false)
	}
	if f := e.w.failed.Load(); f != nil {
		return sendItem{}, f
	}
	o := out()
	it, err := newItem(&o, m, at)
	if err != nil {
		return sendItem{}, encodeError(err)
	}
	return it, nil
}

func encodeError(err error) *driver.Error {
	if errors.Is(err, message.ErrTooLong) {
		return driver.Errorf(driver.InvalidArgument, "", "%w", err)
	}
	return driver.Errorf(driver.Internal, "", "%w", err)
}

func topicOf(m *driver.Message) string {
	if m == nil {
		return "no topic"
	}
	if m.QueueSet {
		return fmt.Sprintf("%s queue %d", m.Topic, m.Queue)
	}
	return m.Topic
}
