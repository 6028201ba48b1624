package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluicemq/sluice/broker/remoting/sql92"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

const messageUsage = `usage: sluice message COMMAND

  sluice message send TOPIC [BODY]         send one, or a line of a file each
  sluice message get ID [-topic TOPIC]     show one by its offset id, or with -topic by its unique id
  sluice message find TOPIC -key KEY       list those with a business key
  sluice message browse TOPIC              list the newest, or those from a place on

sluice help message send says more about it, and so on. All of them take:
` + remoteUsage

const (
	messageGetUsage = `usage: sluice message get ID [-topic TOPIC] [-raw]

Shows one message with everything that is known of it.

  -topic TOPIC    ID is the unique id of its sender, which is the usual one, and this its topic; without it ID
                  is the offset id of one stored copy
  -raw            print the body only, as it is

  sluice message get 7F0000010000000F000018B4AAC20001 -topic orders

Flags of every such command:
`
	messageFindUsage = `usage: sluice message find TOPIC -key KEY [-since TIME] [-until TIME] [-body]

Lists messages with a business key, the oldest first. A broker answers its newest 64 of them. If there is none
the exit code is 1, as with grep.

  -key KEY       the key
  -since TIME    stored then or later: a time such as 2026-01-31T18:00:00Z, or a duration such as 2h for so
                 long ago. A time without a zone is one of this machine's
  -until TIME    stored then or before, in the same form
  -body          show bodies

Flags of every such command:
`
	messageBrowseUsage = `usage: sluice message browse TOPIC [-from POINT] [-limit N] [-tag EXPR | -sql EXPR] [-body] …

Lists messages of a topic, the oldest first, and moves nobody's position. In front of a message that the broker
cannot read, because what it stored is damaged, all are shown, then the error; -queue N -from OFFSET goes on
behind it.

  -from POINT     first, last, a time such as 2026-01-31T18:00:00Z, a duration such as 2h for so long ago,
                  or with -queue an offset (default last: the newest ones). A time without a zone is one of
                  this machine's
  -limit N        at most so many, 1 to 10000 (default 20)
  -tag EXPR       with one of these tags, such as "paid || refunded"
  -sql EXPR       with such properties, such as "amount > 100" (RocketMQ wants it allowed in its configuration)
  -queue N        of this queue only
  -broker NAME    on this broker only
  -body           show bodies

  sluice message browse orders -from 10m -body
  sluice message browse orders -json -limit 1 | jq .properties

Flags of every such command:
`
)

func messageCommands() []command {
	return []command{
		{name: "send", usage: remoteHelp("message send", messageSendUsage), run: runMessageSend},
		{name: "get", usage: remoteHelp("message get", messageGetUsage), run: runMessageGet},
		{name: "find", usage: remoteHelp("message find", messageFindUsage), run: runMessageFind},
		{name: "browse", usage: remoteHelp("message browse", messageBrowseUsage), run: runMessageBrowse},
	}
}

// messageView is a message as programs read it.
type messageView struct {
	ID         string            `json:"id"`
	OffsetID   string            `json:"offset_id"`
	Topic      string            `json:"topic"`
	Broker     string            `json:"broker"`
	Queue      int32             `json:"queue"`
	Offset     int64             `json:"offset"`
	Tag        string            `json:"tag,omitempty"`
	Keys       []string          `json:"keys,omitempty"`
	StoredAt   cluster.Time      `json:"stored_at"`
	BornAt     cluster.Time      `json:"born_at"`
	BornHost   string            `json:"born_host"`
	Redelivery int32             `json:"redelivery"`
	Size       int               `json:"size"`
	Properties map[string]string `json:"properties"`
	// Body is text; what is no UTF-8 is in Base64.
	Body   *string `json:"body,omitempty"`
	Base64 []byte  `json:"body_base64,omitempty"`
	// BodyError is why there is no body: it cannot be inflated.
	BodyError string `json:"body_error,omitempty"`
}

