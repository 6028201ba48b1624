package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

const topicUsage = `usage: sluice topic COMMAND

  sluice topic list                 the topics of applications; with -all those of groups and brokers, too
  sluice topic show TOPIC           its queues, how much they hold, who consumes it
  sluice topic create TOPIC         make a topic
  sluice topic update TOPIC         change it
  sluice topic delete TOPIC -yes    delete it with its messages

sluice help topic create says more about it, and so on. All of them take:
` + remoteUsage

const (
	topicListUsage = `usage: sluice topic list [-all]

Lists the topics that the name server knows.

  -all    topics for redeliveries and dead letters of groups, and those of the brokers, too

  sluice topic list -addr mq.example:9876
  sluice topic list -all -json | jq -r 'select(.kind == "dead") | .topic'

Flags of every such command:
`
	topicShowUsage = `usage: sluice topic show TOPIC

Shows the queues of a topic, the first and the next offset of each, when the newest message came, and the
groups that consume it.

  sluice topic show orders

Flags of every such command:
`
	topicCreateUsage = `usage: sluice topic create TOPIC [-queues N] [-perm rw|r|w] [-order] [-type T] [-broker NAME]

Makes a topic on every broker, and waits until the name server knows it. Those of groups, %RETRY%GROUP and
%DLQ%GROUP, are made by the brokers.

  -queues N       queues on each broker, 1 to 1024 (default 4)
  -perm P         rw, r or w (default rw)
  -order          note that the order of keys counts, as tools of RocketMQ show it
  -type T         what RocketMQ 5 is to accept: NORMAL, FIFO, DELAY, TRANSACTION or MIXED
  -broker NAME    on this broker only

  sluice topic create orders -queues 8

Flags of every such command:
`
	topicUpdateUsage = `usage: sluice topic update TOPIC [-queues N] [-perm rw|r|w] [-order=true|false] [-type T] [-yes]

Changes what is said of a topic, and nothing else. With fewer queues than before the others are hidden from
clients with the messages in them, not deleted: nobody consumes those until there are as many queues again.
Without -yes it only says which messages that would be, if there are any.

  sluice topic update orders -queues 16
  sluice topic update %DLQ%billing -perm rw     # so that its dead letters can be read

Flags of every such command:
`
	topicDeleteUsage = `usage: sluice topic delete TOPIC -yes

Deletes a topic and its messages on every broker. Without -yes it only says what would be lost.

  sluice topic delete orders-test -yes

Flags of every such command:
`
)

func topicCommands() []command {
	return []command{
		{name: "list", usage: remoteHelp("topic list", topicListUsage), run: runTopicList},
		{name: "show", usage: remoteHelp("topic show", topicShowUsage), run: runTopicShow},
		{name: "create", usage: remoteHelp("topic create", topicCreateUsage), run: runTopicCreate},
		{name: "update", usage: remoteHelp("topic update", topicUpdateUsage), run: runTopicUpdate},
		{name: "delete", usage: remoteHelp("topic delete", topicDeleteUsage), run: runTopicDelete},
	}
}

// runTopicList is "sluice topic list".
func runTopicList(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("topic list", topicListUsage, stdout, stderr)
	all := r.Bool("all", false, "")
	return r.do(ctx, args, "", nil, func(ctx context.Context, c *cluster.Cluster) error {
		topics, err := c.Topics(ctx, func(_, kind string) bool { return *all || kind == cluster.KindNormal })
		t := r.table("TOPIC", "KIND", "QUEUES", "PERM", "BROKERS")
		for _, x := range topics {
			queues := strconv.Itoa(x.ReadQueues)
			if x.ReadQueues != x.WriteQueues {
				queues = fmt.Sprintf("%d read, %d write", x.ReadQueues, x.WriteQueues)
			}
			err = errors.Join(err, t.row(x, x.Name, x.Kind, queues, x.Perm, strings.Join(x.Brokers, " ")))
		}
		return t.end(err, "there are no topics")
	})
}

