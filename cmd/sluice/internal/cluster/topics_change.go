package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// TopicChange is what is to be set of a topic. Its zero fields leave what is
// there, or take what a new topic has.
type TopicChange struct {
	// Queues is the number of queues to read and to write of each broker.
	Queues int
	// Perm is set if it is not nil, Order likewise.
	Perm  *Perm
	Order *bool
	// Type is the kind of messages that RocketMQ 5 is to allow, such as FIFO.
	Type string
}

// newTopicQueues is how many queues a topic gets of each broker, as in RocketMQ
// when a client creates it.
const newTopicQueues = 4

// apply answers cfg with the change.
func (x TopicChange) apply(cfg remoting.TopicConfig) remoting.CreateTopic {
	req := remoting.CreateTopic{
		Topic: cfg.Name, DefaultTopic: message.AutoCreateTopic, ReadQueues: cfg.ReadQueues, WriteQueues: cfg.WriteQueues,
		Perm: cfg.Perm, FilterType: cmp.Or(cfg.FilterType, remoting.FilterSingleTag), SysFlag: cfg.SysFlag, Order: cfg.Order,
	}
	if x.Queues > 0 {
		req.ReadQueues, req.WriteQueues = int32(x.Queues), int32(x.Queues)
	}
	if x.Perm != nil {
		req.Perm = int32(*x.Perm)
	}
	if x.Order != nil {
		req.Order = *x.Order
	}
	if x.Type != "" {
		req.Attributes = "+message.type=" + x.Type
	}
	return req
}

// CreateTopic makes a topic on the given brokers, and waits no longer than the
// time limit of a request until the name server knows it.
func (c *Cluster) CreateTopic(ctx context.Context, name string, brokers []Broker, x TopicChange) error {
	fresh := remoting.TopicConfig{
		Name: name, ReadQueues: newTopicQueues, WriteQueues: newTopicQueues, Perm: remoting.PermRead | remoting.PermWrite,
	}
	_, err := each(ctx, brokers, func(ctx context.Context, b Broker) (struct{}, error) {
		return struct{}{}, c.putTopic(ctx, "create topic "+name, b, x.apply(fresh))
	})
	if err != nil {
		return err
	}
	return c.awaitTopic(ctx, name)
}

// UpdateTopic changes a topic on the brokers that have it. It is a
// [*RefusedError], too, if a broker keeps the number of queues that it has
// chosen for the redeliveries of a group.
func (c *Cluster) UpdateTopic(ctx context.Context, name string, x TopicChange) error {
	shares, err := c.Route(ctx, name)
	if err != nil {
		return err
	}
	_, err = each(ctx, shares, func(ctx context.Context, s Share) (struct{}, error) {
		cfg, err := c.topicConfig(ctx, name, s)
		if err != nil {
			return struct{}{}, err
		}
		op := "update topic " + name
		if err := c.putTopic(ctx, op, s.Broker, x.apply(cfg)); err != nil || x.Queues == 0 || !strings.HasPrefix(name, RetryPrefix) {
			return struct{}{}, err
		}
		if cfg, err = c.topicConfig(ctx, name, s); err == nil && int(cfg.ReadQueues) != x.Queues {
			err = &RefusedError{Op: op, Addr: s.Addr, Remark: fmt.Sprintf("the broker chooses how many queues it has, and keeps %d", cfg.ReadQueues)}
		}
		return struct{}{}, err
	})
	return err
}

func (c *Cluster) putTopic(ctx context.Context, op string, b Broker, req remoting.CreateTopic) error {
	_, err := c.ask(ctx, b.Addr, request{op: op, code: remoting.ReqCreateTopic, changes: true}.with(req))
	return err
}

// topicConfig reads the configuration of a topic, so that a change leaves the
// rest of it alone.
func (c *Cluster) topicConfig(ctx context.Context, name string, s Share) (remoting.TopicConfig, error) {
	r := request{op: "read the configuration of topic " + name, code: remoting.ReqGetAllTopicConfig}
	resp, err := c.ask(ctx, s.Addr, r)
	if err != nil {
		return remoting.TopicConfig{}, err
	}
	table, err := decode(r, s.Addr, resp, remoting.DecodeTopicConfigTable)
	if err != nil {
		return remoting.TopicConfig{}, err
	}
	i := slices.IndexFunc(table.Topics, func(t remoting.TopicConfig) bool { return t.Name == name })
	if i < 0 {
		return remoting.TopicConfig{}, &NotFoundError{What: fmt.Sprintf("topic %s on broker %s", name, s.Name)}
	}
	return table.Topics[i], nil
}

// routePoll is the pause between two looks for a new topic; a broker of
// RocketMQ tells its name servers within milliseconds.
const routePoll = 50 * time.Millisecond

// awaitTopic waits until the name server knows a topic.
func (c *Cluster) awaitTopic(ctx context.Context, name string) error {
	limited, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errTimeout)
	defer cancel()
	t := time.NewTicker(routePoll)
	defer t.Stop()
	for {
		_, err := c.Route(limited, name)
		if !notFound(err) {
			return err
		}
		select {
		case <-t.C:
		case <-limited.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("topic %s was created, but the name server has not heard of it within %v", name, c.cfg.Timeout)
		}
	}
}

// DeleteTopic deletes a topic on every broker, then at every name server.
func (c *Cluster) DeleteTopic(ctx context.Context, name string) error {
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return err
	}
	fields := remoting.Fields{{Name: "topic", Value: name}}
	_, err = each(ctx, brokers, func(ctx context.Context, b Broker) (struct{}, error) {
		_, err := c.ask(ctx, b.Addr, request{
			op: "delete topic " + name, code: remoting.ReqDeleteTopicInBroker, fields: slices.Clone(fields), also: []int{remoting.ResTopicNotExist}, changes: true,
		})
		return struct{}{}, err
	})
	if err != nil {
		return err // the name server must not forget what a broker still has
	}
	_, err = each(ctx, c.cfg.NameServers, func(ctx context.Context, addr string) (struct{}, error) {
		_, err := c.ask(ctx, addr, request{
			op: "forget topic " + name, code: remoting.ReqDeleteTopicInNameServer, fields: slices.Clone(fields), also: []int{remoting.ResTopicNotExist}, changes: true,
		})
		return struct{}{}, err
	})
	return err
}

// notFound reports whether something is not there.
func notFound(err error) bool {
	_, ok := errors.AsType[*NotFoundError](err)
	return ok
}
