package main

import (
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/offline"
)

// frameLine is a frame as a line of text.
func frameLine(f offline.Frame, body bool) string {
	var b strings.Builder
	b.WriteString(strconv.FormatInt(f.Pos, 10))
	b.WriteString(" " + f.File + ":" + strconv.FormatInt(f.Offset, 10))
	b.WriteString(" " + strconv.FormatInt(f.Length, 10) + " " + f.Kind.String())
	field := func(name, value string) { b.WriteString(" " + name + "=" + value) }
	switch {
	case f.Reason != "":
		field("unreadable", strconv.QuoteToASCII(f.Reason))
	case f.Message != nil:
		messageFields(f, body, field)
	case f.Topic != nil:
		topicFields(f, field)
	case f.Decision != nil:
		field("half", strconv.FormatInt(f.Decision.Half, 10))
		if f.Kind == offline.KindParked {
			field("at", moment(f.Decision.At))
			field("checks", strconv.Itoa(f.Decision.Checks))
		}
	case f.Positions != nil:
		positionsFields(f.Positions, field)
	case f.Settings != nil:
		settingsFields(f, field)
	}
	b.WriteByte('\n')
	return b.String()
}

func messageFields(f offline.Frame, body bool, field func(name, value string)) {
	m := f.Message
	optional := func(name, value string) {
		if value != "" {
			field(name, text(value))
		}
	}
	field("topic", text(m.Topic))
	field("queue", strconv.Itoa(m.Queue))
	if inQueue(f.Kind) {
		field("offset", strconv.FormatInt(m.Offset, 10))
	}
	optional("id", m.ID)
	if len(m.Keys) > 0 {
		field("keys", texts(m.Keys))
	}
	optional("tag", m.Tag)
	optional("ordering", m.OrderingKey)
	optional("group", m.Group)
	if m.Failures > 0 {
		field("failures", strconv.Itoa(m.Failures))
	}
	if m.Ends >= 0 {
		field("ends", strconv.FormatInt(m.Ends, 10))
	}
	field("born", moment(m.Born))
	field("stored", moment(m.Stored))
	if f.Kind == offline.KindDelayed {
		field("due", moment(m.Due))
	}
	field("bytes", strconv.Itoa(len(m.Body)))
	if body {
		field("body", strconv.QuoteToASCII(string(m.Body)))
	}
}

// inQueue: messages of the kind have an offset.
func inQueue(k offline.Kind) bool {
	return k == offline.KindMessage || k == offline.KindFired || k == offline.KindCommitted
}

func topicFields(f offline.Frame, field func(name, value string)) {
	t := f.Topic
	field("topic", text(t.Name))
	if f.Kind == offline.KindTopicDeleted {
		return
	}
	field("queues", strconv.Itoa(t.Queues))
	if len(t.Origins) > 0 {
		field("origins", texts(t.Origins))
	}
	if len(t.IDs) > 0 {
		field("numbers", numbers(t.IDs))
	}
	if len(t.Next) > 0 {
		field("next", numbers(t.Next))
	}
}

// positionsFields shows each lane as queue:next, and in brackets what is not
// settled below.
func positionsFields(p *offline.Positions, field func(name, value string)) {
	field("group", text(p.Group))
	field("topic", text(p.Topic))
	if p.Client != "" {
		field("client", text(p.Client))
	}
	lanes := make([]string, len(p.Lanes))
	for i, l := range p.Lanes {
		queue := strconv.Itoa(l.Queue)
		if l.Queue < 0 {
			queue = "retry"
		}
		lanes[i] = queue + ":" + strconv.FormatInt(l.Next, 10)
		if len(l.Unsettled) > 0 {
			lanes[i] += "[" + numbers(l.Unsettled) + "]"
		}
	}
	field("lanes", strings.Join(lanes, ","))
}

func settingsFields(f offline.Frame, field func(name, value string)) {
	of := "group"
	if f.Settings.Topic {
		of = "topic"
	}
	field(of, text(f.Settings.Name))
	if f.Kind == offline.KindSettings {
		field("settings", strconv.QuoteToASCII(f.Settings.Value))
	}
}

