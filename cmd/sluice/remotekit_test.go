package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
	"github.com/sluicemq/sluice/broker/server"
)

// remoteKit is a server in this process, on a free port.
type remoteKit struct {
	t      *testing.T
	addr   string
	broker *embedded.Broker
	conn   driver.Conn
}

// serveRemote starts a server whose store is in memory.
func serveRemote(t *testing.T, cfg server.Config) *remoteKit {
	t.Helper()
	return serveStore(t, "", cfg)
}

// serveStore starts a server on the store in dir.
func serveStore(t *testing.T, dir string, cfg server.Config) *remoteKit {
	t.Helper()
	b, err := embedded.Open(dir, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = cmp.Or(cfg.Listen, "127.0.0.1:0")
	s, err := server.Open(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close server: %v", err)
		}
		if err := b.Close(context.Background()); err != nil {
			t.Errorf("close broker: %v", err)
		}
	})
	return &remoteKit{t, s.Addr().String(), b, b.Connect("test")}
}

// call runs the command against the server.
func (k *remoteKit) call(args ...string) result {
	k.t.Helper()
	return call(k.t.Context(), append(args, "-addr", k.addr)...)
}

// call runs the command.
func call(ctx context.Context, args ...string) result {
	var out, errs strings.Builder
	code := run(ctx, args, &out, &errs)
	return result{out.String(), errs.String(), code}
}

// ok runs the command, requires that it succeeds, and answers what it printed.
func (k *remoteKit) ok(args ...string) string {
	k.t.Helper()
	r := k.call(args...)
	if r.code != exitFine || r.err != "" {
		k.t.Fatalf("sluice %q: exit code %d, printed %q, told %q", args, r.code, r.out, r.err)
	}
	return r.out
}

// prints requires that the command succeeds and prints want, times and ids
// made stable.
func (k *remoteKit) prints(want string, args ...string) {
	k.t.Helper()
	if got := steady(k.ok(args...)); got != strings.TrimPrefix(want, "\n") {
		k.t.Errorf("sluice %q printed\n%s\nwant\n%s", args, got, want)
	}
}

// refuses requires an exit code and a text of the error.
func (k *remoteKit) refuses(code int, want string, args ...string) {
	k.t.Helper()
	r := k.call(args...)
	if r.code != code || !strings.Contains(r.err, want) {
		k.t.Errorf("sluice %q: exit code %d, want %d, told %q, want %q", args, r.code, code, r.err, want)
	}
}

// steady replaces what differs from run to run, and keeps its width.
func steady(s string) string {
	s = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`).ReplaceAllStringFunc(s, func(m string) string {
		return "TIME" + strings.Repeat("-", len("2006-01-02T15:04:05.000Z")-4)
	})
	s = regexp.MustCompile(`\b[0-9A-F]{32}\b`).ReplaceAllString(s, "ID"+strings.Repeat("-", 30))
	s = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(s, "ADDRESS")
	return regexp.MustCompile(`ADDRESS +`).ReplaceAllString(s, "ADDRESS  ")
}

// objects are the lines of JSON that a command has printed.
func (k *remoteKit) objects(args ...string) []map[string]any {
	k.t.Helper()
	var all []map[string]any
	for line := range strings.Lines(k.ok(append(args, "-json")...)) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			k.t.Fatalf("sluice %q: %q is no JSON: %v", args, line, err)
		}
		all = append(all, one)
	}
	return all
}

// lanes hands out the lanes that a member gets.
type lanes chan driver.Lane

func (l lanes) Assigned(x driver.Lane)             { l <- x }
func (lanes) Revoked(context.Context, driver.Lane) {}
func (lanes) Lost(driver.Lane)                     {}

// settle is a member of a group that settles the first n messages of a topic
// with one queue, and leaves.
func (k *remoteKit) settle(group, topic string, n int, s driver.Settlement) {
	k.t.Helper()
	ctx := k.t.Context()
	got := make(lanes, 64)
	sub, err := k.conn.Subscribe(ctx, driver.SubscribeSpec{Group: group, Topic: topic}, got)
	if err != nil {
		k.t.Fatal(err)
	}
	lane := <-got
	for lane.Info().Retry {
		lane = <-got
	}
	for n > 0 {
		ds, err := lane.Fetch(ctx, n)
		if err != nil {
			k.t.Fatal(err)
		}
		for _, d := range ds {
			s.Delivery = d
			if err := lane.Settle(ctx, []driver.Settlement{s}); err != nil {
				k.t.Fatal(err)
			}
			n--
		}
	}
	if err := sub.Close(ctx); err != nil {
		k.t.Fatal(err)
	}
}

// client registers a consumer over TCP, which stays until the test ends.
func (k *remoteKit) client(id, group, topic, expression string) {
	k.t.Helper()
	conn, err := rpc.Dial(k.t.Context(), "tcp", k.addr, rpc.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = conn.Close() })
	beat := remoting.Heartbeat{ClientID: id, Consumers: []remoting.ConsumerData{{
		Group: group, ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering, ConsumeFromWhere: remoting.FromFirstOffset,
		Subscriptions: []remoting.SubscriptionData{{Topic: topic, SubString: expression, ExpressionType: remoting.ExpressionTag, SubVersion: 1}},
	}}}
	resp, err := conn.Call(k.t.Context(), &remoting.Command{Code: remoting.ReqHeartbeat, Body: beat.AppendTo(nil)})
	if err != nil || resp.Code != remoting.ResSuccess {
		k.t.Fatal(err, resp)
	}
}

// send sends n messages to a topic, which is made with one queue.
func (k *remoteKit) send(topic string, n int) {
	k.t.Helper()
	k.ok("topic", "create", topic, "-queues", "1")
	for i := range n {
		k.ok("message", "send", topic, fmt.Sprintf("body %d", i), "-key", fmt.Sprintf("k%d", i), "-tag", "paid")
	}
}
