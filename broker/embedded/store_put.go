package embedded

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Put is one message for [Store.Put]. Everything is stored as it is.
type Put struct {
	// Topic must exist; topics for retries and dead letters are made.
	Topic string
	// Queue is the number of a queue; below zero any will do.
	Queue int
	// Flag, SysFlag, BornMs, BornHost and Reconsumed are fields of the record.
	// Bits of SysFlag about transactions and hosts are the broker's own.
	Flag, SysFlag int32
	BornMs        int64
	BornHost      netip.AddrPort
	Reconsumed    int32
	// Properties and Extra are encoded properties, one behind the other; each
	// ends with 0x02 unless it is empty. Those of a half message name its Tx as
	// [message.UniqKey] and its Group as [message.ProducerGroup].
	Properties, Extra []byte
	Body              []byte
	// DueMs is when the message is to become visible, in milliseconds since
	// 1970; in the past or zero: at once.
	DueMs int64
	// RetryOf, where Topic is the retry topic of Group, is the topic whose
	// redelivery this is; it chooses the queue.
	RetryOf string
	// Group is the producer group of a half message, or the consumer group of
	// RetryOf. Tx is the unique id of a half message; empty: this is none.
	Group, Tx string
}

// PutResult is what became of a [Put].
type PutResult struct {
	// Pos is the position of the record in the log, its physical offset. Of a
	// half message that was there before it is that of the first one.
	Pos int64
	// Queue and Offset are where it lies, or will lie; the offset of a delayed
	// and of a half message is 0. Of a half message that was stored by an
	// earlier call the queue is 0, too: nobody looks for it.
	Queue  int
	Offset int64
	// StoredMs is the time of the broker.
	StoredMs int64
	// Err is nil or why it is not stored.
	Err *driver.Error
}

// Pending is a [Store.Put] or [Store.Resolve] that was begun. It has one
// owner, who calls Wait once.
type Pending struct {
	e       *engine
	job     pendingJob
	begun   begun
	err     *driver.Error
	results []PutResult
}

// pendingJob is a job whose results a Pending hands out.
type pendingJob interface {
	job
	// results answers what became of it, once it is finished.
	results(into []PutResult) []PutResult
	// recycle gives the job back.
	recycle()
}

// Ready reports whether Wait would not wait.
func (p *Pending) Ready() bool { return p.err != nil || p.begun.finished() }

// Wait answers what became of the messages, in their order, once they are as
// durable as the broker promises. An error means that ctx has ended, or that
// nothing was begun; MaybeDone tells which. The results belong to p until
// Release.
func (p *Pending) Wait(ctx context.Context) ([]PutResult, *driver.Error) {
	if p.err != nil {
		return nil, p.err
	}
	if err := p.begun.wait(ctx, nil); err != nil {
		p.job = nil // it may still be at work
		return nil, err
	}
	p.results = p.job.results(p.results[:0])
	return p.results, nil
}

// Release gives p back, after Wait; neither it nor its results may be used
// afterwards. It need not be called.
func (p *Pending) Release() {
	if p.job != nil && p.begun.finished() { // else the job is at work
		p.job.recycle()
	}
	results := p.results
	clear(results)
	*p = Pending{results: results[:0]}
	pendings.Put(p)
}

var pendings = sync.Pool{New: func() any { return new(Pending) }} //nolint:gochecknoglobals // a pool has no state

func (s *Store) pending(j pendingJob, size int, err *driver.Error) *Pending {
	p := pendings.Get().(*Pending)
	p.e, p.job, p.err = s.e, j, err
	if err != nil {
		p.job = nil
		return p
	}
	if p.begun, p.err = s.e.w.begin(j, size); p.err != nil {
		p.job = nil
	}
	return p
}

// Put begins to store messages, in the order of the calls; messages of one call
// that go to the same queue keep their order. What puts refers to belongs to
// the caller again when Put returns. Nothing is stored if one of the messages
// can be refused before; the error then says which.
func (s *Store) Put(puts []Put) *Pending {
	j := putJobs.Get().(*putJob)
	size, err := j.prepare(s.e, puts)
	return s.pending(j, size, err)
}

// putJob stores the messages of one Put. Jobs are used again and again.
type putJob struct {
	items []putItem
	out   outgoing
	e     *engine
	grown string // the retry topic that has got a queue; "" for none
}

type putItem struct {
	frame   frame
	queue   int
	group   string // of a half message, or that RetryOf belongs to
	retryOf string
	half    bool
	first   *frame // of a half message: that of the same identity
	pos     int64  // of a half message that was stored before, else -1
}

var putJobs = sync.Pool{New: func() any { return new(putJob) }} //nolint:gochecknoglobals // a pool has no state

func (j *putJob) recycle() {
	for i := range j.items {
		if j.items[i].frame.shared {
			return // another job looks at it
		}
	}
	clear(j.items)
	j.items = j.items[:0]
	j.out.reset()
	j.e, j.grown = nil, ""
	if cap(j.out.b) <= keepEncoded && cap(j.items) <= 256 {
		putJobs.Put(j)
	}
}

