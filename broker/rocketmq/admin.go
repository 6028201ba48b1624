package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// mostQueuesAsked is how many queues CreateTopic makes at most.
	mostQueuesAsked = 1024
	// parallelAsks is how many questions go out at a time where there is one
	// for each topic or group.
	parallelAsks = 16
	// routePoll is the pause before a name server is asked again for a topic
	// that was just made.
	routePoll = 20 * time.Millisecond
)

// masters answers the addresses of all masters of the cluster, sorted by the
// names of their brokers, and learns the addresses of all brokers.
func (c *conn) masters(ctx context.Context) ([]string, *driver.Error) {
	const op = "list the brokers"
	a, addr, err := c.names.ask(ctx, &remoting.Command{Code: remoting.ReqGetClusterInfo})
	if err != nil {
		return nil, unanswered(ctx, op, err, false)
	}
	if a.Code != remoting.ResSuccess {
		return nil, refused(op, addr, a)
	}
	info, err := remoting.DecodeClusterInfo(a.Body)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, op, "%w", err)
	}
	slices.SortFunc(info.Brokers, func(x, y remoting.BrokerData) int { return strings.Compare(x.Name, y.Name) })
	c.routes.learnCluster(info.Brokers)
	var out []string
	for _, b := range info.Brokers {
		if addr, ok := c.routes.master(b.Name); ok {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		e := driver.Errorf(driver.Unavailable, op, "no broker has a master now")
		e.Retryable = true
		return nil, e
	}
	return out, nil
}

// topicAdmin manages topics.
type topicAdmin struct{ c *conn }

// CreateTopic makes a topic; see [driver.TopicAdmin]. Its queues are dealt out
// over the masters in the order of their names, so that a topic of one queue
// has one order on every cluster.
func (t topicAdmin) CreateTopic(ctx context.Context, info driver.TopicInfo) error {
	op := "create topic " + info.Name
	if err := t.c.use(ctx, op); err != nil {
		return err
	}
	if err := driver.ValidTopic(info.Name); err != nil {
		return invalid(op, err)
	}
	if info.Queues < 1 || info.Queues > mostQueuesAsked {
		return driver.Errorf(driver.InvalidArgument, op, "%d queues; it takes 1 to %d", info.Queues, mostQueuesAsked)
	}
	known, err := t.c.routes.renew(ctx, info.Name, 0)
	switch {
	case err == nil && len(known.read) == info.Queues:
		return driver.Errorf(driver.AlreadyExists, op, "there is one with %d queues", info.Queues)
	case err == nil && len(known.read) > info.Queues:
		return driver.Errorf(driver.FailedPrecondition, op, "there is one with %d queues; queues are not taken away, what is in them would be", len(known.read))
	case err != nil && err.Code != driver.NotFound:
		return asDriver(err, op)
	}
	masters, err := t.c.masters(ctx)
	if err != nil {
		return asDriver(err, op)
	}
	for i, addr := range masters {
		n := info.Queues / len(masters)
		if i < info.Queues%len(masters) {
			n++
		}
		if n == 0 {
			break
		}
		req := &remoting.Command{Code: remoting.ReqCreateTopic}
		remoting.CreateTopic{
			Topic: info.Name, DefaultTopic: message.AutoCreateTopic, ReadQueues: int32(n), WriteQueues: int32(n),
			Perm: remoting.PermRead | remoting.PermWrite, FilterType: remoting.FilterSingleTag,
		}.AppendTo(&req.Fields)
		if _, err := t.c.call(ctx, op, addr, req, true); err != nil {
			return err
		}
	}
	return t.c.awaitRoute(ctx, op, info.Name, func(r *route, err *driver.Error) bool { return err == nil && len(r.read) == info.Queues })
}

// awaitRoute asks for a route until done says so. Brokers tell name servers of
// a topic at once, but not before they have answered.
func (c *conn) awaitRoute(ctx context.Context, op, topic string, done func(*route, *driver.Error) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*c.cfg.Timeout, errAttempt)
	defer cancel()
	for {
		r, err := c.routes.renew(ctx, topic, 0)
		if done(r, err) {
			return nil
		}
		sleep(ctx, routePoll)
		if ctx.Err() != nil {
			return driver.FromContext(ctx, op, true)
		}
	}
}