func newMessageView(m *cluster.Message, withBody bool) messageView {
	j := messageView{
		ID: m.ID(), OffsetID: m.OffsetID(), Topic: m.Topic, Broker: m.Broker, Queue: m.QueueID, Offset: m.QueueOffset,
		Tag: m.Tag(), Keys: m.Keys(), StoredAt: cluster.Millis(m.StoreTimestamp), BornAt: cluster.Millis(m.BornTimestamp),
		BornHost: m.BornHost.String(), Redelivery: m.ReconsumeTimes, Size: len(m.Body), Properties: m.Props,
	}
	if !withBody {
		return j
	}
	body, err := m.Plain()
	switch {
	case err != nil:
		j.BodyError = err.Error()
	case utf8.Valid(body):
		text := string(body)
		j.Body = &text
	default:
		j.Base64 = body
	}
	return j
}

// bodyText shows a body on one line, or says why it cannot.
func bodyText(m *cluster.Message) string {
	body, err := m.Plain()
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return string(body)
}

// runMessageGet is "sluice message get".
func runMessageGet(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("message get", messageGetUsage, stdout, stderr)
	var topic string
	r.text("topic", "the name of a topic", &topic)
	raw := r.Bool("raw", false, "")
	check := func() {
		if *raw && r.json {
			r.bad("-raw and -json exclude each other")
		}
	}
	return r.do(ctx, args, "ID", check, func(ctx context.Context, c *cluster.Cluster) error {
		all, err := find(ctx, c, r.arg(0), topic)
		if err != nil {
			return err
		}
		if *raw {
			body, err := all[0].Plain()
			if err != nil {
				return err
			}
			if _, err := stdout.Write(body); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		}
		t := r.table("MESSAGE")
		for i, m := range all { // several if the sender has tried again
			if r.json {
				err = errors.Join(err, t.row(newMessageView(m, true)))
				continue
			}
			if i > 0 {
				fmt.Fprintln(t.w)
			}
			t.message(m)
		}
		return errors.Join(err, t.flush())
	})
}

// find answers the messages with an id.
func find(ctx context.Context, c *cluster.Cluster, id, topic string) ([]*cluster.Message, error) {
	if topic == "" {
		m, err := c.ByOffsetID(ctx, id)
		if _, ok := errors.AsType[*cluster.NotFoundError](err); ok {
			return nil, fmt.Errorf("%w; a unique id takes -topic TOPIC, too", err)
		}
		return []*cluster.Message{m}, err
	}
	all, err := c.ByUniqueID(ctx, topic, id)
	if err != nil || len(all) > 0 {
		return all, err
	}
	// Some tools print offset ids only, whatever the topic.
	if m, err := c.ByOffsetID(ctx, id); err == nil && m.Topic == topic {
		return []*cluster.Message{m}, nil
	}
	return nil, &cluster.NotFoundError{What: "message " + id + " of topic " + topic}
}

// message prints one message.
func (t *table) message(m *cluster.Message) {
	t.details(
		"id", m.ID(), "offset id", m.OffsetID(), "topic", m.Topic, "place", fmt.Sprintf("broker %s, queue %d, offset %d", m.Broker, m.QueueID, m.QueueOffset),
		"stored", time.UnixMilli(m.StoreTimestamp), "born", moment(time.UnixMilli(m.BornTimestamp))+" at "+m.BornHost.String(),
		"tag", m.Tag(), "keys", strings.Join(m.Keys(), " "), "redelivery", int64(m.ReconsumeTimes), "size", size(len(m.Body)),
	)
	names := slices.Sorted(maps.Keys(m.Props))
	for _, name := range names {
		fmt.Fprintf(t.w, "  %s = %s\n", plain(name), plain(m.Props[name]))
	}
	if len(names) > 0 {
		fmt.Fprintln(t.w)
	}
	fmt.Fprintln(t.w, readable(bodyText(m)))
}

