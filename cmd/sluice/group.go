package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

const groupUsage = `usage: sluice group COMMAND

  sluice group list                            the groups that brokers know
  sluice group show GROUP                      what it consumes, who is in it, how far it is
  sluice group members GROUP                   who is in it now
  sluice group reset GROUP TOPIC -to POINT     move it back or forward
  sluice group delete GROUP -yes               forget it and its positions

sluice lag GROUP shows every queue. sluice help group reset says more about it, and so on. All of them take:
` + remoteUsage

const (
	groupListUsage = `usage: sluice group list [-all]

Lists the consumer groups that the brokers know: members online, topics it has positions on, messages behind.

  -all    the groups of brokers and tools, too

Flags of every such command:
`
	groupShowUsage = `usage: sluice group show GROUP

Shows a consumer group: how the brokers treat it, who is in it, what it subscribes to, how far it is.

Flags of every such command:
`
	groupMembersUsage = `usage: sluice group members GROUP

Lists the clients that are in a consumer group now.

Flags of every such command:
`
	groupResetUsage = `usage: sluice group reset GROUP TOPIC -to POINT [-queue N] [-broker NAME] [-dry-run]

Moves a consumer group to another place in a topic: its members, if there are any, go on from there. Messages
before that place are not consumed, those behind it are consumed again.

Stop the members first if you can: one that ends within some seconds may store the place where it was before,
and so undo the reset. sluice lag GROUP shows where the group is.

A group that no broker knows cannot be moved: start a member of it first, which begins where its own settings
say.

  -to POINT       first, last, a time such as 2026-01-31T18:00:00Z, a duration such as 2h for so long ago,
                  or with -queue an offset. A time without a zone is one of this machine's
  -queue N        this queue only (RocketMQ 5 and sluice serve)
  -broker NAME    on this broker only
  -dry-run        only say what would be moved

  sluice group reset billing orders -to 2h -dry-run
  sluice group reset billing orders -to last              # pass over everything

Flags of every such command:
`
	groupDeleteUsage = `usage: sluice group delete GROUP -yes

Makes every broker forget a consumer group and its positions, and deletes its topic %RETRY%GROUP with the
redeliveries that wait there. Its dead letters in %DLQ%GROUP stay; sluice dlq purge removes them. A group with
members is left alone: stop them first.

Flags of every such command:
`
	lagUsage = `usage: sluice lag [GROUP] [-topic TOPIC]

Shows how far consumer groups are behind: without GROUP a line for each group and topic, with it a line for
each queue. LAG counts messages that are stored and not consumed, redeliveries among them. BEHIND is how old
the last consumed message is, of queues with a lag.

  -topic TOPIC    this topic only

  sluice lag
  sluice lag billing -json | jq 'select(.lag > 1000)'

Flags of every such command:
`
)

func groupCommands() []command {
	return []command{
		{name: "list", usage: remoteHelp("group list", groupListUsage), run: runGroupList},
		{name: "show", usage: remoteHelp("group show", groupShowUsage), run: runGroupShow},
		{name: "members", usage: remoteHelp("group members", groupMembersUsage), run: runGroupMembers},
		{name: "reset", usage: remoteHelp("group reset", groupResetUsage), run: runGroupReset},
		{name: "delete", usage: remoteHelp("group delete", groupDeleteUsage), run: runGroupDelete},
	}
}

// validGroup checks the argument that is a group.
func (r *remote) validGroup() {
	if name := r.arg(0); name != "" {
		if err := driver.ValidGroup(name); err != nil {
			r.bad("%w", err)
		}
	}
}

// runGroupList is "sluice group list".
func runGroupList(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("group list", groupListUsage, stdout, stderr)
	all := r.Bool("all", false, "")
	return r.do(ctx, args, "", nil, func(ctx context.Context, c *cluster.Cluster) error {
		groups, err := c.Groups(ctx, *all)
		t := r.table("GROUP", "MEMBERS", "TOPICS", "LAG", "RATE")
		for _, g := range groups {
			err = errors.Join(err, t.row(g, g.Name, g.Members, g.Topics, g.Lag, rate(g.Rate)))
		}
		return t.end(err, "there are no groups")
	})
}

// groupJSON is everything about a group.
type groupJSON struct {
	Group  string               `json:"group"`
	Lag    int64                `json:"lag"`
	Rate   float64              `json:"rate"`
	Config *cluster.GroupConfig `json:"config,omitempty"`
	cluster.Membership
	Topics []topicLag `json:"topics"`
}

// topicLag is how far a group is with one topic.
type topicLag struct {
	Group  string `json:"group"`
	Topic  string `json:"topic"`
	Queues int    `json:"queues"`
	Lag    int64  `json:"lag"`
	// InFlight are read by clients, and not consumed.
	InFlight int64 `json:"in_flight"`
}