// DeleteTopic removes a topic from every broker and name server; see
// [driver.TopicAdmin].
func (t topicAdmin) DeleteTopic(ctx context.Context, name string) error {
	op := "delete topic " + name
	if err := t.c.use(ctx, op); err != nil {
		return err
	}
	if err := driver.ValidTopic(name); err != nil {
		return invalid(op, err)
	}
	r, err := t.c.routes.renew(ctx, name, 0)
	if err != nil {
		return asDriver(err, op)
	}
	fields := remoting.Fields{{Name: "topic", Value: name}}
	for _, b := range r.raw.Brokers {
		for _, a := range b.Addrs {
			if _, err := t.c.call(ctx, op, a.Addr, &remoting.Command{Code: remoting.ReqDeleteTopicInBroker, Fields: fields}, true); err != nil {
				return err
			}
		}
	}
	for _, addr := range t.c.cfg.NameServers {
		if _, err := t.c.call(ctx, op, addr, &remoting.Command{Code: remoting.ReqDeleteTopicInNameServer, Fields: fields}, true); err != nil {
			return err
		}
	}
	defer t.c.routes.forget(name)
	return t.c.awaitRoute(ctx, op, name, func(_ *route, err *driver.Error) bool { return err != nil && err.Code == driver.NotFound })
}

// Topics lists the topics; see [driver.TopicAdmin]. Those that the brokers keep
// for themselves are left out.
func (t topicAdmin) Topics(ctx context.Context) ([]driver.TopicInfo, error) {
	const op = "list topics"
	if err := t.c.use(ctx, op); err != nil {
		return nil, err
	}
	all, err := t.c.topicNames(ctx, op, remoting.ReqGetAllTopicList)
	if err != nil {
		return nil, err
	}
	system, err := t.c.topicNames(ctx, op, remoting.ReqGetSystemTopicListFromNameServer)
	if err != nil && err.Code != driver.Unsupported {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(name string) bool { return slices.Contains(system, name) || systemTopic(name) })
	slices.Sort(all)
	infos := make([]driver.TopicInfo, len(all))
	errs := make([]*driver.Error, len(all))
	each(len(all), func(i int) {
		r, err := t.c.routes.renew(ctx, all[i], 0)
		if err != nil {
			errs[i] = err
			return
		}
		infos[i] = driver.TopicInfo{Name: all[i], Queues: len(r.read)}
	})
	out := infos[:0]
	for i, info := range infos {
		switch {
		case errs[i] == nil:
			out = append(out, info)
		case errs[i].Code != driver.NotFound: // else it was deleted meanwhile
			return nil, asDriver(errs[i], op)
		}
	}
	return out, nil
}

// each runs f for 0 to n-1, some at a time.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	tokens := make(chan struct{}, parallelAsks)
	for i := range n {
		tokens <- struct{}{}
		wg.Go(func() {
			f(i)
			<-tokens
		})
	}
	wg.Wait()
}

// topicNames asks a name server for a list of topics.
func (c *conn) topicNames(ctx context.Context, op string, code int) ([]string, *driver.Error) {
	a, addr, err := c.names.ask(ctx, &remoting.Command{Code: code})
	if err != nil {
		return nil, unanswered(ctx, op, err, false)
	}
	if a.Code != remoting.ResSuccess {
		return nil, refused(op, addr, a)
	}
	list, err := remoting.DecodeTopicList(a.Body)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, op, "%w", err)
	}
	return list.Topics, nil
}

// systemTopic reports whether a topic is one of the brokers' own.
func systemTopic(name string) bool {
	switch name {
	case message.AutoCreateTopic, message.ScheduleTopic, message.HalfTopic, message.OpHalfTopic, message.CheckMaxTimeTopic,
		message.TraceTopic, message.TimerTopic, "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", "BenchmarkTest":
		return true
	}
	return strings.HasPrefix(name, "rmq_sys_") || message.IsReplyTopic(name)
}