// readable shows text of several lines; anything that a terminal could take
// for a command makes it a quoted one.
func readable(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.ReplaceAll(strings.TrimSuffix(line, "\r"), "\t", "    ")
		if plain(lines[i]) != lines[i] {
			return plain(s)
		}
	}
	return strings.Join(lines, "\n")
}

// printMessages prints a list.
func (r *remote) printMessages(all []*cluster.Message, withBody bool, none string) error {
	head := []string{"STORED", "BROKER", "QUEUE", "OFFSET", "ID", "TAG", "KEYS", "SIZE"}
	if withBody {
		head = append(head, "BODY")
	}
	t := r.table(head...)
	var err error
	for _, m := range all {
		cells := []any{
			time.UnixMilli(m.StoreTimestamp), m.Broker, int(m.QueueID), m.QueueOffset, m.ID(), m.Tag(), strings.Join(m.Keys(), " "), size(len(m.Body)),
		}
		if withBody {
			cells = append(cells, bodyText(m))
		}
		var object any
		if r.json {
			object = newMessageView(m, withBody)
		}
		err = errors.Join(err, t.row(object, cells...))
	}
	return t.end(err, none)
}

// runMessageFind is "sluice message find".
func runMessageFind(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("message find", messageFindUsage, stdout, stderr)
	var key string
	r.text("key", "a business key", &key)
	body := r.Bool("body", false, "")
	var since, until time.Time
	r.past("since", &since)
	r.past("until", &until)
	check := func() {
		r.validTopic()
		if !until.IsZero() && until.Before(since) {
			r.bad("-until is before -since, nothing is between them")
		}
	}
	return r.do(ctx, args, "TOPIC -key KEY", check, func(ctx context.Context, c *cluster.Cluster) error {
		all, err := c.Find(ctx, r.arg(0), key, since, until)
		if err != nil && len(all) == 0 {
			return r.near(ctx, c, err)
		}
		if len(all) == 0 {
			return &cluster.NotFoundError{What: "a message of topic " + r.arg(0) + " with key " + key}
		}
		return errors.Join(err, r.printMessages(all, *body, ""))
	})
}

// browseFlags declares the flags of commands that read messages from a place
// on.
func (r *remote) browseFlags(o *cluster.BrowseOptions) (selection *cluster.Selection) {
	o.Limit = 20
	r.value("limit", "1 to 10000", number(1, 10000, &o.Limit))
	r.point("from", &o.From)
	return r.selection()
}

// runMessageBrowse is "sluice message browse".
func runMessageBrowse(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("message browse", messageBrowseUsage, stdout, stderr)
	o := cluster.BrowseOptions{From: cluster.Point{Kind: cluster.Last}}
	x := r.browseFlags(&o)
	var tag, sql string
	r.text("tag", "tags, such as paid, or * for all", &tag)
	r.text("sql", "an expression, such as amount > 100", &sql)
	body := r.Bool("body", false, "")
	check := func() {
		r.validTopic()
		if tag != "" && sql != "" {
			r.bad("-tag and -sql exclude each other")
		}
		if tag != "" && strings.Trim(tag, "| ") == "" { // as brokers read it, too
			r.bad("-tag takes tags, such as paid, or * for all, not %q: it names none", short(tag))
		}
		if sql != "" { // as brokers read it, of which each would refuse it for each queue
			if _, err := sql92.Parse(sql); err != nil {
				r.bad("-sql: %w", err)
			}
		}
		if o.From.Kind == cluster.AtOffset && x.Queue < 0 {
			r.bad("-from takes an offset with -queue only")
		}
	}
	return r.do(ctx, args, "TOPIC", check, func(ctx context.Context, c *cluster.Cluster) error {
		o.Queues, o.Filter = *x, cluster.Filter{Expression: tag}
		if sql != "" {
			o.Filter = cluster.Filter{Expression: sql, SQL: true}
		}
		all, err := c.Browse(ctx, r.arg(0), o)
		if err != nil && len(all) == 0 {
			return r.near(ctx, c, err)
		}
		return errors.Join(err, r.printMessages(all, *body, "there are no such messages"))
	})
}
