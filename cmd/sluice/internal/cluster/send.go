package cluster

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// senderGroup is the producer group of what operators send.
const senderGroup = "sluice-cli"

// Outgoing is a message to be sent.
type Outgoing struct {
	Body []byte
	// Flag is the application's; SysFlag says whether Body is compressed.
	Flag, SysFlag int32
	// Props are its properties. A unique id is added if there is none.
	Props map[string]string
}

// Statuses of what was sent. All of them are stored.
const (
	Stored             = "stored"              // Stored: as durable as the broker promises.
	StoredUnflushed    = "stored_unflushed"    // StoredUnflushed: not known to be on disk.
	StoredUnreplicated = "stored_unreplicated" // StoredUnreplicated: not known to be on a replica.
	StoredNoReplica    = "stored_no_replica"   // StoredNoReplica: there is no replica, or none that keeps up.
)

// Sent is where a message went.
type Sent struct {
	ID       string `json:"id"`
	OffsetID string `json:"offset_id"`
	Topic    string `json:"topic"`
	Broker   string `json:"broker"`
	Queue    int    `json:"queue"`
	Offset   int64  `json:"offset"`
	Status   string `json:"status"`
	// Delayed: it is not in the topic yet, and Queue and Offset say where it
	// waits, which differs between brokers.
	Delayed bool `json:"delayed,omitempty"`
}

// Sender sends messages to one topic, to its queues in turn. It belongs to one
// goroutine.
type Sender struct {
	c      *Cluster
	topic  string
	queues []queueOf
	next   int
	ids    *message.UniqueIDs
}

// Sender makes a sender to the queues of a topic that x selects. It is a
// [*NotFoundError] if there is no such topic: none is created by accident, and a
// [*NoQueueError] if none of its queues is one that takes messages.
func (c *Cluster) Sender(ctx context.Context, topic string, x Selection) (*Sender, error) {
	shares, err := c.Route(ctx, topic)
	if err != nil {
		return nil, err
	}
	s := &Sender{c: c, topic: topic, ids: message.NewUniqueIDs()}
	for _, share := range shares {
		if !share.Perm.Has(remoting.PermWrite) {
			continue
		}
		for q := range share.Write {
			if x.has(share.Name, q) {
				s.queues = append(s.queues, queueOf{share, q})
			}
		}
	}
	if len(s.queues) == 0 {
		return nil, noQueue(topic, x, shares, true)
	}
	s.next = rand.IntN(len(s.queues)) // so that single messages spread
	return s, nil
}

// Send sends one message, once.
func (s *Sender) Send(ctx context.Context, m Outgoing) (Sent, error) {
	q := s.queues[s.next%len(s.queues)]
	s.next++
	now := time.Now()
	id := m.Props[message.UniqKey]
	props := message.AppendProperties(nil, m.Props)
	if id == "" {
		id = string(s.ids.AppendNext(nil, now))
		props = message.AppendProperty(props, message.UniqKey, id)
	}
	r := request{
		op: "send to topic " + s.topic, code: remoting.ReqSendMessageV2, body: m.Body, changes: true,
		also: []int{remoting.ResFlushDiskTimeout, remoting.ResFlushSlaveTimeout, remoting.ResSlaveNotAvailable},
	}
	x := remoting.SendMessage{
		ProducerGroup: senderGroup, Topic: s.topic, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: newTopicQueues,
		QueueID: int32(q.queue), SysFlag: m.SysFlag, BornTimestamp: now.UnixMilli(), Flag: m.Flag, Properties: string(props),
		MaxReconsumeTimes: -1, BrokerName: q.Name,
	}
	x.AppendTo(r.code, &r.fields)
	resp, err := s.c.ask(ctx, q.Addr, r)
	if err != nil {
		return Sent{}, err
	}
	result, err := remoting.DecodeSendResult(resp.Fields)
	if err != nil {
		return Sent{}, &MalformedError{Op: r.op, Addr: q.Addr, Err: err}
	}
	sent := Sent{ID: id, OffsetID: result.MsgID, Topic: s.topic, Broker: q.Name, Queue: int(result.QueueID), Offset: result.QueueOffset, Status: Stored}
	for _, name := range []string{message.Delay, message.TimerDelayMs, message.TimerDelaySec} {
		sent.Delayed = sent.Delayed || m.Props[name] != ""
	}
	if ms, err := strconv.ParseInt(m.Props[message.TimerDeliverMs], 10, 64); err == nil && ms > now.UnixMilli() {
		sent.Delayed = true // one that is due goes to its topic at once
	}
	switch resp.Code {
	case remoting.ResFlushDiskTimeout:
		sent.Status = StoredUnflushed
	case remoting.ResFlushSlaveTimeout:
		sent.Status = StoredUnreplicated
	case remoting.ResSlaveNotAvailable:
		sent.Status = StoredNoReplica
	}
	return sent, nil
}