// frameJSON is a frame as an object of JSON.
type frameJSON struct {
	Position   int64          `json:"position"`
	File       string         `json:"file"`
	FileOffset int64          `json:"file_offset"`
	Length     int64          `json:"length"`
	Kind       string         `json:"kind"`
	Unreadable string         `json:"unreadable,omitempty"`
	Message    *messageJSON   `json:"message,omitempty"`
	Decision   *decisionJSON  `json:"decision,omitempty"`
	Topic      *topicJSON     `json:"topic,omitempty"`
	Positions  *positionsJSON `json:"positions,omitempty"`
	Settings   *settingsJSON  `json:"settings,omitempty"`
}

type settingsJSON struct {
	Of    string `json:"of"` // topic or group
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

type messageJSON struct {
	Topic       string   `json:"topic"`
	Queue       int      `json:"queue"`
	Offset      *int64   `json:"offset,omitempty"`
	ID          string   `json:"id,omitempty"`
	Keys        []string `json:"keys,omitempty"`
	Tag         string   `json:"tag,omitempty"`
	OrderingKey string   `json:"ordering_key,omitempty"`
	Group       string   `json:"group,omitempty"`
	Failures    int      `json:"failures,omitempty"`
	Ends        *int64   `json:"ends,omitempty"`
	Born        string   `json:"born"`
	Stored      string   `json:"stored"`
	Due         string   `json:"due,omitempty"`
	Bytes       int      `json:"bytes"`
	Body        []byte   `json:"body,omitempty"`
}

type decisionJSON struct {
	Half   int64  `json:"half"`
	At     string `json:"at,omitempty"`
	Checks int    `json:"checks,omitempty"`
}

type topicJSON struct {
	Name    string   `json:"name"`
	Queues  int      `json:"queues,omitempty"`
	Origins []string `json:"origins,omitempty"`
	Numbers []uint32 `json:"numbers,omitempty"`
	Next    []int64  `json:"next,omitempty"`
}

type positionsJSON struct {
	Group  string     `json:"group"`
	Topic  string     `json:"topic"`
	Client string     `json:"client,omitempty"`
	Lanes  []laneJSON `json:"lanes"`
}

type laneJSON struct {
	Queue     int     `json:"queue"` // -1 for the retry lane
	Next      int64   `json:"next"`
	Unsettled []int64 `json:"unsettled,omitempty"`
}

func newFrameJSON(f offline.Frame, body bool) frameJSON {
	j := frameJSON{
		Position: f.Pos, File: f.File, FileOffset: f.Offset, Length: f.Length, Kind: f.Kind.String(), Unreadable: f.Reason,
	}
	if m := f.Message; m != nil {
		j.Message = newMessageJSON(f.Kind, m, body)
	}
	if t := f.Topic; t != nil {
		j.Topic = &topicJSON{Name: t.Name, Queues: t.Queues, Origins: t.Origins, Numbers: t.IDs, Next: t.Next}
	}
	if d := f.Decision; d != nil {
		j.Decision = &decisionJSON{Half: d.Half, Checks: d.Checks}
		if f.Kind == offline.KindParked {
			j.Decision.At = moment(d.At)
		}
	}
	if p := f.Positions; p != nil {
		j.Positions = &positionsJSON{Group: p.Group, Topic: p.Topic, Client: p.Client, Lanes: []laneJSON{}}
		for _, l := range p.Lanes {
			j.Positions.Lanes = append(j.Positions.Lanes, laneJSON{Queue: l.Queue, Next: l.Next, Unsettled: l.Unsettled})
		}
	}
	if s := f.Settings; s != nil {
		j.Settings = &settingsJSON{Of: "group", Name: s.Name, Value: s.Value}
		if s.Topic {
			j.Settings.Of = "topic"
		}
	}
	return j
}

func newMessageJSON(k offline.Kind, m *offline.Message, body bool) *messageJSON {
	j := &messageJSON{
		Topic: m.Topic, Queue: m.Queue, ID: m.ID, Keys: m.Keys, Tag: m.Tag, OrderingKey: m.OrderingKey, Group: m.Group,
		Failures: m.Failures, Born: moment(m.Born), Stored: moment(m.Stored), Bytes: len(m.Body),
	}
	if inQueue(k) {
		j.Offset = &m.Offset
	}
	if m.Ends >= 0 {
		j.Ends = &m.Ends
	}
	if k == offline.KindDelayed {
		j.Due = moment(m.Due)
	}
	if body {
		j.Body = m.Body
	}
	return j
}
