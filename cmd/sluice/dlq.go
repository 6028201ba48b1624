package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

const dlqUsage = `usage: sluice dlq COMMAND

  sluice dlq list               the groups with dead letters, and how many
  sluice dlq peek GROUP         dead letters of a group: where from, how often tried, why given up
  sluice dlq redrive GROUP      send them again to the topics they came from
  sluice dlq purge GROUP -yes   remove all of them

Single dead letters cannot be removed: RocketMQ's protocol has no way to. sluice help dlq redrive says more
about it, and so on. All of them take:
` + remoteUsage

const (
	dlqListUsage = `usage: sluice dlq list

Lists the groups with dead letters. WAITING counts those that sluice dlq redrive has not sent again yet.

Flags of every such command:
`
	dlqPeekUsage = `usage: sluice dlq peek GROUP [-from POINT] [-limit N] [-queue N] [-broker NAME] [-body]

Lists dead letters of a group, the oldest first. REASON is there if a consumer of Sluice gave them up; other
clients leave none.

  -from POINT     first, last, a time such as 2026-01-31T18:00:00Z, a duration such as 2h for so long ago,
                  or with -queue an offset (default first). A time without a zone is one of this machine's
  -limit N        at most so many, 1 to 10000 (default 20)
  -queue N        of this queue only
  -broker NAME    on this broker only
  -body           show bodies

  sluice dlq peek billing -from 1h -json | jq -r .error

Flags of every such command:
`
	dlqRedriveUsage = `usage: sluice dlq redrive GROUP [-limit N] [-rate N] [-to TOPIC] [-again] [-dry-run]

Sends dead letters of a group again, the oldest first, as new messages of the topic they came from: every group
of that topic gets them. They keep body, unique id, tag, keys and the properties of their sender.

How far it came is kept at the brokers, as the position of group sluice-redrive, so the next call goes on
there, also after an interruption. If this command crashes at the wrong moment, one message is sent twice. If
a broker does (kill -9, loss of power), the positions are lost that it had not stored, and all messages that
were sent meanwhile are sent twice: sluice serve stores positions within a second, RocketMQ within five. They
have the same unique id both times; handlers should be idempotent. The dead letters stay: purge removes them.

  -limit N     at most so many (default: all that are there now)
  -rate N      at most so many a second (default 100)
  -to TOPIC    send them to this topic instead
  -again       begin with the first one, whatever was sent again before. The position goes back with it: after
               -again -limit N the next call goes on behind those N, and sends what was sent before, too
  -dry-run     only say what would be sent

  sluice dlq redrive billing -limit 1        # does the fix work?
  sluice dlq redrive billing -rate 20

Flags of every such command:
`
	dlqPurgeUsage = `usage: sluice dlq purge GROUP -yes

Removes all dead letters of a group, by deleting the topic that holds them; the next one makes it anew. Without
-yes it only says what would be lost.

Flags of every such command:
`
)

func dlqCommands() []command {
	return []command{
		{name: "list", usage: remoteHelp("dlq list", dlqListUsage), run: runDLQList},
		{name: "peek", usage: remoteHelp("dlq peek", dlqPeekUsage), run: runDLQPeek},
		{name: "redrive", usage: remoteHelp("dlq redrive", dlqRedriveUsage), run: runDLQRedrive},
		{name: "purge", usage: remoteHelp("dlq purge", dlqPurgeUsage), run: runDLQPurge},
	}
}

// runDLQList is "sluice dlq list".
func runDLQList(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("dlq list", dlqListUsage, stdout, stderr)
	return r.do(ctx, args, "", nil, func(ctx context.Context, c *cluster.Cluster) error {
		all, err := c.DeadLetters(ctx)
		t := r.table("GROUP", "MESSAGES", "WAITING", "NEWEST")
		for _, d := range all {
			if d.Messages > 0 {
				err = errors.Join(err, t.row(d, d.Group, d.Messages, d.Waiting, d.Newest))
			}
		}
		return t.end(err, "there are no dead letters")
	})
}

// deadJSON is a dead letter as programs read it.
type deadJSON struct {
	messageView
	Origin   string       `json:"origin_topic,omitempty"`
	Attempts int          `json:"attempts"`
	DeadAt   cluster.Time `json:"dead_at"`
	Reason   string       `json:"reason,omitempty"`
	Error    string       `json:"error,omitempty"`
}

// runDLQPeek is "sluice dlq peek".
func runDLQPeek(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("dlq peek", dlqPeekUsage, stdout, stderr)
	var o cluster.BrowseOptions
	x := r.browseFlags(&o)
	body := r.Bool("body", false, "")
	check := func() {
		r.validGroup()
		if o.From.Kind == cluster.AtOffset && x.Queue < 0 {
			r.bad("-from takes an offset with -queue only")
		}
	}
	return r.do(ctx, args, "GROUP", check, func(ctx context.Context, c *cluster.Cluster) error {
		o.Queues = *x
		all, err := c.Peek(ctx, r.arg(0), o)
		if err != nil && len(all) == 0 {
			return r.near(ctx, c, err)
		}
		head := []string{"DEAD", "QUEUE", "OFFSET", "ORIGIN", "TRIED", "ID", "KEYS", "REASON"}
		if *body {
			head = append(head, "BODY")
		}
		t := r.table(head...)
		for _, d := range all {
			cells := []any{d.At, int(d.QueueID), d.QueueOffset, d.Topic, tried(d.Attempts), d.ID(), strings.Join(d.Keys(), " "), reason(d)}
			if *body {
				cells = append(cells, bodyText(d.Message))
			}
			var object any
			if r.json {
				object = deadJSON{newMessageView(d.Message, *body), d.Topic, d.Attempts, d.At, d.Reason, d.Err}
			}
			err = errors.Join(err, t.row(object, cells...))
		}
		return t.end(err, "there are no such dead letters")
	})
}