// groupAdmin looks after consumer groups.
type groupAdmin struct{ c *conn }

// Groups lists the groups; see [driver.GroupAdmin].
func (x groupAdmin) Groups(ctx context.Context) ([]driver.GroupInfo, error) {
	const op = "list groups"
	if err := x.c.use(ctx, op); err != nil {
		return nil, err
	}
	masters, err := x.c.masters(ctx)
	if err != nil {
		return nil, asDriver(err, op)
	}
	names := map[string]bool{}
	for _, addr := range masters {
		a, err := x.c.call(ctx, op, addr, &remoting.Command{Code: remoting.ReqGetAllGroupConfig}, false)
		if err != nil {
			return nil, err
		}
		table, decodeErr := remoting.DecodeGroupTable(a.Body)
		if decodeErr != nil {
			return nil, driver.Errorf(driver.Internal, op, "%w", decodeErr)
		}
		for _, g := range table.Groups {
			if !systemGroup(g.Name) {
				names[g.Name] = true
			}
		}
	}
	out := make([]driver.GroupInfo, 0, len(names))
	for name := range names {
		out = append(out, driver.GroupInfo{Name: name})
	}
	slices.SortFunc(out, func(a, b driver.GroupInfo) int { return strings.Compare(a.Name, b.Name) })
	errs := make([]*driver.Error, len(out))
	each(len(out), func(i int) { errs[i] = x.describe(ctx, op, masters, &out[i]) })
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// describe fills in who is in a group.
func (x groupAdmin) describe(ctx context.Context, op string, masters []string, info *driver.GroupInfo) *driver.Error {
	for _, addr := range masters {
		list, err := x.c.members(ctx, op, addr, info.Name)
		if err != nil {
			return err
		}
		for _, m := range list.Connections {
			id, _ := parseMember(m.ClientID)
			info.Members = append(info.Members, id)
		}
		for _, s := range list.Subscriptions {
			if s.Topic != driver.RetryTopic(info.Name) {
				info.Subscriptions = append(info.Subscriptions, s.Topic+" "+filterOf(s).String())
			}
		}
	}
	slices.Sort(info.Members)
	info.Members = slices.Compact(info.Members)
	slices.Sort(info.Subscriptions)
	info.Subscriptions = slices.Compact(info.Subscriptions)
	return nil
}

// systemGroup reports whether a group is one of RocketMQ's own.
func systemGroup(name string) bool {
	switch name {
	case message.ToolsGroup, "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "CLIENT_INNER_PRODUCER", "SELF_TEST_P_GROUP":
		return true
	}
	return strings.HasPrefix(name, "CID_ONSAPI") || strings.HasPrefix(name, "CID_ONS-HTTP") || strings.HasPrefix(name, "CID_RMQ_SYS_") ||
		strings.HasPrefix(name, "CID_SYS_RMQ_")
}

// Lag tells how far a group is; see [driver.GroupAdmin]. What is in flight is
// asked of the members and counts as nothing where they do not answer.
func (x groupAdmin) Lag(ctx context.Context, group string) ([]driver.LaneLag, error) {
	op := "lag of group " + group
	if err := x.c.use(ctx, op); err != nil {
		return nil, err
	}
	if err := driver.ValidGroup(group); err != nil {
		return nil, invalid(op, err)
	}
	masters, err := x.c.masters(ctx)
	if err != nil {
		return nil, asDriver(err, op)
	}
	flying := map[Queue]int{}
	var out []driver.LaneLag
	for _, addr := range masters {
		req := &remoting.Command{Code: remoting.ReqGetConsumeStats, Fields: remoting.Fields{{Name: "consumerGroup", Value: group}, {Name: "topic", Value: ""}}}
		a, err := x.c.call(ctx, op, addr, req, false)
		if err != nil {
			return nil, err
		}
		stats, decodeErr := remoting.DecodeConsumeStats(a.Body)
		if decodeErr != nil {
			return nil, driver.Errorf(driver.Internal, op, "%w", decodeErr)
		}
		x.inFlight(ctx, op, addr, group, flying)
		for _, q := range stats.Queues {
			queue := Queue{q.Topic, q.Broker, q.Queue}
			l := driver.LaneLag{
				Lane: driver.LaneInfo{Topic: q.Topic, Queue: q.Queue, Retry: queue.isRetry()}, Name: queue.String(),
				Committed: max(q.ConsumerOffset, 0), Max: q.BrokerOffset, InFlight: flying[queue],
			}
			if r, err := x.c.routes.get(ctx, q.Topic); err == nil {
				l.Lane.Queue = r.number(queue)
			}
			out = append(out, l)
		}
	}
	if len(out) == 0 {
		return nil, driver.Errorf(driver.NotFound, op, "the group has consumed nothing yet")
	}
	slices.SortFunc(out, func(a, b driver.LaneLag) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// inFlight asks the members of a group for what is with their handlers.
func (x groupAdmin) inFlight(ctx context.Context, op, addr, group string, out map[Queue]int) {
	list, err := x.c.members(ctx, op, addr, group)
	if err != nil {
		return
	}
	for _, m := range list.Connections {
		req := &remoting.Command{Code: remoting.ReqGetConsumerRunningInfo, Fields: remoting.Fields{
			{Name: "consumerGroup", Value: group}, {Name: "clientId", Value: m.ClientID}, {Name: "jstackEnable", Value: "false"},
		}}
		a, err := x.c.call(ctx, op, addr, req, false)
		if err != nil {
			continue
		}
		info, decodeErr := remoting.DecodeRunningInfo(a.Body)
		if decodeErr != nil {
			continue
		}
		for _, q := range info.Queues {
			n := int(q.TransactionCount)
			if _, marks := parseMember(m.ClientID); marks == nil {
				n = int(q.CachedCount) // Apache's clients count both as one
			}
			out[Queue{q.Topic, q.Broker, q.Queue}] = n
		}
	}
}

// ResetOffsets moves a group; see [driver.GroupAdmin]. Living members are told
// by their brokers.
func (x groupAdmin) ResetOffsets(ctx context.Context, group, topic string, p driver.Position) error {
	op := fmt.Sprintf("reset group %s on %s to %s", group, topic, p)
	if err := x.c.use(ctx, op); err != nil {
		return err
	}
	if err := errors.Join(driver.ValidGroup(group), driver.ValidTopic(topic)); err != nil {
		return invalid(op, err)
	}
	r, err := x.c.routes.renew(ctx, topic, refreshGap)
	if err != nil {
		return asDriver(err, op)
	}
	for _, q := range r.read {
		at, err := x.c.locate(ctx, op, q, p)
		if err != nil {
			return err
		}
		if err := x.resetQueue(ctx, op, group, q, at, p); err != nil {
			return err
		}
	}
	return nil
}

// resetQueue moves a group on one queue: by the broker, which tells the members,
// or without any by a new position.
func (x groupAdmin) resetQueue(ctx context.Context, op, group string, q Queue, at int64, p driver.Position) *driver.Error {
	addr, err := x.c.master(op, q.Broker)
	if err != nil {
		return err
	}
	reset := remoting.ResetOffset{Topic: q.Topic, Group: group, Timestamp: max(envelope.Millis(p.Time), 0), Force: true, QueueID: int32(q.ID), Offset: at}
	if p.Kind == driver.Latest {
		reset.Timestamp = -1
	}
	req := &remoting.Command{Code: remoting.ReqInvokeBrokerToResetOffset}
	reset.AppendTo(&req.Fields)
	a, err := x.c.call(ctx, op, addr, req, true, remoting.ResConsumerNotOnline, remoting.ResGroupNotExist, remoting.ResSystemError)
	if err != nil || a.Code == remoting.ResSuccess {
		return err
	}
	_, err = x.c.storePosition(ctx, op, group, q, at)
	return err
}