// prepare checks and encodes the messages.
func (j *putJob) prepare(e *engine, puts []Put) (size int, err *driver.Error) {
	if f := e.w.failed.Load(); f != nil {
		return 0, f
	}
	if e.w.full.Load() {
		return 0, fullError()
	}
	if cap(j.items) < len(puts) {
		j.items = make([]putItem, 0, len(puts))
	}
	j.e = e
	now := e.nowMs()
	for i := range puts {
		p := &puts[i]
		if err := p.check(e.cfg.MaxBody, now); err != nil {
			return 0, driver.Errorf(driver.InvalidArgument, "", "message %d %w", i, err)
		}
		j.items = append(j.items, putItem{queue: p.Queue, group: p.Group, retryOf: p.RetryOf, half: p.Tx != "", pos: -1})
		it := &j.items[i]
		if p.DueMs > now {
			it.frame.fact.msg.due = p.DueMs
		}
		if err := j.encode(it, p); err != nil {
			return 0, encodeError(fmt.Errorf("message %d: %w", i, err))
		}
		size += it.frame.size()
	}
	return size, nil
}

// check refuses what can never be stored; its error goes on behind "message 7".
func (p *Put) check(maxBody int, nowMs int64) error {
	if n := len(p.Body); n > maxBody {
		return fmt.Errorf("has a body of %d bytes, at most %d are allowed", n, maxBody)
	}
	if p.RetryOf != "" {
		if err := driver.ValidTopic(p.RetryOf); err != nil {
			return fmt.Errorf("is a redelivery of something else: %w", err)
		}
	}
	if p.Tx == "" {
		return nil
	}
	if p.DueMs > nowMs {
		return errors.New("is a half message, which cannot be delayed")
	}
	// A start reads the identity from the record.
	var tx, group []byte
	for _, all := range [][]byte{p.Properties, p.Extra} {
		for name, value := range message.PropertiesOf(all) {
			switch string(name) {
			case message.UniqKey:
				tx = value
			case message.ProducerGroup:
				group = value
			}
		}
	}
	if string(tx) != p.Tx || string(group) != p.Group {
		return fmt.Errorf("is half message %q of group %q, but its properties say %q of %q", p.Tx, p.Group, tx, group)
	}
	return nil
}

func (j *putJob) encode(it *putItem, p *Put) error {
	s := message.Stored{
		Topic: p.Topic, Flag: p.Flag, SysFlag: p.SysFlag &^ message.SysTransaction,
		BornTimestamp: p.BornMs, BornHost: p.BornHost, StoreHost: storeHost(), ReconsumeTimes: p.Reconsumed, Body: p.Body,
	}
	f := &it.frame
	var at int
	err := j.out.around(f, &s, func(b []byte) []byte {
		at = len(b)
		return append(append(b, p.Properties...), p.Extra...)
	})
	if err != nil {
		return err
	}
	j.out.copyFact(f, p.Topic, j.out.b[at:])
	if it.half {
		f.half = halves.ID{Group: p.Group, Tx: p.Tx}
		f.fact.kind = record.Half
		f.fact.msg.group, f.fact.msg.id = p.Group, p.Tx
	}
	return nil
}

// detach copies what belongs to the caller of Put.
func (j *putJob) detach() {
	for i := range j.items {
		j.items[i].frame.body = bytes.Clone(j.items[i].frame.body)
	}
}

func (j *putJob) stage(w *writer) {
	for i := range j.items {
		it := &j.items[i]
		if it.half {
			j.stageHalf(w, it)
			continue
		}
		t, queue, err := j.place(w, it)
		if err != nil {
			it.frame.err = err
			continue
		}
		w.appendMessage(&it.frame, t, queue)
	}
}

// place finds the queue of a message. Only internal topics are made here.
func (j *putJob) place(w *writer, it *putItem) (*topicPlan, int, *driver.Error) {
	name := it.frame.fact.msg.topic
	queue, explicit := it.queue, it.queue >= 0
	if it.retryOf != "" && name == retryTopic(it.group) {
		had := len(w.plan.topic(name).next)
		n, err := w.ensureRetryQueue(it.group, it.retryOf)
		if err != nil {
			return nil, 0, err
		}
		if queue, explicit = n, true; len(w.plan.topic(name).next) > had {
			j.grown = name
		}
	}
	t := w.plan.topic(name)
	if len(t.next) == 0 {
		if !envelope.Internal(name) {
			return nil, 0, driver.Errorf(driver.NotFound, "", "topic %q does not exist", name)
		}
		if err := driver.ValidTopic(name); err != nil {
			return nil, 0, driver.Errorf(driver.InvalidArgument, "", "%w", err)
		}
		if err := w.createTopic(t, record.Topic{Name: name, Queues: 1}); err != nil {
			return nil, 0, err
		}
	}
	queue, err := t.choose(name, explicit, queue, "")
	return t, queue, err
}

// stageHalf stores a half message, unless there is one of the same identity.
func (j *putJob) stageHalf(w *writer, it *putItem) {
	f := &it.frame
	if h := w.half(f.half); h.State != halves.None {
		it.pos, f.fact.msg.storedMs = h.Pos, cmp.Or(h.StoredMs, w.nowMs)
		return
	}
	if it.first = w.halves[f.half]; it.first != nil {
		it.first.shared = true
		return
	}
	_, queue, err := j.place(w, it)
	if err != nil {
		f.err = err
		return
	}
	f.fact.msg.queue = queue
	if w.append(f, 0) {
		w.halves[f.half] = f
	}
}

func (j *putJob) finish() {
	if j.grown != "" {
		j.e.groups.grown(j.grown)
	}
}

func (j *putJob) results(into []PutResult) []PutResult {
	for i := range j.items {
		it := &j.items[i]
		f := &it.frame
		if it.first != nil {
			f = it.first
		}
		r := PutResult{Pos: f.fact.pos, Queue: f.fact.msg.queue, Offset: f.fact.msg.offset, StoredMs: f.fact.msg.storedMs, Err: f.err}
		if it.pos >= 0 {
			r.Pos = it.pos
		}
		into = append(into, r)
	}
	return into
}