// runTopicShow is "sluice topic show".
func runTopicShow(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("topic show", topicShowUsage, stdout, stderr)
	return r.do(ctx, args, "TOPIC", r.validTopic, func(ctx context.Context, c *cluster.Cluster) error {
		d, err := c.TopicDetail(ctx, r.arg(0))
		if d.Name == "" {
			return r.near(ctx, c, err)
		}
		t := r.table("BROKER", "QUEUE", "FIRST", "NEXT", "MESSAGES", "NEWEST")
		if r.json {
			return t.end(errors.Join(err, t.row(d)), "")
		}
		groups := strings.Join(d.Groups, " ")
		t.details("topic", d.Name, "kind", d.Kind, "perm", d.Perm, "messages", d.Messages, "groups", groups)
		for _, q := range d.Queues {
			_ = t.row(q, q.Broker, q.Queue, q.Min, q.Max, q.Messages(), q.Stored)
		}
		return t.end(err, "")
	})
}

// validTopic checks the argument that is a topic.
func (r *remote) validTopic() {
	if name := r.arg(0); name != "" {
		if err := driver.ValidTopic(name); err != nil {
			r.bad("%w", err)
		}
	}
}

// ungrouped refuses to make the topic of a group by hand: brokers do when it is
// needed, as it is needed, and one that nobody uses would make its group known.
func (r *remote) ungrouped() {
	for _, prefix := range []string{cluster.RetryPrefix, cluster.DeadPrefix} {
		if group, ok := strings.CutPrefix(r.arg(0), prefix); ok {
			r.bad("topic %s belongs to group %s: brokers make it when the group needs it", r.arg(0), short(group))
		}
	}
}

// topicFlags are those that create and update have in common.
type topicFlags struct {
	change cluster.TopicChange
	broker string
}

func (r *remote) topicFlags() *topicFlags {
	f := &topicFlags{}
	r.value("queues", "1 to 1024", func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1024 {
			return errForm
		}
		f.change.Queues = n
		return nil
	})
	r.value("perm", "rw, r or w", func(s string) error {
		p, ok := cluster.ParsePerm(s)
		if !ok || p == 0 {
			return errForm
		}
		f.change.Perm = &p
		return nil
	})
	r.value("type", "NORMAL, FIFO, DELAY, TRANSACTION or MIXED", func(s string) error {
		if !slices.Contains([]string{"NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"}, s) {
			return errForm
		}
		f.change.Type = s
		return nil
	})
	r.truth("order", &f.change.Order)
	return f
}

// runTopicCreate is "sluice topic create".
func runTopicCreate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("topic create", topicCreateUsage, stdout, stderr)
	f := r.topicFlags()
	r.text("broker", "the name of a broker", &f.broker)
	check := func() {
		r.validTopic()
		r.ungrouped()
	}
	return r.do(ctx, args, "TOPIC", check, func(ctx context.Context, c *cluster.Cluster) error {
		name := r.arg(0)
		_, err := c.Route(ctx, name)
		switch {
		case err == nil && c.KindOf(ctx, name) == cluster.KindSystem:
			return refuse("topic %s is there already, and belongs to the broker", name)
		case err == nil:
			return refuse("topic %s is there already; sluice topic update changes it", name)
		}
		if _, ok := errors.AsType[*cluster.NotFoundError](err); !ok {
			return err
		}
		brokers, err := c.Brokers(ctx)
		if err != nil {
			return err
		}
		if f.broker != "" {
			if brokers, err = pickBroker(brokers, f.broker); err != nil {
				return err
			}
		}
		if err := c.CreateTopic(ctx, name, brokers, f.change); err != nil {
			return err
		}
		return r.showTopic(ctx, c, name, "created")
	})
}

// pickBroker answers the broker of a name.
func pickBroker(brokers []cluster.Broker, name string) ([]cluster.Broker, error) {
	i := slices.IndexFunc(brokers, func(b cluster.Broker) bool { return b.Name == name })
	if i >= 0 {
		return brokers[i : i+1], nil
	}
	var names []string
	for _, b := range brokers {
		names = append(names, b.Name)
	}
	return nil, refuse("there is no broker %s%s, there is %s", name, meant(name, names), conjunction(names))
}

// showTopic prints what a topic is like after a change.
func (r *remote) showTopic(ctx context.Context, c *cluster.Cluster, name, what string) error {
	shares, err := c.Route(ctx, name)
	if err != nil {
		return untold(err)
	}
	topic := cluster.NewTopic(name, shares)
	return r.done(topic, "%s topic %s: %s, %s, on %s", what, name, counted(int64(topic.ReadQueues), "queue"), topic.Perm, strings.Join(topic.Brokers, " "))
}