// byTopic sums up the queues.
func byTopic(p cluster.GroupProgress) []topicLag {
	all := []topicLag{}
	for _, q := range p.Queues { // they come by topic
		if n := len(all); n == 0 || all[n-1].Topic != q.Topic {
			all = append(all, topicLag{Group: p.Group, Topic: q.Topic})
		}
		sum := &all[len(all)-1]
		sum.Queues++
		sum.Lag += q.Lag
		sum.InFlight += max(q.Pulled-q.Position, 0)
	}
	return all
}

// runGroupShow is "sluice group show".
func runGroupShow(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("group show", groupShowUsage, stdout, stderr)
	return r.do(ctx, args, "GROUP", r.validGroup, func(ctx context.Context, c *cluster.Cluster) error {
		group := r.arg(0)
		p, err := c.Lag(ctx, group)
		if err != nil {
			return r.near(ctx, c, err)
		}
		m, err := c.Members(ctx, group)
		if err != nil {
			return err
		}
		cfg, configured, err := c.GroupConfigOf(ctx, group)
		if err != nil {
			return err
		}
		g := groupJSON{Group: group, Lag: p.Lag(), Rate: p.Rate, Membership: m, Topics: byTopic(p)}
		if configured {
			g.Config = &cfg
		}
		t := r.table("TOPIC", "QUEUES", "LAG", "IN FLIGHT", "SUBSCRIPTION")
		if r.json {
			return t.end(t.row(g), "")
		}
		t.details("group", group, "members", len(m.Members), "model", strings.ToLower(m.Model), "lag", g.Lag, "rate", rate(g.Rate), "allowed", allowed(g.Config))
		shown := map[string]bool{}
		for _, x := range g.Topics {
			shown[x.Topic] = true
			_ = t.row(x, x.Topic, x.Queues, x.Lag, x.InFlight, expression(m.Subscriptions, x.Topic))
		}
		for _, s := range m.Subscriptions {
			if !shown[s.Topic] {
				_ = t.row(s, s.Topic, "-", "-", "-", expression(m.Subscriptions, s.Topic))
			}
		}
		return t.end(nil, "it has no positions")
	})
}

func allowed(cfg *cluster.GroupConfig) string {
	if cfg == nil {
		return ""
	}
	s := "consume"
	if !cfg.Consume {
		s = "nothing"
	} else if cfg.Broadcast {
		s += ", broadcast"
	}
	return s + ", " + strconv.Itoa(int(cfg.RetryMax)) + " redeliveries"
}

// expression is what a group subscribes to.
func expression(all []cluster.Subscription, topic string) string {
	for _, s := range all {
		if s.Topic == topic {
			if s.Type == "TAG" {
				return s.Expression
			}
			return s.Type + " " + s.Expression
		}
	}
	return ""
}

// runGroupMembers is "sluice group members".
func runGroupMembers(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("group members", groupMembersUsage, stdout, stderr)
	return r.do(ctx, args, "GROUP", r.validGroup, func(ctx context.Context, c *cluster.Cluster) error {
		m, err := c.Members(ctx, r.arg(0))
		if err != nil && len(m.Members) == 0 {
			return r.near(ctx, c, err)
		}
		t := r.table("CLIENT", "ADDRESS", "LANGUAGE", "VERSION")
		for _, x := range m.Members {
			err = errors.Join(err, t.row(x, x.ClientID, x.Addr, x.Language, strconv.Itoa(x.Version)))
		}
		return t.end(err, "nobody is in group "+r.arg(0)+" now")
	})
}

// runGroupReset is "sluice group reset".
func runGroupReset(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("group reset", groupResetUsage, stdout, stderr)
	x := r.selection()
	dry := r.Bool("dry-run", false, "")
	var to cluster.Point
	r.point("to", &to)
	check := func() {
		r.validGroup()
		if topic := r.arg(1); topic != "" {
			if err := driver.ValidTopic(topic); err != nil {
				r.bad("%w", err)
			}
		}
		if to.Kind == cluster.AtOffset && x.Queue < 0 {
			r.bad("-to takes an offset with -queue only")
		}
	}
	return r.do(ctx, args, "GROUP TOPIC -to POINT: POINT is "+pointForm, check, func(ctx context.Context, c *cluster.Cluster) error {
		move := c.Reset
		if *dry {
			move = c.Plan
		}
		moves, err := move(ctx, r.arg(0), r.arg(1), *x, to)
		t := r.table("BROKER", "QUEUE", "FROM", "TO", "AGAIN", "PASSED OVER")
		for _, m := range moves {
			from, again, passed := any(""), any(""), any("")
			if m.From != nil {
				from, again, passed = *m.From, max(*m.From-m.To, 0), max(m.To-*m.From, 0)
			}
			err = errors.Join(err, t.row(m, m.Broker, m.Queue, from, m.To, again, passed))
		}
		if err = t.end(err, ""); err != nil {
			return r.unplaced(r.near(ctx, c, err))
		}
		if *dry && !r.json {
			fmt.Fprintln(r.stdout, "nothing was moved: -dry-run")
		}
		return nil
	})
}

