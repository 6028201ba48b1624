package rocketmq

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// subscriptionData is a subscription as heartbeats carry it.
func subscriptionData(s driver.SubscribeSpec, version int64) remoting.SubscriptionData {
	d := remoting.SubscriptionData{Topic: s.Topic, SubVersion: version}
	d.SubString, d.ExpressionType = expression(s.Filter)
	for _, tag := range s.Filter.Tags {
		d.Tags = append(d.Tags, tag)
		d.Codes = append(d.Codes, message.TagCode(tag))
	}
	return d
}

// agree refuses a subscription that differs from that of living members, as far
// as brokers tell: one that is away keeps nobody from joining. Brokers keep the
// subscriptions of the last heartbeat for the whole group, so two members that
// join at the same moment with different ones are not noticed before the next one
// joins.
func (c *conn) agree(ctx context.Context, op string, s driver.SubscribeSpec) *driver.Error {
	addrs := c.routes.addresses([]string{s.Topic, driver.RetryTopic(s.Group)}, false)
	lists := make([]remoting.ConnectionList, len(addrs))
	asking, cancel := context.WithTimeoutCause(ctx, portion(ctx, c.cfg.Timeout, 2), errAttempt)
	defer cancel()
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() {
			list, err := c.members(asking, op, addr, s.Group)
			if err != nil {
				c.log.Debug("a broker does not tell who is in a group", slog.String("group", s.Group), slog.Any("error", err))
				return
			}
			lists[i] = list
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return driver.FromContext(ctx, op, false)
	}
	for _, list := range lists {
		if other, differs := differing(list, s); differs {
			return driver.Errorf(driver.FailedPrecondition, op,
				"living members of the group have the subscription %s, this one is %s; all members need the same one, use another group for another one",
				describe(other), describe(s))
		}
		if mixesOrder(list, s) {
			return mixed(op, "living members of the group have another topic", s)
		}
	}
	return nil
}

// members answers who is in a group at one broker; an empty list if nobody is.
func (c *conn) members(ctx context.Context, op, addr, group string) (remoting.ConnectionList, *driver.Error) {
	a, err := c.call(ctx, op, addr, &remoting.Command{
		Code: remoting.ReqGetConsumerConnections, Fields: remoting.Fields{{Name: "consumerGroup", Value: group}},
	}, false, remoting.ResConsumerNotOnline)
	if err != nil || a.Code == remoting.ResConsumerNotOnline {
		return remoting.ConnectionList{}, err
	}
	list, decodeErr := remoting.DecodeConnectionList(a.Body)
	if decodeErr != nil {
		return list, driver.Errorf(driver.Internal, op, "%w", decodeErr)
	}
	return list, nil
}

// differing answers the subscription of living members to the topic of s, if it
// is another one.
func differing(list remoting.ConnectionList, s driver.SubscribeSpec) (driver.SubscribeSpec, bool) {
	mine := false
	other := driver.SubscribeSpec{Group: s.Group, Topic: s.Topic, Broadcast: list.MessageModel == remoting.Broadcasting}
	for _, m := range list.Connections {
		_, marks := parseMember(m.ClientID)
		plain, ordered := slices.Contains(marks, topicMark(s.Topic, false)), slices.Contains(marks, topicMark(s.Topic, true))
		if marks == nil || plain || ordered {
			mine = true
			other.Ordered = other.Ordered || ordered || marks == nil && s.Ordered // Apache's clients do not say
		}
	}
	if !mine {
		return other, false
	}
	i := slices.IndexFunc(list.Subscriptions, func(d remoting.SubscriptionData) bool { return d.Topic == s.Topic })
	if i >= 0 {
		other.Filter = filterOf(list.Subscriptions[i])
		return other, other.Filter.String() != s.Filter.String() || other.Ordered != s.Ordered || other.Broadcast != s.Broadcast
	}
	other.Filter = s.Filter // the last heartbeat was that of a member with other topics
	return other, other.Ordered != s.Ordered || other.Broadcast != s.Broadcast
}

// mixesOrder reports whether living members have other topics in order and s is
// not ordered, or the other way round. Apache's clients do not say.
func mixesOrder(list remoting.ConnectionList, s driver.SubscribeSpec) bool {
	if s.Broadcast || list.MessageModel == remoting.Broadcasting {
		return false
	}
	for _, m := range list.Connections {
		_, marks := parseMember(m.ClientID)
		if slices.ContainsFunc(marks, func(mark string) bool { return mark != "" && strings.HasSuffix(mark, orderMark) != s.Ordered }) {
			return true
		}
	}
	return false
}

// filterOf reads a filter as brokers keep it.
func filterOf(d remoting.SubscriptionData) driver.Filter {
	if d.ExpressionType == remoting.ExpressionSQL92 {
		return driver.Filter{SQL: d.SubString}
	}
	f, err := driver.ParseTags(d.SubString)
	if err != nil {
		return driver.Filter{Tags: []string{d.SubString}}
	}
	return f
}

// checkFilter lets a broker check an SQL expression, the first that answers. While
// there is none, or no topic yet, the pulls will tell.
func (c *conn) checkFilter(ctx context.Context, op string, s driver.SubscribeSpec) *driver.Error {
	body := remoting.CheckClient{ClientID: c.id, Group: s.Group, Subscription: subscriptionData(s, 1)}.AppendTo(nil)
	req := &remoting.Command{Code: remoting.ReqCheckClientConfig, Body: body}
	var err *driver.Error
	addrs := c.routes.addresses([]string{s.Topic}, false)
	for i, addr := range addrs {
		asking, cancel := context.WithTimeoutCause(ctx, portion(ctx, c.cfg.Timeout, len(addrs)-i+1), errAttempt)
		_, err = c.call(asking, op, addr, req, false)
		cancel()
		if err == nil || isRefusal(err) {
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return driver.FromContext(ctx, op, false)
	case err == nil || !isRefusal(err):
		return nil
	}
	if e, ok := errors.AsType[*RefusedError](err); ok && e.Code == remoting.ResSystemError {
		// The broker's answer while its filter by properties is off.
		err.Code, err.Retryable = driver.Unsupported, false
	}
	return err
}
