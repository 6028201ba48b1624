package tcp

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/drivertest/history"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// delays are the levels that the server is started with.
var delays = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second}

// producer sends by one connection at a time, in three streams: messages and
// batches in order, half messages, delayed messages. Nothing is ever sent again,
// so everything is stored once or not at all.
type producer struct {
	l     *ledger
	name  string
	addr  string
	r     *rand.Rand
	pace  time.Duration // between two sends of a stream
	next  map[string]int
	ids   *message.UniqueIDs
	calls context.Context // of the whole life of the producer
}

func newProducer(l *ledger, name, addr string, r *rand.Rand, pace time.Duration) *producer {
	return &producer{l: l, name: name, addr: addr, r: r, pace: pace, next: map[string]int{}, ids: message.NewUniqueIDs()}
}

func (p *producer) group() string { return "senders-" + p.name }

// run sends until work ends, and answers questions until all ends.
func (p *producer) run(work, all context.Context) {
	p.calls = all
	for all.Err() == nil {
		questions := make(chan *remoting.Command, 1024)
		conn := dialAgain(all, p.addr, func(c *remoting.Command) *remoting.Command {
			if c.Code == remoting.ReqCheckTransactionState {
				select {
				case questions <- c:
				default: // the server asks again
				}
			}
			return nil
		})
		if conn == nil {
			return
		}
		p.l.connected()
		p.live(work, conn, questions)
		_ = conn.Close()
	}
}

// live uses one connection as long as it is there.
func (p *producer) live(work context.Context, conn *rpc.Conn, questions <-chan *remoting.Command) {
	life := p.l.now()
	beat := remoting.Heartbeat{ClientID: p.name, Producers: []string{p.group()}}
	if _, err := done(p.calls, conn, &remoting.Command{Code: remoting.ReqHeartbeat, Body: beat.AppendTo(nil)}); err != nil {
		p.l.complain("heartbeat", err)
		return
	}
	var wg sync.WaitGroup
	for name, send := range map[string]func(*stream) bool{"plain": (*stream).plain, "half": (*stream).half, "late": (*stream).late} {
		s := &stream{producer: p, conn: conn, name: p.name + "-" + name, r: fork(p.r)}
		p.l.mu.Lock()
		s.next = p.next[s.name]
		p.l.mu.Unlock()
		wg.Go(func() {
			for work.Err() == nil && alive(conn) && send(s) && pause(work, p.pace) {
			}
			p.l.mu.Lock()
			defer p.l.mu.Unlock()
			p.next[s.name] = s.next
		})
	}
	wg.Go(func() { p.decide(conn, life, questions) })
	wg.Wait()
}

// stream is one sequence of sends.
type stream struct {
	*producer
	conn *rpc.Conn
	name string
	r    *rand.Rand
	next int
}

func (s *stream) value() history.Value {
	v := history.Value{Process: s.name, Counter: s.next}
	s.next++
	return v
}

// header is that of a send, whatever it holds.
func (s *stream) header(queue int, batch bool, properties ...string) remoting.SendMessage {
	return remoting.SendMessage{
		ProducerGroup: s.group(), Topic: topic, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: queues, QueueID: int32(queue),
		BornTimestamp: time.Now().UnixMilli(), MaxReconsumeTimes: -1, Batch: batch, Properties: joined(properties),
	}
}

// joined encodes pairs of names and values.
func joined(pairs []string) string {
	var b []byte
	for i := 0; i+1 < len(pairs); i += 2 {
		b = message.AppendProperty(b, pairs[i], pairs[i+1])
	}
	return string(b)
}

// send sends and reads the result; nil after an error, which is noted.
func (s *stream) send(code int, h remoting.SendMessage, body []byte) (*remoting.SendResult, error) {
	req := &remoting.Command{Code: code, Body: body}
	h.AppendTo(code, &req.Fields)
	began := time.Now()
	a, err := done(s.calls, s.conn, req)
	s.l.took(&s.l.sends, began)
	if err != nil {
		s.l.complain("send", err)
		return nil, err
	}
	r, err := remoting.DecodeSendResult(a.Fields)
	if err != nil {
		s.l.bad("the answer to a send: %v", err)
		return nil, err
	}
	return &r, nil
}

func (s *stream) body(v history.Value) []byte {
	size := 40 + s.r.IntN(400)
	if s.r.IntN(50) == 0 {
		size = 20 << 10
	}
	return history.Body(v, size)
}

// plain sends one message or a batch, in order.
func (s *stream) plain() bool {
	queue, n := s.r.IntN(queues), 1
	if s.r.IntN(6) == 0 {
		n = 2 + s.r.IntN(8)
	}
	values := make([]history.Value, n)
	var body []byte
	code := remoting.ReqSendMessageV2
	for i := range values {
		values[i] = s.value()
		s.l.h.Invoke(values[i], topic)
		one := s.body(values[i])
		if n == 1 {
			body = one
			break
		}
		code = remoting.ReqSendBatch
		var err error
		if body, err = message.AppendBatch(body, message.BatchElement{Body: one, Properties: joined([]string{message.UniqKey, s.ids.Next()})}); err != nil {
			s.l.bad("encode a batch: %v", err)
			return false
		}
	}
	h := s.header(queue, n > 1)
	if n == 1 {
		h.Properties = joined([]string{message.UniqKey, s.ids.Next(), message.Keys, values[0].String()})
	}
	r, err := s.send(code, h, body)
	if err != nil {
		if certainly(err) {
			for _, v := range values {
				s.l.h.Answer(v, history.Failed)
			}
		}
		return alive(s.conn)
	}
	if int(r.QueueID) != queue || strings.Count(r.MsgID, ",") != n-1 {
		s.l.bad("%d messages for queue %d were answered %+v", n, queue, *r)
	}
	for i, v := range values {
		s.l.stored(v, queue, r.QueueOffset+int64(i))
	}
	return true
}

// late sends a message that is to come later.
func (s *stream) late() bool {
	v := s.value()
	properties := []string{message.UniqKey, s.ids.Next()}
	delay := time.Duration(s.r.IntN(800)) * time.Millisecond
	now := time.Now()
	switch s.r.IntN(3) {
	case 0:
		level := s.r.IntN(len(delays))
		delay = delays[level]
		properties = append(properties, message.Delay, strconv.Itoa(level+1))
	case 1:
		properties = append(properties, message.TimerDelayMs, strconv.FormatInt(delay.Milliseconds(), 10))
	default:
		properties = append(properties, message.TimerDeliverMs, strconv.FormatInt(now.Add(delay).UnixMilli(), 10))
	}
	s.l.h.Invoke(v, "")
	s.l.h.Due(v, now.Add(delay))
	if _, err := s.send(remoting.ReqSendMessageV2, s.header(s.r.IntN(queues), false, properties...), s.body(v)); err == nil {
		s.l.h.Answer(v, history.OK)
	} else if certainly(err) {
		s.l.h.Answer(v, history.Failed)
	}
	return alive(s.conn)
}