// unplaced says of a group that no broker knows how it can be moved.
func (r *remote) unplaced(err error) error {
	if e, ok := errors.AsType[*cluster.NotFoundError](err); !ok || e.Group == "" {
		return err
	}
	return fmt.Errorf("%w; a group can be moved once a member of it was there, which begins where its own settings say", err)
}

// runGroupDelete is "sluice group delete".
func runGroupDelete(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("group delete", groupDeleteUsage, stdout, stderr)
	yes := r.Bool("yes", false, "")
	return r.do(ctx, args, "GROUP", r.validGroup, func(ctx context.Context, c *cluster.Cluster) error {
		group := r.arg(0)
		p, err := c.Lag(ctx, group)
		if err != nil {
			return r.near(ctx, c, err)
		}
		m, err := c.Members(ctx, group)
		switch {
		case err != nil:
			return err
		case len(m.Members) > 0:
			return refuse("group %s has %s, stop them first; sluice group members %s lists them", group, counted(int64(len(m.Members)), "member"), group)
		case !*yes:
			return refuse("group %s has positions on %s; add -yes to forget them, and the redeliveries that wait", group, counted(int64(len(p.Queues)), "queue"))
		}
		dead, err := c.DeadLettersOf(ctx, group)
		if _, none := errors.AsType[*cluster.NotFoundError](err); err != nil && !none {
			return err
		}
		if err := c.DeleteGroup(ctx, group); err != nil {
			return err
		}
		stay := ""
		if dead.Messages > 0 {
			stay = fmt.Sprintf("; its %s stay, sluice dlq purge %s removes them", counted(dead.Messages, "dead letter"), group)
		}
		return r.done(struct {
			Group   string `json:"group"`
			Deleted bool   `json:"deleted"`
			Dead    int64  `json:"dead_letters"`
		}{group, true, dead.Messages}, "deleted group %s%s", group, stay)
	})
}

// runLag is "sluice lag".
func runLag(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("lag", lagUsage, stdout, stderr)
	var topic string
	r.text("topic", "the name of a topic", &topic)
	return r.do(ctx, args, "[GROUP]", r.validGroup, func(ctx context.Context, c *cluster.Cluster) error {
		if r.arg(0) == "" {
			return r.lags(ctx, c, topic)
		}
		p, err := c.Lag(ctx, r.arg(0))
		if err != nil && len(p.Queues) == 0 {
			return r.near(ctx, c, err)
		}
		queues := slices.DeleteFunc(p.Queues, func(q cluster.Progress) bool { return topic != "" && q.Topic != topic })
		if len(queues) == 0 && err == nil {
			if err := r.topicThere(ctx, c, topic); err != nil {
				return err
			}
		}
		t := r.table("TOPIC", "BROKER", "QUEUE", "POSITION", "END", "LAG", "IN FLIGHT", "BEHIND")
		for _, q := range queues {
			behind := ""
			if q.Lag > 0 {
				behind = since(q.Consumed.Time)
			}
			err = errors.Join(err, t.row(q, q.Topic, q.Broker, q.Queue, q.Position, q.End, q.Lag, max(q.Pulled-q.Position, 0), behind))
		}
		return t.end(err, "group "+r.arg(0)+" has no positions"+on(topic))
	})
}

// topicThere is why a topic that a flag names may have no rows: there is none of
// that name, which is mostly a mistake in the word.
func (r *remote) topicThere(ctx context.Context, c *cluster.Cluster, topic string) error {
	if topic == "" {
		return nil
	}
	_, err := c.Route(ctx, topic)
	return r.near(ctx, c, err)
}

// on is " on topic orders", if a topic was named.
func on(topic string) string {
	if topic == "" {
		return ""
	}
	return " on topic " + topic
}

// lags prints a line for each group and topic.
func (r *remote) lags(ctx context.Context, c *cluster.Cluster, topic string) error {
	all, err := c.Lags(ctx)
	var lags []topicLag
	for _, p := range all {
		for _, x := range byTopic(p) {
			if topic == "" || x.Topic == topic {
				lags = append(lags, x)
			}
		}
	}
	if len(lags) == 0 && err == nil {
		if err := r.topicThere(ctx, c, topic); err != nil {
			return err
		}
	}
	t := r.table("GROUP", "TOPIC", "QUEUES", "LAG", "IN FLIGHT")
	for _, x := range lags {
		err = errors.Join(err, t.row(x, x.Group, x.Topic, x.Queues, x.Lag, x.InFlight))
	}
	return t.end(err, "no group has positions"+on(topic))
}