// tried is how often a message was delivered, as far as it says.
func tried(attempts int) string {
	if attempts <= 0 {
		return ""
	}
	return strconv.Itoa(attempts)
}

// reason is why a message was given up.
func reason(d cluster.DeadMessage) string {
	if d.Err == "" {
		return d.Reason
	}
	first, _, _ := strings.Cut(d.Err, "\n")
	if d.Reason == "" {
		return first
	}
	return d.Reason + ": " + first
}

// redrivenJSON is a dead letter that was sent again.
type redrivenJSON struct {
	ID     string        `json:"id"`
	Queue  int32         `json:"queue"`
	Offset int64         `json:"offset"`
	To     string        `json:"to"`
	Sent   *cluster.Sent `json:"sent,omitempty"`
}

// runDLQRedrive is "sluice dlq redrive".
func runDLQRedrive(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("dlq redrive", dlqRedriveUsage, stdout, stderr)
	o := cluster.RedriveOptions{Rate: 100}
	r.value("limit", "1 and more", number(1, 1<<31-1, &o.Limit))
	r.value("rate", "a number above 0", func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n > 0 && n <= 1e6) {
			return errForm
		}
		o.Rate = n
		return nil
	})
	r.text("to", "the name of a topic", &o.To)
	r.BoolVar(&o.Again, "again", false, "")
	r.BoolVar(&o.DryRun, "dry-run", false, "")
	check := func() {
		r.validGroup()
		if o.To != "" {
			if err := driver.ValidTopic(o.To); err != nil {
				r.bad("-to: %w", err)
			}
		}
	}
	return r.do(ctx, args, "GROUP", check, func(ctx context.Context, c *cluster.Cluster) error {
		n := int64(0)
		t := r.table("ID")
		err := c.Redrive(ctx, r.arg(0), o, func(d cluster.Redriven) error {
			n++
			x := redrivenJSON{ID: d.ID(), Queue: d.QueueID, Offset: d.QueueOffset, To: d.Sent.Topic}
			if !o.DryRun {
				x.Sent = &d.Sent
			}
			if r.json {
				return errors.Join(t.row(x), t.flush())
			}
			if o.DryRun {
				fmt.Fprintf(t.w, "would send %s to %s\n", plain(d.ID()), d.Sent.Topic)
			} else {
				fmt.Fprintf(t.w, "sent %s to %s: queue %d, offset %d\n", plain(d.ID()), d.Sent.Topic, d.Sent.Queue, d.Sent.Offset)
			}
			return t.flush()
		})
		if n == 0 && err != nil {
			return r.near(ctx, c, err)
		}
		if !r.json {
			what := "sent " + counted(n, "dead letter") + " again"
			if o.DryRun {
				what = "would send " + counted(n, "dead letter") + " again"
			}
			fmt.Fprintln(t.w, what)
			if o.Again && !o.DryRun && err == nil {
				r.again(ctx, c, t)
			}
		}
		return errors.Join(err, t.flush())
	})
}

// again says what the next redrive sends after one with -again: with a limit the
// position stays further back than it was. What cannot be read is left out: the
// dead letters are sent, which an error would deny.
func (r *remote) again(ctx context.Context, c *cluster.Cluster, t *table) {
	if d, err := c.DeadLettersOf(ctx, r.arg(0)); err == nil && d.Waiting > 0 {
		fmt.Fprintf(t.w, "the position went back: the next redrive sends the %s behind, those that were sent before among them\n", counted(d.Waiting, "dead letter"))
	}
}

// runDLQPurge is "sluice dlq purge".
func runDLQPurge(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("dlq purge", dlqPurgeUsage, stdout, stderr)
	yes := r.Bool("yes", false, "")
	return r.do(ctx, args, "GROUP", r.validGroup, func(ctx context.Context, c *cluster.Cluster) error {
		group := r.arg(0)
		if !*yes {
			d, err := c.DeadLettersOf(ctx, group)
			if err != nil {
				return r.near(ctx, c, err)
			}
			return refuse("group %s has %s, of which %s not sent again; add -yes to remove all", group, counted(d.Messages, "dead letter"), were(d.Waiting))
		}
		n, err := c.Purge(ctx, group)
		if err != nil {
			return r.near(ctx, c, err)
		}
		return r.done(struct {
			Group  string `json:"group"`
			Purged int64  `json:"purged"`
		}{group, n}, "removed %s of group %s", counted(n, "dead letter"), group)
	})
}

func were(n int64) string {
	if n == 1 {
		return "1 was"
	}
	return grouped(n) + " were"
}
