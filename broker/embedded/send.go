package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

func retryTopic(group string) string { return driver.RetryTopic(group) }

// groupOfRetry is the inverse of retryTopic.
func groupOfRetry(topic string) string { return strings.TrimPrefix(topic, retryTopic("")) }

func laneName(topic string, queue int) string { return topic + "/" + strconv.Itoa(queue) }

// sendJob stores the messages of one Send. Jobs are used again and again.
type sendJob struct {
	items []sendItem
	out   outgoing
	ids   []byte // that were made for messages without one
}

type sendItem struct {
	frame    frame
	explicit bool
	queue    int
	key      string
	at       int    // index of the message in the request
	id       []byte // its unique id
}

var sendJobs = sync.Pool{New: func() any { return new(sendJob) }} //nolint:gochecknoglobals // a pool has no state

// keepEncoded is the largest buffer of a job that is kept for the next one.
const keepEncoded = 64 << 10

// recycle gives j back; nobody else may hold it.
func (j *sendJob) recycle() {
	clear(j.items)
	j.items, j.ids = j.items[:0], j.ids[:0]
	j.out.reset()
	if cap(j.out.b) <= keepEncoded && cap(j.items) <= 256 {
		sendJobs.Put(j)
	}
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

func (j *sendJob) finish() {}

// detach copies what belongs to the caller of Send, which may give up before j
// is staged.
func (j *sendJob) detach() {
	for i := range j.items {
		j.items[i].frame.body = bytes.Clone(j.items[i].frame.body)
	}
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
	j := sendJobs.Get().(*sendJob)
	j.items = slices.Grow(j.items, len(req.Messages))
	size, now := 0, e.log.Now()
	for i, m := range req.Messages {
		n, err := e.prepareSend(ctx, j, m, i, now)
		if err != nil {
			refuse(i, err)
			continue
		}
		size += n
	}
	if len(j.items) == 0 {
		e.nameRefused(results)
		return results
	}
	var gaveUp *driver.Error
	if req.NoAck {
		gaveUp = e.w.start(j, size)
	} else {
		gaveUp = e.w.do(ctx, closed, j, size)
	}
	for i := range j.items {
		it := &j.items[i]
		r := &results[it.at]
		switch {
		case gaveUp != nil:
			r.ID = it.name(r)
			refuse(it.at, gaveUp)
		case req.NoAck:
			r.ID, r.Status = it.name(r), driver.Unconfirmed
		case it.frame.err != nil:
			r.ID = it.name(r)
			refuse(it.at, it.frame.err)
		default:
			it.answer(r)
		}
	}
	e.nameRefused(results)
	if gaveUp == nil && !req.NoAck {
		j.recycle()
	}
	return results
}

// nameRefused gives an id to what was refused before it got one.
func (e *engine) nameRefused(results []driver.SendResult) {
	for i := range results {
		if results[i].ID == "" {
			results[i].ID = e.ids.Next()
		}
	}
}

// name is the unique id; r has it already if the message brought it.
func (it *sendItem) name(r *driver.SendResult) string {
	if r.ID != "" {
		return r.ID
	}
	return string(it.id)
}

// answer fills in the result of a stored message. Id and offset id that are
// made here share their memory.
func (it *sendItem) answer(r *driver.SendResult) {
	f := &it.frame.fact
	var text [2 * 56]byte
	b := text[:0]
	if r.ID == "" {
		b = append(b, it.id...)
	}
	n := len(b)
	b = message.AppendOffsetID(b, storeHost(), f.pos)
	s := string(b)
	if n > 0 {
		r.ID = s[:n]
	}
	r.OffsetID, r.Queue, r.Lane = s[n:], f.msg.queue, f.msg.q.lane
	r.Offset, r.Status = f.msg.offset, driver.Stored
	if f.kind == record.Delayed {
		r.Offset = -1
	}
}

// prepareSend checks and encodes one message as the next item of j, and
// answers its size.
func (e *engine) prepareSend(ctx context.Context, j *sendJob, m *driver.Message, at int, now time.Time) (int, *driver.Error) {
	if m == nil {
		return 0, driver.Errorf(driver.InvalidArgument, "", "message %d of the call is nil", at)
	}
	if err := envelope.Check(m, e.cfg.MaxBody); err != nil {
		return 0, driver.Errorf(driver.InvalidArgument, "", "%w", err)
	}
	if ctx.Err() != nil {
		return 0, driver.FromContext(ctx, "", false)
	}
	if f := e.w.failed.Load(); f != nil {
		return 0, f
	}
	if e.w.full.Load() {
		return 0, fullError()
	}
	from := len(j.ids)
	if m.ID == "" {
		j.ids = e.ids.AppendNext(j.ids, now)
	} else {
		j.ids = append(j.ids, m.ID...)
	}
	j.items = append(j.items, sendItem{explicit: m.QueueSet, queue: m.Queue, key: m.OrderingKey, at: at})
	it := &j.items[len(j.items)-1]
	it.id = j.ids[from:len(j.ids):len(j.ids)]
	if err := j.out.encode(&it.frame, m, it.id, nil, now); err != nil {
		j.items = j.items[:len(j.items)-1]
		return 0, encodeError(err)
	}
	return it.frame.size(), nil
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
