package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

type producerHandle struct {
	plain rocketmq.Producer
	tx    rocketmq.TransactionProducer
	queue *chooser
}

func (p *producerHandle) shutdown() error {
	if p.tx != nil {
		return p.tx.Shutdown()
	}
	return p.plain.Shutdown()
}

// chooser sends a message to the queue that was asked for it, or by turns.
type chooser struct {
	turns  producer.QueueSelector
	wanted sync.Map // *primitive.Message -> int, or a key to hash
}

func (s *chooser) Select(m *primitive.Message, queues []*primitive.MessageQueue, last string) *primitive.MessageQueue {
	switch w, _ := s.wanted.Load(m); w := w.(type) {
	case int:
		for _, q := range queues {
			if q.QueueId == w {
				return q
			}
		}
	case string:
		h := fnv.New32a()
		h.Write([]byte(w))
		return queues[h.Sum32()%uint32(len(queues))]
	}
	return s.turns.Select(m, queues, last)
}

func (d *drivers) openProducer(c command) error {
	p := &producerHandle{queue: &chooser{turns: producer.NewRoundRobinQueueSelector()}}
	options := []producer.Option{
		producer.WithNameServer([]string{c.text("ns")}), producer.WithGroupName(c.text("group")), producer.WithInstanceName(instance(c)),
		producer.WithRetry(int(c.number("retry", 2))), producer.WithSendMsgTimeout(10 * time.Second), producer.WithQueueSelector(p.queue),
		producer.WithCompressMsgBodyOverHowmuch(int(c.number("over", 4096))),
	}
	if c.has("namespace") {
		options = append(options, producer.WithNamespace(c.text("namespace")))
	}
	if c.has("ak") {
		options = append(options, producer.WithCredentials(primitive.Credentials{AccessKey: c.text("ak"), SecretKey: c.text("sk")}))
	}
	if c.has("trace") {
		options = append(options, producer.WithTrace(tracing(c)))
	}
	var err error
	if c.has("tx") {
		if p.tx, err = rocketmq.NewTransactionProducer(&transactions{handle: c.text("h")}, options...); err == nil {
			err = p.tx.Start()
		}
	} else if p.plain, err = rocketmq.NewProducer(options...); err == nil {
		err = p.plain.Start()
	}
	if err == nil {
		d.producers.put(c.text("h"), p)
	}
	return err
}

func tracing(c command) *primitive.TraceConfig {
	return &primitive.TraceConfig{
		GroupName: c.text("group"), Access: primitive.Local, NamesrvAddrs: []string{c.text("ns")},
		Resolver: primitive.NewPassthroughResolver([]string{c.text("ns")}),
	}
}

// message is the message that a command describes.
func message(c command, text string) *primitive.Message {
	if fill := int(c.number("fill", 0)); fill > len(text) {
		text += strings.Repeat(".", fill-len(text))
	}
	m := primitive.NewMessage(c.text("topic"), []byte(text))
	m.Flag = int32(c.number("flag", 0))
	m.WithTag(c.text("tags"))
	if c.has("keys") {
		m.WithKeys([]string{c.text("keys")})
	}
	if c.has("delay") {
		m.WithDelayTimeLevel(int(c.number("delay", 0)))
	}
	// The client has no methods for timers; the properties are what a server sees of them.
	if name := map[string]string{"seconds": "TIMER_DELAY_SEC", "millis": "TIMER_DELAY_MS", "at": "TIMER_DELIVER_MS"}[c.text("timer")]; name != "" {
		m.WithProperty(name, c.text("due"))
	}
	for name, value := range c.arguments {
		if p, ok := strings.CutPrefix(name, "prop."); ok {
			m.WithProperty(p, value)
		}
	}
	return m
}

