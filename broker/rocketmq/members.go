package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// memberMark separates a client id from what the member subscribes to.
const memberMark = "~"

// orderMark is behind the mark of a topic that is consumed in order.
const orderMark = "o"

// memberID is the id by which the group knows this member: that of the client,
// and a hash of each topic that it subscribes to, so that members with other
// topics do not count on it for theirs. Brokers of RocketMQ keep one set of
// subscriptions for a whole group, that of the last heartbeat, which cannot
// tell.
func (g *group) memberID() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var marks []string
	for topic, s := range g.subs {
		if s.leaving() {
			continue
		}
		marks = append(marks, topicMark(topic, s.spec.Ordered))
	}
	slices.Sort(marks)
	return g.c.id + memberMark + strings.Join(marks, memberMark)
}

// topicMark is the mark of a topic.
func topicMark(topic string, ordered bool) string {
	mark := fmt.Sprintf("%08x", uint32(message.TagCode(topic)))
	if ordered {
		return mark + orderMark
	}
	return mark
}

// parseMember reads the id of a member. Marks are nil for a client that is not
// Sluice's, which is taken to subscribe to everything.
func parseMember(id string) (client string, marks []string) {
	client, rest, ok := strings.Cut(id, memberMark)
	if !ok {
		return id, nil
	}
	return client, strings.Split(rest, memberMark)
}

// members asks the brokers of the topic, all at once, who is in the group and
// subscribes to the topic. Who is known to one of them is a member: a broker that
// has just come back does not know those yet that have not heard of it. What
// comes soon after the first answer counts. An empty answer is an answer; no
// answer is an error.
func (g *group) members(ctx context.Context, topic, self string, r *route) ([]string, error) {
	type answer struct {
		ids []string
		err error
	}
	brokers := r.brokersOf()
	answers := make(chan answer, len(brokers))
	asked := 0
	for _, broker := range brokers {
		if addr, _, ok := g.c.routes.replica(broker, masterID); ok {
			asked++
			g.c.wg.Go(func() { // it ends with ctx
				ids, err := g.membersAt(ctx, addr)
				answers <- answer{ids, err}
			})
		}
	}
	errs := []error{fmt.Errorf("no broker of topic %s answers", topic)}
	var ids []string
	var over <-chan time.Time
collect:
	for range asked {
		select {
		case a := <-answers:
			if a.err != nil {
				errs = append(errs, a.err)
				continue
			}
			ids = append(ids, a.ids...)
			if over == nil {
				soon := time.NewTimer(opinion)
				defer soon.Stop()
				over = soon.C
			}
		case <-over:
			break collect
		}
	}
	if over == nil {
		return nil, errors.Join(errs...)
	}
	client, _ := parseMember(self)
	ids = slices.DeleteFunc(ids, func(id string) bool { // what this client was before it subscribed to more, or less
		c, _ := parseMember(id)
		return c == client && id != self
	})
	slices.Sort(ids)
	ids = slices.Compact(ids)
	g.notePeers(ids)
	return subscribers(ids, topic), nil
}

// membersAt asks one broker who is in the group.
func (g *group) membersAt(ctx context.Context, addr string) ([]string, error) {
	op := "list the members of group " + g.name
	req := &remoting.Command{Code: remoting.ReqGetConsumerListByGroup, Fields: remoting.Fields{{Name: "consumerGroup", Value: g.name}}}
	a, err := g.c.links.call(ctx, g.c.cfg.Timeout, addr, req)
	if err == nil && a.Code != remoting.ResSuccess {
		err = refused(op, addr, a)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	list, err := remoting.DecodeConsumerList(a.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return list.ClientIDs, nil
}

// subscribers are the members that subscribe to the topic, sorted; everybody
// has a share in a retry topic.
func subscribers(ids []string, topic string) []string {
	all := strings.HasPrefix(topic, driver.RetryTopic(""))
	var out []string
	for _, id := range ids {
		_, marks := parseMember(id)
		if all || marks == nil || slices.Contains(marks, topicMark(topic, false)) || slices.Contains(marks, topicMark(topic, true)) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mostDeparted is how many members that left are remembered.
const mostDeparted = 64

// notePeers remembers who has left, so that what they have locked can be taken.
func (g *group) notePeers(ids []string) {
	var now []string
	for _, id := range ids {
		if client, _ := parseMember(id); client != g.c.id {
			now = append(now, client)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range g.peers {
		if !slices.Contains(now, id) && !slices.Contains(g.departed, id) {
			g.departed = append(g.departed, id)
		}
	}
	g.departed = slices.DeleteFunc(g.departed, func(id string) bool { return slices.Contains(now, id) })
	if n := len(g.departed) - mostDeparted; n > 0 {
		g.departed = slices.Delete(g.departed, 0, n)
	}
	g.peers = now
}

// others tells who else is in the group, and who was.
func (g *group) others() (peers int, departed []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.peers), slices.Clone(g.departed)
}