// runTopicUpdate is "sluice topic update".
func runTopicUpdate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("topic update", topicUpdateUsage, stdout, stderr)
	f := r.topicFlags()
	yes := r.Bool("yes", false, "")
	check := func() {
		r.validTopic()
		if f.change == (cluster.TopicChange{}) && len(r.problems) == 0 {
			r.bad("it takes something to change: -queues, -perm, -order or -type")
		}
	}
	return r.do(ctx, args, "TOPIC", check, func(ctx context.Context, c *cluster.Cluster) error {
		name := r.arg(0)
		hides, err := hidden(ctx, c, name, f.change)
		switch {
		case err != nil:
			return r.near(ctx, c, err)
		case len(hides) > 0 && !*yes:
			return refuse("topic %s has %s, which nobody could read with -queues %d; add -yes to hide them", name, inQueues(hides), f.change.Queues)
		}
		if err := c.UpdateTopic(ctx, name, f.change); err != nil {
			return r.near(ctx, c, err)
		}
		if err := r.showTopic(ctx, c, name, "updated"); err != nil || r.json || len(hides) == 0 {
			return err
		}
		return r.done(nil, "it hides %s, which more queues show again", inQueues(hides))
	})
}

// hidden answers the queues with messages that a change of a topic hides. The
// number of those for redeliveries is the broker's, whatever is asked for.
func hidden(ctx context.Context, c *cluster.Cluster, topic string, x cluster.TopicChange) ([]cluster.QueueStat, error) {
	if x.Queues == 0 || strings.HasPrefix(topic, cluster.RetryPrefix) {
		return nil, nil
	}
	return c.Hides(ctx, topic, x.Queues)
}

// inQueues is such as "5 messages in queues 1 to 3 and 7".
func inQueues(all []cluster.QueueStat) string {
	return counted(messages(all), "message") + " in " + queueNumbers(all)
}

// queueNumbers is such as "queues 1 to 3 and 7".
func queueNumbers(all []cluster.QueueStat) string {
	var numbers []int
	for _, q := range all { // of several brokers
		numbers = append(numbers, q.Queue)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	var ranges []string
	for i := 0; i < len(numbers); {
		first := i
		for i++; i < len(numbers) && numbers[i] == numbers[i-1]+1; {
			i++
		}
		s := strconv.Itoa(numbers[first])
		if i > first+1 {
			s += " to " + strconv.Itoa(numbers[i-1])
		}
		ranges = append(ranges, s)
	}
	what := "queue"
	if len(numbers) > 1 {
		what = "queues"
	}
	return what + " " + conjunction(ranges)
}

// messages is how many there are in queues.
func messages(all []cluster.QueueStat) int64 {
	n := int64(0)
	for _, q := range all {
		n += q.Messages()
	}
	return n
}

// runTopicDelete is "sluice topic delete".
func runTopicDelete(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("topic delete", topicDeleteUsage, stdout, stderr)
	yes := r.Bool("yes", false, "")
	return r.do(ctx, args, "TOPIC", r.validTopic, func(ctx context.Context, c *cluster.Cluster) error {
		d, err := c.TopicDetail(ctx, r.arg(0))
		if err != nil {
			return r.near(ctx, c, err)
		}
		hides, err := c.Hidden(ctx, d.Name)
		if err != nil {
			return err
		}
		d.Messages += messages(hides)
		if !*yes {
			also := ""
			if len(hides) > 0 {
				also = ", " + grouped(messages(hides)) + " of them hidden in " + queueNumbers(hides) + ","
			}
			return refuse("topic %s has %s%s and %s; add -yes to delete it",
				d.Name, counted(d.Messages, "message"), also, counted(int64(len(d.Groups)), "group"))
		}
		if err := c.DeleteTopic(ctx, d.Name); err != nil {
			return err
		}
		return r.done(struct {
			Topic    string `json:"topic"`
			Deleted  bool   `json:"deleted"`
			Messages int64  `json:"messages"`
		}{d.Name, true, d.Messages}, "deleted topic %s with %s", d.Name, counted(d.Messages, "message"))
	})
}

// counted is a number with what it counts.
func counted(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return grouped(n) + " " + what
}

// done prints what was done. That it cannot be printed does not undo it.
func (r *remote) done(object any, format string, args ...any) error {
	t := r.table("DONE")
	if r.json {
		return untold(t.end(t.row(object), ""))
	}
	fmt.Fprintf(t.w, format+"\n", args...)
	return untold(t.flush())
}

// untold is why something that was done could not be told.
func untold(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("it was done, but this was not told: %w", err)
}

// since is a time with how long ago it was.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ago(t, time.Now())
}