func (d *drivers) send(c command) (fields, error) {
	p, err := d.producers.get(c.text("h"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m := message(c, c.text("body"))
	if c.has("queue") {
		p.queue.wanted.Store(m, int(c.number("queue", 0)))
	} else if c.has("shard") {
		p.queue.wanted.Store(m, c.text("shard"))
	}
	switch c.text("mode") {
	case "", "sync":
		r, err := p.plain.SendSync(ctx, m)
		if err != nil {
			return nil, err
		}
		return sent(r), nil
	case "async":
		return async(ctx, p.plain, m)
	case "oneway":
		return nil, p.plain.SendOneWay(ctx, m)
	case "batch":
		var all []*primitive.Message
		for b := range strings.SplitSeq(c.text("body"), ",") {
			all = append(all, message(c, b))
		}
		r, err := p.plain.SendSync(ctx, all...)
		if err != nil {
			return nil, err
		}
		return sent(r), nil
	case "tx":
		r, err := p.tx.SendMessageInTransaction(ctx, m)
		if err != nil {
			return nil, err
		}
		f := sent(r.SendResult)
		f["state"] = stateNames[r.State]
		return f, nil
	case "request":
		before := time.Now()
		// The reply may overtake the answer to the send, which the client then
		// still waits for: it goes on with a nil answer if ctx ends before.
		r, err := p.plain.Request(context.WithoutCancel(ctx), time.Duration(c.number("ttl", 3000))*time.Millisecond, m)
		if err != nil {
			return nil, err
		}
		return fields{"reply": body(r.Body), "props": r.GetProperties(), "took": time.Since(before).Milliseconds()}, nil
	}
	return nil, fmt.Errorf("send: unknown mode %s", c.text("mode"))
}

func async(ctx context.Context, p rocketmq.Producer, m *primitive.Message) (fields, error) {
	type outcome struct {
		result *primitive.SendResult
		err    error
	}
	done := make(chan outcome, 2) // after a network error the client calls back twice
	err := p.SendAsync(ctx, func(_ context.Context, r *primitive.SendResult, err error) { done <- outcome{r, err} }, m)
	if err != nil {
		return nil, err
	}
	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.err
		}
		return sent(o.result), nil
	case <-ctx.Done():
		return nil, errors.New("send async: no callback in time")
	}
}

// bulk sends many small messages, spread over keys; all of a key go to one
// queue, in order, from one goroutine.
func (d *drivers) bulk(c command) (fields, error) {
	p, err := d.producers.get(c.text("h"))
	if err != nil {
		return nil, err
	}
	count, keys, workers := c.number("count", 0), c.number("keys", 1), c.number("workers", 1)
	var acknowledged atomic.Int64
	var first error
	var once sync.Once
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for n := range count / keys {
				for key := w; key < keys; key += workers {
					name := "k" + strconv.FormatInt(key, 10)
					m := primitive.NewMessage(c.text("topic"), fmt.Appendf(nil, "%d:%d", key, n))
					m.WithKeys([]string{name})
					p.queue.wanted.Store(m, name)
					r, err := p.plain.SendSync(context.Background(), m)
					p.queue.wanted.Delete(m)
					if err == nil && r.Status != primitive.SendOK {
						err = fmt.Errorf("send %d:%d: status %v", key, n, statuses[r.Status])
					}
					if err != nil {
						once.Do(func() { first = err })
						return
					}
					acknowledged.Add(1)
				}
			}
		})
	}
	running.Wait()
	return fields{"acknowledged": acknowledged.Load()}, first
}

// transactions decides by the message's own properties: local, and check with
// an item for each time it is asked.
type transactions struct {
	handle string
	mu     sync.Mutex
	checks map[string]int
}

func (t *transactions) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	event("local", t.handle, fields{"body": body(m.Body), "transactionId": m.TransactionId})
	return states[m.GetProperty("local")]
}

func (t *transactions) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	t.mu.Lock()
	if t.checks == nil {
		t.checks = map[string]int{}
	}
	n := t.checks[m.MsgId]
	t.checks[m.MsgId]++
	t.mu.Unlock()
	f := seen(m)
	f["number"] = n + 1
	event("check", t.handle, f)
	answers := strings.Split(m.GetProperty("check"), ",")
	return states[answers[min(n, len(answers)-1)]]
}

var states = map[string]primitive.LocalTransactionState{
	"commit": primitive.CommitMessageState, "rollback": primitive.RollbackMessageState, "unknown": primitive.UnknowState, "throw": primitive.UnknowState,
}

var stateNames = map[primitive.LocalTransactionState]string{
	primitive.CommitMessageState: "COMMIT_MESSAGE", primitive.RollbackMessageState: "ROLLBACK_MESSAGE", primitive.UnknowState: "UNKNOW",
}
