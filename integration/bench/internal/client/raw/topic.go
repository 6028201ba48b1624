package raw

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// Queues is how many queues every topic has.
	Queues = 8
	// routeLimit is how long a broker may take to tell its name server of a
	// topic: it does so within ten seconds, and after a pause within thirty.
	routeLimit = time.Minute
	// indexLimit is how long a stored message may take to get its place in
	// the queue: RocketMQ asks for a transaction whose decision it has lost
	// when it is six seconds old, and looks every thirty.
	indexLimit = time.Minute
)

// MakeTopic makes a topic of [Queues] queues at a broker.
func MakeTopic(broker, topic string) error {
	const readAndWrite = 6
	var fields remoting.Fields
	remoting.CreateTopic{
		Topic: topic, DefaultTopic: message.AutoCreateTopic, ReadQueues: Queues, WriteQueues: Queues, Perm: readAndWrite, FilterType: "SINGLE_TAG",
	}.AppendTo(&fields)
	if _, err := once(broker, remoting.ReqCreateTopic, fields, nil); err != nil {
		return fmt.Errorf("make topic %s: %w", topic, err)
	}
	return nil
}

// AwaitRoute waits until a name server tells that the topic is at the broker.
func AwaitRoute(nameServer, topic, broker string) error {
	for end := time.Now().Add(routeLimit); ; time.Sleep(5 * time.Millisecond) {
		a, err := once(nameServer, remoting.ReqGetRoute, remoting.Fields{{Name: "topic", Value: topic}}, nil)
		if err == nil && bytes.Contains(a.Body, []byte(broker)) {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("there is no route of topic %s to %s", topic, broker), err)
		}
	}
}

// greet connects and asks a question at once, as clients do: a server may drop
// connections of which many say nothing.
func greet(broker, topic string) (*conn, error) {
	c, err := dial(broker)
	if err != nil {
		return nil, err
	}
	if _, err := c.end(topic, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("first request of a connection: %w", err), c.Close())
	}
	return c, nil
}

// end is the offset behind the last message of a queue.
func (c *conn) end(topic string, queue int32) (int64, error) {
	var fields remoting.Fields
	remoting.QueueOffset{Topic: topic, QueueID: queue, Committed: true}.AppendTo(&fields)
	r, err := newRequest(remoting.ReqGetMaxOffset, fields, nil)
	if err != nil {
		return 0, err
	}
	a, err := c.call(r)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(a.Fields.Get("offset"), 10, 64)
}

// Stored is how many messages have a place in the queues of a topic.
func Stored(broker, topic string) (int64, error) {
	c, err := dial(broker)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	sum := int64(0)
	for q := range Queues {
		n, err := c.end(topic, int32(q))
		if err != nil {
			return 0, fmt.Errorf("read end of %s/%d: %w", topic, q, err)
		}
		sum += n
	}
	return sum, nil
}

// AwaitStored fails unless the topic has at least so many messages.
func AwaitStored(broker, topic string, messages int64) error {
	for end := time.Now().Add(indexLimit); ; time.Sleep(5 * time.Millisecond) {
		n, err := Stored(broker, topic)
		if err != nil || n >= messages {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("topic %s has %d messages, %d were acknowledged", topic, n, messages)
		}
	}
}
