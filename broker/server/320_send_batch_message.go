package server

import (
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// batchMost is how many messages a batch may hold: the answer names each of
// them, and has to fit a header.
const batchMost = 1024

// sendBatch stores the messages of a batch, each as a record of its own with
// consecutive offsets in one queue. Elements may not be delayed, half or for a
// retry topic.
func (s *Server) sendBatch(c *conn, h *remoting.SendMessage, t topicConfig, req, resp *remoting.Command) error {
	if _, owned := ownerOf(h.Topic); owned {
		return illegal("batch request does not support retry group %s", h.Topic)
	}
	now := s.store.NowMs()
	if f := readFacts(h.Properties, now); f.waits() || h.SysFlag&message.SysTransaction != 0 {
		return illegal("the batch is delayed or transactional, which a batch cannot be")
	}
	w := batches.Get().(*batch) //nolint:forcetypeassert // of its New
	defer w.recycle()
	elements, err := message.AppendBatchOf(w.elements, req.Body, batchMost)
	if err != nil {
		return illegal("%v", err)
	}
	if len(elements) == 0 {
		return illegal("the batch holds no message")
	}
	w.elements = elements
	queue, room := s.writeQueue(&t, int(h.QueueID)), w.room(len(s.marks))
	for i, e := range elements {
		f := readFacts(e.Properties, now)
		if f.waits() {
			return illegal("message %d of the batch is delayed or transactional, which a batch cannot hold", i)
		}
		w.puts = append(w.puts, embedded.Put{
			Topic: h.Topic, Queue: queue, Flag: e.Flag, SysFlag: h.SysFlag &^ (message.SysNeedUnwrap | message.SysInnerBatch),
			BornMs: h.BornTimestamp, BornHost: c.born, Reconsumed: h.ReconsumeTimes, Body: e.Body,
		})
		p := &w.puts[i]
		if t.FilterType == remoting.FilterMultiTag {
			p.SysFlag |= message.SysMultiTags
		}
		if err := s.properties(p, room[:0], e.Properties, &f); err != nil {
			return err
		}
		room = room[min(len(p.Properties), len(room)):]
	}
	return c.await(s.store.Put(w.puts), req, resp, &sentBatch{topic: h.Topic, bytes: len(req.Body), id: message.Property(h.Properties, message.UniqKey)})
}

// batch is the memory that a batch is put together in; the store has copied
// what it needs when Put returns.
type batch struct {
	elements []message.BatchElement
	puts     []embedded.Put
	memory   []byte // of properties
}

var batches = sync.Pool{New: func() any { return new(batch) }} //nolint:gochecknoglobals // a pool has no state

// room is memory for the properties of all elements, with so many bytes that
// each gets from the broker. What does not fit gets memory of its own.
func (w *batch) room(marks int) []byte {
	const id = 48 // a unique id and its name, for what has none
	n := 0
	for i := range w.elements {
		n += len(w.elements[i].Properties) + marks + id
	}
	if cap(w.memory) < n {
		w.memory = make([]byte, n)
	}
	return w.memory[:n:n] // so that nothing grows into the next one
}

func (w *batch) recycle() {
	clear(w.elements[:cap(w.elements)]) // what could not be read whole has left its beginning there
	clear(w.puts)
	w.elements, w.puts = w.elements[:0], w.puts[:0]
	if cap(w.memory) > spareMost {
		w.memory = nil
	}
	batches.Put(w)
}

// sentBatch is a batch that was sent.
type sentBatch struct {
	topic string
	bytes int
	id    string // of the batch as a whole, if it has one
}

func (w *sentBatch) answer(s *Server, results []embedded.PutResult, resp *remoting.Command) error {
	var ids strings.Builder
	for i := range results {
		if results[i].Err != nil {
			return failed(results[i].Err)
		}
		if i > 0 {
			ids.WriteByte(',')
		}
		ids.WriteString(message.OffsetID(s.host, results[i].Pos))
	}
	s.countPut(w.topic, len(results), w.bytes)
	x := remoting.SendResult{
		MsgID: ids.String(), QueueID: int32(results[0].Queue), QueueOffset: results[0].Offset, TransactionID: w.id, Region: region, TraceOn: "true",
	}
	x.AppendTo(&resp.Fields)
	return nil
}
