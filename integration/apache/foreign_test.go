package apache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	sluice "github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/integration/internal/child"
	"github.com/sluicemq/sluice/integration/internal/driver"
	"github.com/sluicemq/sluice/integration/internal/peer"
)

// letter is a message as either side writes and reads it.
type letter struct {
	body  string
	tag   string
	keys  []string
	props map[string]string
	delay time.Duration
}

// letters are what goes both ways: keys, tags, the context of a trace, a delay, a
// body that is compressed.
var letters = []letter{
	{body: "plain"},
	{body: "rich", tag: "T1", keys: []string{"k1", "k2"}, props: map[string]string{"a": "1", "b": "two words, ümlaut"}},
	{body: "traced", props: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "v=1"}},
	{body: "later", tag: "T2", delay: 2 * time.Second},
	{body: "large" + strings.Repeat(".", 20_000), tag: "T1"},
	{body: "héllo ✓ 世界"},
}

// batched goes in one request.
var batched = []string{"b0", "b1", "b2"}

// post is what a test needs of both sides.
type post struct {
	t     *testing.T
	conn  sluice.Conn
	other *driver.Driver
	names string
	topic string
}

// newPost connects our client and starts a process with Apache's.
func newPost(t *testing.T, c *peer.Cluster) *post {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "godriver")
	if out, err := exec.Command("go", "build", "-o", program, "../interop/godriver").CombinedOutput(); err != nil {
		t.Fatalf("build the driver of the Go client: %v\n%s", err, out)
	}
	other, err := driver.Start(child.Command{Path: program, Dir: dir, Env: []string{"HOME=" + dir}}, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Kill)
	p := &post{t: t, other: other, names: c.Names[0].Addr(), topic: space() + "post"}
	if p.conn, err = connect(t, c, client)(t.Context(), "ours"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.conn.Close(context.Background()) })
	if err := p.conn.Extensions().Topics.CreateTopic(t.Context(), sluice.TopicInfo{Name: p.topic, Queues: 2}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *post) do(verb string, arguments ...string) driver.Line {
	p.t.Helper()
	l, err := p.other.Do(patience, verb, arguments...)
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

// inbox collects what our side gets.
type inbox struct {
	member
	got chan *sluice.Delivery
}

// Assigned passes everything on and acknowledges it.
func (i *inbox) Assigned(lane sluice.Lane) {
	go func() {
		for {
			ds, err := lane.Fetch(context.Background(), 16)
			if err != nil {
				return
			}
			for _, d := range ds {
				if lane.Settle(context.Background(), []sluice.Settlement{{Delivery: d, Outcome: sluice.Ack}}) == nil {
					i.got <- d
				}
			}
		}
	}()
}

// Apache's Go client sends, ours consumes.
func fromApache(t *testing.T, c *peer.Cluster) {
	p := newPost(t, c)
	in := &inbox{got: make(chan *sluice.Delivery, 100)}
	if _, err := p.conn.Subscribe(t.Context(), sluice.SubscribeSpec{Group: p.topic + "-g", Topic: p.topic}, in); err != nil {
		t.Fatal(err)
	}
	p.do("producer", "h", "p", "ns", p.names, "group", p.topic+"-p")
	due := map[string]time.Time{}
	for _, m := range letters {
		arguments := []string{"h", "p", "topic", p.topic, "body", m.body}
		if m.tag != "" {
			arguments = append(arguments, "tags", m.tag)
		}
		if len(m.keys) > 0 {
			arguments = append(arguments, "keys", strings.Join(m.keys, " "))
		}
		if m.delay > 0 { // level n is n seconds here
			arguments = append(arguments, "delay", strconv.Itoa(int(m.delay/time.Second)))
		}
		for name, value := range m.props {
			arguments = append(arguments, "prop."+name, value)
		}
		due[m.body] = time.Now().Add(m.delay)
		p.do("send", arguments...)
	}
	p.do("send", "h", "p", "topic", p.topic, "mode", "batch", "body", strings.Join(batched, ","), "tags", "T")
	got := map[string]*sluice.Delivery{}
	for end := time.After(patience); len(got) < len(letters)+len(batched); {
		select {
		case d := <-in.got:
			if got[string(d.Body)] != nil {
				t.Errorf("%.20q came twice", d.Body)
			}
			got[string(d.Body)] = d
			if early := time.Until(due[string(d.Body)]); early > 0 {
				t.Errorf("%.20q came %v too early", d.Body, early)
			}
		case <-end:
			t.Fatalf("%d of %d messages came", len(got), len(letters)+len(batched))
		}
	}
	for _, m := range letters {
		d := got[m.body]
		if d == nil {
			t.Errorf("%.20q did not come as it was sent", m.body)
			continue
		}
		if d.Tag != m.tag || !slices.Equal(d.Keys, m.keys) || !maps.Equal(d.Properties, m.props) || d.ID == "" || d.Attempt != 1 {
			t.Errorf("%.20q came as %+v", m.body, d)
		}
	}
	for _, body := range batched {
		if d := got[body]; d == nil || d.Tag != "T" {
			t.Errorf("%q of a batch came as %+v", body, d)
		}
	}
}

// Ours sends, Apache's Go client consumes.
func toApache(t *testing.T, c *peer.Cluster) {
	p := newPost(t, c)
	p.do("push", "h", "c", "ns", p.names, "group", p.topic+"-g", "topic", p.topic, "whole", "1")
	due := map[string]time.Time{}
	var errs []error
	for _, m := range letters {
		out := &sluice.Message{Topic: p.topic, Tag: m.tag, Keys: m.keys, Body: []byte(m.body), Properties: m.props}
		if m.delay > 0 {
			out.DeliverAt = time.Now().Add(m.delay)
			due[m.body] = out.DeliverAt
		}
		errs = append(errs, p.conn.Send(t.Context(), sluice.SendRequest{Messages: []*sluice.Message{out}})[0].Err)
	}
	var batch []*sluice.Message
	for _, body := range batched {
		batch = append(batch, &sluice.Message{Topic: p.topic, Tag: "T", Body: []byte(body)})
	}
	for _, r := range p.conn.Send(t.Context(), sluice.SendRequest{Messages: batch}) {
		errs = append(errs, r.Err)
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	lines, ok := p.other.Stream("c").Wait("got", len(letters)+len(batched), patience)
	if !ok {
		t.Fatalf("%d of %d messages came: %v", len(lines), len(letters)+len(batched), lines)
	}
	got := map[string]driver.Line{}
	for _, l := range lines {
		name, _, _ := strings.Cut(l.Text("body"), "#")
		got[name] = l
		if at, ok := due[name]; ok && time.UnixMilli(l.Int("at")).Before(at.Add(-time.Millisecond)) {
			t.Errorf("%q came at %v, too early for %v", name, time.UnixMilli(l.Int("at")), at)
		}
	}
	for _, m := range letters {
		l := got[m.body]
		if l == nil {
			t.Errorf("%.20q did not come as it was sent", m.body)
			continue
		}
		props := l.Map("props")
		if l.Text("tags") != m.tag || l.Text("keys") != strings.Join(m.keys, " ") {
			t.Errorf("%.20q came with the tag %q and the keys %q", m.body, l.Text("tags"), l.Text("keys"))
		}
		for name, value := range m.props {
			if props[name] != value {
				t.Errorf("%.20q came with %s = %q, want %q", m.body, name, props[name], value)
			}
		}
	}
	for _, body := range batched {
		if l := got[body]; l == nil || l.Text("tags") != "T" {
			t.Errorf("%q of a batch came as %v", body, l)
		}
	}
	p.do("close", "h", "c")
}

// requests go both ways: ours answers Apache's Go client, and that answers ours.
// The one of Apache's may tell a broker where it is with its next heartbeat only,
// which comes every 30 s; until then its request is answered in vain.
func requests(t *testing.T, c *peer.Cluster) {
	p := newPost(t, c)
	asks := p.conn.Extensions().Requests
	in := &inbox{got: make(chan *sluice.Delivery, 100)}
	spec := sluice.SubscribeSpec{Group: p.topic + "-ours", Topic: p.topic, Filter: sluice.Filter{Tags: []string{"theirs"}}}
	if _, err := p.conn.Subscribe(t.Context(), spec, in); err != nil {
		t.Fatal(err)
	}
	p.do("producer", "h", "p", "ns", p.names, "group", p.topic+"-p")
	for i := range 3 {
		body := fmt.Sprint("ask", i)
		answered := make(chan error, 1)
		go func() {
			d := <-in.got
			for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
				err := asks.Reply(t.Context(), d, &sluice.Message{Body: append([]byte("re:"), d.Body...), Properties: map[string]string{"q": "w"}})
				if sluice.CodeOf(err) != sluice.NotFound || time.Now().After(end) {
					answered <- err
					return
				}
			}
		}()
		l, err := p.other.Do(patience, "send", "h", "p", "topic", p.topic, "tags", "theirs", "mode", "request", "body", body, "ttl", "45000")
		if failed := <-answered; failed != nil || err != nil || l.Text("reply") != "re:"+body || l.Map("props")["q"] != "w" {
			t.Fatalf("our answer to %q, sent with %v, came as %v, %v", body, failed, l, err)
		}
	}
	p.do("push", "h", "c", "ns", p.names, "group", p.topic+"-theirs", "topic", p.topic, "tags", "ours", "reply", "1")
	for i := range 3 {
		body := fmt.Sprint("ask", i)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got, err := asks.Request(ctx, &sluice.Message{Topic: p.topic, Tag: "ours", Body: []byte(body)})
		cancel()
		if err != nil || string(got.Body) != "re:"+body || got.Topic != p.topic || got.ID == "" {
			t.Fatalf("Apache's client answered %q by %+v, %v", body, got, err)
		}
	}
	p.do("close", "h", "c")
	p.do("close", "h", "p")
}

// foreign runs both ways and keeps their rows.
func foreign(t *testing.T, layout string, c *peer.Cluster) {
	mail := fmt.Sprintf("%d messages with keys, tags, trace context, a delay, compression, a batch", len(letters)+len(batched))
	for _, way := range []struct {
		name, what string
		run        func(*testing.T, *peer.Cluster)
	}{
		{"from Apache's Go client", mail, fromApache}, {"to Apache's Go client", mail, toApache},
		{"requests of and to Apache's Go client", "3 requests each way, answered", requests},
	} {
		t.Run(way.name, func(t *testing.T) {
			defer keep(t, layout, way.name, sentence(way.what), time.Now())
			way.run(t, c)
		})
	}
}

// sentence is a result that is a text.
type sentence string

func (s sentence) String() string { return string(s) }
