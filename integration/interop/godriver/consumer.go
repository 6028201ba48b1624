package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

type pushHandle struct {
	consumer rocketmq.PushConsumer
	replies  rocketmq.Producer
	whole    bool // long bodies are told in full

	mu      sync.Mutex // the rest belongs to a consumer that only counts
	next    map[string]int64
	count   int
	again   int
	wrong   []string
	counted bool
}

// instance is the name by which clients of this process share connections and
// heartbeats: each has its own unless the command says otherwise.
func instance(c command) string {
	name := c.text("instance")
	if name == "" {
		name = c.text("h")
	}
	return name + "@" + c.text("ns")
}

func consuming(c command) []consumer.Option {
	options := []consumer.Option{
		consumer.WithNameServer([]string{c.text("ns")}), consumer.WithGroupName(c.text("group")), consumer.WithInstance(instance(c)),
		consumer.WithConsumeMessageBatchMaxSize(int(c.number("batch", 1))),
	}
	switch c.text("from") {
	case "", "first":
		options = append(options, consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	case "last":
		options = append(options, consumer.WithConsumeFromWhere(consumer.ConsumeFromLastOffset))
	default:
		options = append(options, consumer.WithConsumeFromWhere(consumer.ConsumeFromTimestamp), consumer.WithConsumeTimestamp(c.text("stamp")))
	}
	if c.has("namespace") {
		options = append(options, consumer.WithNamespace(c.text("namespace")))
	}
	if c.has("ak") {
		options = append(options, consumer.WithCredentials(primitive.Credentials{AccessKey: c.text("ak"), SecretKey: c.text("sk")}))
	}
	if c.has("trace") {
		options = append(options, consumer.WithTrace(tracing(c)))
	}
	if c.has("broadcast") {
		options = append(options, consumer.WithConsumerModel(consumer.BroadCasting))
	}
	if c.has("max") {
		options = append(options, consumer.WithMaxReconsumeTimes(int32(c.number("max", -1))))
	}
	if c.has("orderly") {
		options = append(options, consumer.WithConsumerOrder(true))
	}
	return options
}

func selector(c command) consumer.MessageSelector {
	if c.has("sql") {
		return consumer.MessageSelector{Type: consumer.SQL92, Expression: c.text("sql")}
	}
	if c.has("tags") {
		return consumer.MessageSelector{Type: consumer.TAG, Expression: c.text("tags")}
	}
	return consumer.MessageSelector{}
}

func (d *drivers) openPush(c command) error {
	p := &pushHandle{next: map[string]int64{}, counted: c.has("tally"), whole: c.has("whole")}
	var err error
	if p.consumer, err = rocketmq.NewPushConsumer(consuming(c)...); err != nil {
		return err
	}
	if c.has("reply") {
		p.replies, err = rocketmq.NewProducer(producer.WithNameServer([]string{c.text("ns")}), producer.WithGroupName(c.text("group")+"-replies"),
			producer.WithInstanceName(c.text("h")+"-replies@"+c.text("ns")))
		if err == nil {
			err = p.replies.Start()
		}
		if err != nil {
			return err
		}
	}
	handle, orderly := c.text("h"), c.has("orderly")
	err = p.consumer.Subscribe(c.text("topic"), selector(c), func(ctx context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		if p.counted {
			p.note(ms)
			return consumer.ConsumeSuccess, nil
		}
		return p.consume(ctx, handle, orderly, ms)
	})
	if err != nil {
		return err
	}
	if err := p.consumer.Start(); err != nil {
		return err
	}
	d.pushes.put(handle, p)
	return nil
}

// action is what the message wants done with its present attempt: the item of
// its property act.
func action(m *primitive.MessageExt) string {
	items := strings.Split(m.GetProperty("act"), ",")
	if int(m.ReconsumeTimes) < len(items) && items[m.ReconsumeTimes] != "" {
		return items[m.ReconsumeTimes]
	}
	return "ok"
}

func (p *pushHandle) consume(ctx context.Context, handle string, orderly bool, ms []*primitive.MessageExt) (consumer.ConsumeResult, error) {
	result, failure := consumer.ConsumeSuccess, error(nil)
	for _, m := range ms {
		did := action(m)
		f := seen(m)
		f["did"], f["batch"] = did, len(ms)
		if p.whole {
			f["body"] = bodyUpTo(m.Body, 100_000)
		}
		event("got", handle, f)
		switch level, named := strings.CutPrefix(did, "later:"); {
		case named:
			if x, ok := primitive.GetConcurrentlyCtx(ctx); ok {
				x.DelayLevelWhenNextConsume, _ = strconv.Atoi(level)
			}
			result = consumer.ConsumeRetryLater
		case did == "later", did == "null":
			result = consumer.ConsumeRetryLater
		case did == "throw":
			result, failure = consumer.ConsumeRetryLater, errors.New("the listener failed")
		case did == "suspend" && orderly:
			result = consumer.SuspendCurrentQueueAMoment
		}
		if p.replies != nil {
			if err := p.reply(ctx, m); err != nil {
				return consumer.ConsumeRetryLater, err
			}
		}
	}
	return result, failure
}

func (p *pushHandle) reply(ctx context.Context, m *primitive.MessageExt) error {
	r, err := consumer.CreateReplyMessage(m, nil)
	if err != nil {
		return err
	}
	r.Body = append([]byte("re:"), m.Body...)
	_, err = p.replies.SendSync(ctx, r)
	return err
}

// note counts messages of the form key:number and checks their order.
func (p *pushHandle) note(ms []*primitive.MessageExt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range ms {
		key, number, _ := strings.Cut(string(m.Body), ":")
		n, err := strconv.ParseInt(number, 10, 64)
		switch want := p.next[key]; {
		case err != nil || n > want:
			p.wrong = append(p.wrong, fmt.Sprintf("%s came when %s:%d was due", m.Body, key, want))
		case n < want:
			p.again++
			continue
		}
		p.next[key] = n + 1
		p.count++
	}
}

func (d *drivers) tally(c command) (fields, error) {
	p, err := d.pushes.get(c.text("h"))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fields{"count": p.count, "again": p.again, "wrong": append([]string{}, p.wrong[:min(len(p.wrong), 10)]...)}, nil
}

func (d *drivers) suspend(c command) error {
	p, err := d.pushes.get(c.text("h"))
	if err != nil {
		return err
	}
	if c.verb == "suspend" {
		p.consumer.Suspend()
	} else {
		p.consumer.Resume()
	}
	return nil
}

type pullHandle struct{ consumer rocketmq.PullConsumer }

func (d *drivers) openPull(c command) error {
	p, err := rocketmq.NewPullConsumer(consuming(c)...)
	if err != nil {
		return err
	}
	if err := p.Subscribe(c.text("topic"), selector(c)); err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	d.pulls.put(c.text("h"), &pullHandle{p})
	return nil
}

// poll takes what the client has pulled and acknowledges it.
func (d *drivers) poll(c command) (fields, error) {
	p, err := d.pulls.get(c.text("h"))
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	r, err := p.consumer.Poll(ctx, time.Duration(c.number("wait", 1000))*time.Millisecond)
	if consumer.IsNoNewMsgError(err) {
		return fields{"messages": []fields{}}, nil
	}
	if err != nil {
		return nil, err
	}
	var all []fields
	for _, m := range r.GetMsgList() {
		all = append(all, seen(m))
	}
	p.consumer.ACK(ctx, r, consumer.ConsumeSuccess)
	return fields{"messages": all}, nil
}

var pullStatuses = map[primitive.PullStatus]string{
	primitive.PullFound: "FOUND", primitive.PullNoNewMsg: "NO_NEW_MSG", primitive.PullNoMsgMatched: "NO_MATCHED_MSG",
	primitive.PullOffsetIllegal: "OFFSET_ILLEGAL", primitive.PullBrokerTimeout: "BROKER_TIMEOUT",
}

func (d *drivers) pull(c command) (fields, error) {
	p, err := d.pulls.get(c.text("h"))
	if err != nil {
		return nil, err
	}
	q := &primitive.MessageQueue{Topic: c.text("topic"), BrokerName: c.text("broker"), QueueId: int(c.number("queue", 0))}
	r, err := p.consumer.PullFrom(context.Background(), q, c.number("offset", 0), int(c.number("count", 32)))
	if err != nil {
		return nil, err
	}
	all := []fields{}
	for _, m := range r.GetMessageExts() {
		all = append(all, seen(m))
	}
	return fields{"status": pullStatuses[r.Status], "next": r.NextBeginOffset, "min": r.MinOffset, "max": r.MaxOffset, "messages": all}, nil
}

// topic makes, lists or removes a topic with the client's own admin.
func (d *drivers) topic(c command) (fields, error) {
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver([]string{c.text("ns")})))
	if err != nil {
		return nil, err
	}
	defer a.Close()
	ctx := context.Background()
	switch c.text("do") {
	case "create":
		return nil, a.CreateTopic(ctx, admin.WithTopicCreate(c.text("topic")), admin.WithBrokerAddrCreate(c.text("broker")),
			admin.WithReadQueueNums(int(c.number("queues", 4))), admin.WithWriteQueueNums(int(c.number("queues", 4))))
	case "delete":
		return nil, a.DeleteTopic(ctx, admin.WithTopicDelete(c.text("topic")), admin.WithBrokerAddrDelete(c.text("broker")), admin.WithNameSrvAddr([]string{c.text("ns")}))
	case "list":
		l, err := a.FetchAllTopicList(ctx)
		if err != nil {
			return nil, err
		}
		return fields{"topics": l.TopicList}, nil
	case "queues":
		q, err := a.FetchPublishMessageQueues(ctx, c.text("topic"))
		return fields{"queues": len(q)}, err
	case "groups":
		g, err := a.GetAllSubscriptionGroup(ctx, c.text("broker"), 5*time.Second)
		if err != nil {
			return nil, err
		}
		return fields{"groups": len(g.SubscriptionGroupTable)}, nil
	}
	return nil, fmt.Errorf("topic: unknown action %s", c.text("do"))
}
