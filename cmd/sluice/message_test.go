package main

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
	"github.com/sluicemq/sluice/broker/server"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

func TestMessage_SendAndGet(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.refuses(exitRefused, "topic orders is not known", "message", "send", "orders", "body")
	k.ok("topic", "create", "orders", "-queues", "1")
	k.prints("sent ID------------------------------ to orders: broker broker-a, queue 0, offset 0\n",
		"message", "send", "orders", "first", "-tag", "paid", "-key", "k1", "-key", "k2", "-property", "shop=x=y")
	sent := k.objects("message", "send", "orders", "second line\nof two\x1b[2J")[0]
	if sent["offset"] != 1.0 || sent["status"] != "stored" || sent["topic"] != "orders" {
		t.Errorf("printed %v", sent)
	}
	id, offsetID := sent["id"].(string), sent["offset_id"].(string)
	for _, args := range [][]string{{id, "-topic", "orders"}, {offsetID}, {offsetID, "-topic", "orders"}} {
		x := k.objects(append([]string{"message", "get"}, args...)...)[0]
		if x["id"] != id || x["offset_id"] != offsetID || x["body"] != "second line\nof two\x1b[2J" || x["offset"] != 1.0 {
			t.Errorf("get %q printed %v", args, x)
		}
	}
	got := k.ok("message", "get", id, "-topic", "orders")
	for _, want := range []string{
		"id          " + id + "\n", "place       broker broker-a, queue 0, offset 1\n", "  UNIQ_KEY = " + id + "\n",
		`"second line\nof two\x1b[2J"`, // no command for the terminal
	} {
		if !strings.Contains(got, want) {
			t.Errorf("printed\n%s\nwant %q", got, want)
		}
	}
	if got := k.ok("message", "get", offsetID, "-raw"); got != "second line\nof two\x1b[2J" {
		t.Errorf("printed %q", got)
	}
	k.refuses(exitRefused, "a unique id takes -topic TOPIC, too", "message", "get", id)
	k.refuses(exitRefused, "is not known", "message", "get", strings.Repeat("A", 32), "-topic", "orders")
	k.refuses(exitRefused, "a broker at 9.9.9.9:10911, which the id names, is not known", "message", "get", "0909090900002A9F0000000000000000")
	k.refuses(exitRefused, "is not known", "message", "get", offsetID[:16]+"00000000FFFFFFFF")
}

func TestMessage_SendInputs(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.ok("topic", "create", "orders", "-queues", "2")
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte("one\n\ntwo\r\n\xff"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := k.objects("message", "send", "orders", "-file", file, "-lines", "-queue", "1"); len(all) != 3 || all[2]["offset"] != 2.0 {
		t.Errorf("printed %v", all)
	}
	k.ok("message", "send", "orders", "-file", file, "-queue", "1")
	var bodies []any
	for _, x := range k.objects("message", "browse", "orders", "-queue", "1", "-from", "0", "-body") {
		if x["body"] != nil {
			bodies = append(bodies, x["body"])
		} else {
			bodies = append(bodies, x["body_base64"])
		}
	}
	raw := base64.StdEncoding.EncodeToString([]byte("one\n\ntwo\r\n\xff"))
	if len(bodies) != 4 || bodies[0] != "one" || bodies[1] != "two" || bodies[2] != "/w==" || bodies[3] != raw {
		t.Errorf("bodies %q", bodies)
	}
	k.refuses(exitFailed, "no such file", "message", "send", "orders", "-file", file+"x")
	if r := k.call("message", "send", "orders", "x", "-queue", "7"); r.code != exitRefused || strings.Contains(r.err, "did you mean") ||
		r.err != "sluice: topic orders has no queue 7, it has 0 to 1\n" {
		t.Errorf("%+v", r)
	}
	k.refuses(exitRefused, "sluice: topic orders is not on broker b, it is on broker-a\n", "message", "send", "orders", "x", "-broker", "b")
	k.ok("topic", "create", "closed", "-perm", "r")
	k.refuses(exitRefused, "sluice: topic closed takes no messages: its permission is r\n", "message", "send", "closed", "x")
	k.refuses(exitRefused, "sluice: topic closed takes no messages on broker broker-a: its permission is r\n", "message", "send", "closed", "x", "-broker", "broker-a", "-queue", "9")
	k.refuses(exitRefused, "sluice: topic closed has no queue 9, it has 0 to 3\n", "message", "browse", "closed", "-queue", "9")
}

// Who sends lines is told at which one it ended, and how many were sent.
func TestMessage_SendLinesFails(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.ok("topic", "create", "orders", "-queues", "1")
	file := filepath.Join(t.TempDir(), "lines")
	args := []string{"message", "send", "orders", "-lines", "-file", file}
	fill := func(lines ...string) {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill("one", "", "two", strings.Repeat("x", maxLine)+"\r", strings.Repeat("x", maxLine+1), "three")
	r := k.call(args...)
	if want := "sluice: line 5: it has more than 4.0 MiB, which brokers do not take; 3 messages were sent before it\n"; r.code != exitRefused ||
		r.err != want || strings.Count(r.out, "\n") != 3 {
		t.Errorf("exit code %d, printed %q, told %q, want %q", r.code, r.out, r.err, want)
	}
	fill(strings.Repeat("x", 5<<20))
	k.refuses(exitRefused, "sluice: line 1: it has more than 4.0 MiB, which brokers do not take; nothing was sent before it\n", args...)

	fill("one", "", "two")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs strings.Builder
	code := run(ctx, append(args, "-addr", k.addr), &cancelling{cancel: cancel}, &errs)
	if want := "sluice: interrupted before line 2; 1 message was sent\n"; code != exitInterrupted || errs.String() != want {
		t.Errorf("interrupted: exit code %d, told %q, want %q", code, errs.String(), want)
	}
	errs.Reset()
	code = run(t.Context(), append(args, "-addr", k.addr), broken{}, &errs)
	if want := "sluice: line 1: it was done, but this was not told: print: "; code != exitFailed || !strings.HasPrefix(errs.String(), want) {
		t.Errorf("nobody reads: exit code %d, told %q, want %q", code, errs.String(), want)
	}
}

// What was under way when Ctrl-C came may have been done.
func TestMessage_SendInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	flight := &cluster.UnreachableError{Op: "send to topic orders", Addr: "mq:1", MaybeDone: true, Err: context.Canceled}
	n := 0
	err := sendLines(ctx, strings.NewReader("one\n\ntwo\nthree\n"), func([]byte) (bool, error) {
		if n++; n < 3 {
			return true, nil
		}
		cancel()
		return false, flight
	})
	for want, err := range map[string]error{
		"sluice: interrupted at line 4, which may have been sent all the same; 2 messages were sent before it\n": err,
		"sluice: interrupted: send to topic orders at mq:1 may have been done all the same\n":                    flight,
		"sluice: interrupted\n": context.Canceled,
	} {
		var errs strings.Builder
		if code := newRemote("message send", "", nil, &errs).exit(ctx, err); code != exitInterrupted || errs.String() != want {
			t.Errorf("exit code %d, told %q, want %q", code, errs.String(), want)
		}
	}
}

// Ctrl-C ends the program that writes the lines, too: its end is not that of the
// work.
func TestMessage_SendInterruptedPipe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	err := sendLines(ctx, strings.NewReader("one\n"), func([]byte) (bool, error) {
		cancel()
		return true, nil
	})
	e, ok := errors.AsType[*linesError](err)
	if want := "before line 2; 1 message was sent"; !ok || e.where() != want {
		t.Errorf("told %v, want %q", err, want)
	}
}

// A line that a failing disk has cut off is no message.
func TestMessage_SendHalfLine(t *testing.T) {
	t.Parallel()
	in := io.MultiReader(strings.NewReader("one\nhal"), iotest.ErrReader(errors.New("the disk is gone")))
	var got []string
	err := sendLines(t.Context(), in, func(body []byte) (bool, error) {
		got = append(got, string(body))
		return true, nil
	})
	if want := "line 2: read it: the disk is gone; 1 message was sent before it"; err == nil || err.Error() != want || !slices.Equal(got, []string{"one"}) {
		t.Errorf("sent %q, told %v, want %q", got, err, want)
	}
}

func TestMessage_Delayed(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.ok("topic", "create", "orders", "-queues", "1")
	at := time.Now().Add(time.Hour).Format(time.RFC3339)
	for _, args := range [][]string{{"-delay", "1h"}, {"-at", at}, {"-delay-level", "18"}} {
		got := k.ok(append([]string{"message", "send", "orders", "later"}, args...)...)
		if !strings.HasPrefix(got, "took ") || !strings.HasSuffix(got, " for orders, to be delivered later\n") {
			t.Errorf("%q printed %q", args, got)
		}
	}
	k.refuses(exitRefused, "sluice: -delay takes at most 72h, says the broker at "+k.addr+"\n", "message", "send", "orders", "never", "-delay", "9999h")
	k.refuses(exitRefused, "sluice: -at takes a time at most 72h ahead, says the broker at "+k.addr+"\n", "message", "send", "orders", "never", "-at", "2099-01-31T18:00:00Z")
	k.prints("there are no such messages\n", "message", "browse", "orders")
	k.prints("sent ID------------------------------ to orders: broker broker-a, queue 0, offset 0, to be delivered at once: the time of -at is past\n",
		"message", "send", "orders", "due", "-at", "2026-01-31T18:00:00Z")
	if x := k.objects("message", "send", "orders", "due", "-at", "2026-01-31T18:00:00Z")[0]; x["delayed"] != nil || x["offset"] != 1.0 {
		t.Errorf("printed %v", x)
	}
}

// Times in JSON have one form, whatever their milliseconds are.
func TestShortly(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		72 * time.Hour: "72h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 90 * time.Second: "1m30s", 30 * time.Second: "30s", 500 * time.Millisecond: "500ms",
	} {
		if got := shortly(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

func TestMessage_Times(t *testing.T) {
	t.Parallel()
	for ms, want := range map[int64]string{
		1700000000000: `"2023-11-14T22:13:20.000Z"`, 1700000000120: `"2023-11-14T22:13:20.120Z"`, 1700000000123: `"2023-11-14T22:13:20.123Z"`,
	} {
		if got, err := json.Marshal(cluster.Millis(ms)); err != nil || string(got) != want {
			t.Errorf("%d is %s, want %s, %v", ms, got, want, err)
		}
	}
	k := serveRemote(t, server.Config{})
	k.bury(1)
	for _, args := range [][]string{{"topic", "show", "orders"}, {"lag", "billing"}, {"message", "browse", "orders"}, {"dlq", "list"}, {"dlq", "peek", "billing"}} {
		out := k.ok(append(args, "-json")...)
		all := regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`).FindAllString(out, -1)
		for _, s := range all {
			if !regexp.MustCompile(`T\d\d:\d\d:\d\d\.\d{3}Z"$`).MatchString(s) {
				t.Errorf("sluice %q printed the time %s", args, s)
			}
		}
		if len(all) == 0 {
			t.Errorf("sluice %q printed no time: %s", args, out)
		}
	}
}

func TestMessage_Browse(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.send("orders", 50)
	k.ok("message", "send", "orders", "other", "-tag", "refunded", "-property", "amount=7")
	offsets := func(want string, args ...string) {
		t.Helper()
		var got []string
		for line := range strings.Lines(k.ok(append([]string{"message", "browse", "orders"}, args...)...)) {
			if f := strings.Fields(line); f[0] != "STORED" {
				got = append(got, f[3])
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("browse %q: offsets %v, want %s", args, got, want)
		}
	}
	offsets("49 50", "-limit", "2")
	offsets("0 1 2", "-limit", "3", "-from", "first")
	offsets("0 1", "-limit", "2", "-from", "1h")
	offsets("7 8", "-limit", "2", "-from", "7", "-queue", "0")
	offsets("50", "-tag", "refunded || lost")
	offsets("48 49", "-tag", "paid", "-limit", "2")
	offsets("50", "-sql", "amount > 5")
	offsets("50", "-tag", "refunded", "-from", "first")
	if n := len(k.objects("message", "browse", "orders", "-limit", "10000")); n != 51 {
		t.Errorf("%d messages, want 51", n)
	}
	k.prints(`
STORED                    BROKER    QUEUE  OFFSET  ID                                TAG       KEYS  SIZE  BODY
TIME--------------------  broker-a      0      50  ID------------------------------  refunded  -      5 B  other
`, "message", "browse", "orders", "-limit", "1", "-body")
	k.refuses(exitRefused, "did you mean orders?", "message", "browse", "order")
	k.ok("topic", "create", "audit", "-queues", "2")
	k.ok("message", "send", "audit", "x", "-queue", "0")
	k.ok("message", "send", "audit", "x", "-queue", "1")
	k.ok("topic", "update", "audit", "-perm", "w")
	k.refuses(exitRefused, "sluice: topic audit gives no messages: its permission is w; sluice topic update audit -perm rw changes it\n", "message", "browse", "audit")
}

// What can be read before a damaged message is shown, and so is what is wrong
// with that one.
func TestMessage_BrowseDamage(t *testing.T) {
	t.Parallel()
	const damaged = 37
	dir := makeStore(t, embedded.Config{Queues: 1}, func(k *storeKit) {
		for i := range 60 {
			k.send(&driver.Message{Topic: "orders", ID: fmt.Sprint("id-", i), Tag: []string{"even", "odd"}[i%2], Body: fmt.Appendf(nil, "body %d of them", i)})
		}
	})
	change(t, dir, files(t, dir, ".log")[0], func(b []byte) []byte {
		at := bytes.Index(b, fmt.Appendf(nil, "body %d of", damaged))
		copy(b[at-10:], bytes.Repeat([]byte("x"), 20))
		return b
	})
	k := serveStore(t, dir, server.Config{})
	for _, c := range []struct {
		args        string
		first, last int // offsets that are shown, none below 0
		where       string
	}{
		{"-from first -limit 100", 0, damaged - 1, "offset 37 of"},
		{"-limit 40", 20, damaged - 1, "offset 37 of"}, // the newest ones
		{"-from 36 -queue 0", 36, damaged - 1, "offset 37 of"},
		{"-from 37 -queue 0", -1, -1, "offset 37 of"},
		{"-from 36 -queue 0 -tag odd", -1, -1, "offset 36 or behind it of"},
		{"-from 38 -queue 0 -limit 100", damaged + 1, 59, ""},
		{"-limit 3", 57, 59, ""},
	} {
		r := k.call(strings.Fields("message browse orders -json " + c.args)...)
		var got []int
		for line := range strings.Lines(r.out) {
			var x struct{ Offset int }
			if err := json.Unmarshal([]byte(line), &x); err != nil {
				t.Fatal(err)
			}
			got = append(got, x.Offset)
		}
		var want []int
		for i := c.first; i >= 0 && i <= c.last; i++ {
			want = append(want, i)
		}
		if !slices.Equal(got, want) {
			t.Errorf("browse %s: offsets %v, want %v", c.args, got, want)
		}
		if c.where == "" {
			if r.code != exitFine || r.err != "" {
				t.Errorf("browse %s: exit code %d, told %q", c.args, r.code, r.err)
			}
			continue
		}
		if says := "sluice: the message at " + c.where + " queue 0 on broker broker-a cannot be read: read topic orders at "; r.code != exitRefused ||
			!strings.HasPrefix(r.err, says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("browse %s: exit code %d, told %q, want %q", c.args, r.code, r.err, says)
		}
	}
}

func TestMessage_Find(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.send("orders", 3)
	k.ok("message", "send", "orders", "again", "-key", "k1", "-key", "other")
	k.prints(`
STORED                    BROKER    QUEUE  OFFSET  ID                                TAG   KEYS      SIZE  BODY
TIME--------------------  broker-a      0       1  ID------------------------------  paid  k1         6 B  body 1
TIME--------------------  broker-a      0       3  ID------------------------------  -     k1 other   5 B  again
`, "message", "find", "orders", "-key", "k1", "-body")
	if all := k.objects("message", "find", "orders", "-key", "k1", "-since", "1h"); len(all) != 2 {
		t.Errorf("printed %v", all)
	}
	k.refuses(exitRefused, "a message of topic orders with key k1 is not known", "message", "find", "orders", "-key", "k1", "-until", "1h")
	k.refuses(exitRefused, "did you mean orders?", "message", "find", "order", "-key", "k1")
}

// Bodies that a client has compressed are shown as they were.
func TestMessage_Compressed(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.ok("topic", "create", "orders", "-queues", "1")
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write([]byte("plain text"))
	_ = w.Close()
	k.sendRaw(packed.Bytes())
	k.sendRaw([]byte("not compressed at all"))
	all := k.objects("message", "browse", "orders", "-body")
	if all[0]["body"] != "plain text" || all[1]["body"] != nil || all[1]["body_error"] == nil {
		t.Errorf("printed %v", all)
	}
	if got := k.ok("message", "browse", "orders", "-body"); !strings.Contains(got, "plain text\n") || !strings.Contains(got, "(inflate body of 21 bytes by zlib to ") {
		t.Errorf("printed %s", got)
	}
}

// sendRaw sends a body that is said to be compressed.
func (k *remoteKit) sendRaw(body []byte) {
	k.t.Helper()
	conn, err := rpc.Dial(k.t.Context(), "tcp", k.addr, rpc.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	req := &remoting.Command{Code: remoting.ReqSendMessageV2, Body: body}
	remoting.SendMessage{
		ProducerGroup: "p", Topic: "orders", DefaultTopic: "TBW102", DefaultTopicQueues: 4, SysFlag: message.SysCompressed, MaxReconsumeTimes: -1,
	}.AppendTo(req.Code, &req.Fields)
	resp, err := conn.Call(k.t.Context(), req)
	if err != nil || resp.Code != remoting.ResSuccess {
		k.t.Fatal(err, resp)
	}
}

// A member in this process sees what was sent, as it was meant.
func TestMessage_Received(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.ok("topic", "create", "orders", "-queues", "1")
	k.ok("message", "send", "orders", "body", "-tag", "paid", "-key", "k1", "-property", "shop=north")
	got := make(lanes, 8)
	sub, err := k.conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: "g", Topic: "orders"}, got)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close(context.Background()) }()
	lane := <-got
	for lane.Info().Retry {
		lane = <-got
	}
	var ds []*driver.Delivery
	for len(ds) == 0 {
		if ds, err = lane.Fetch(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	d := ds[0]
	if string(d.Body) != "body" || d.Tag != "paid" || len(d.Keys) != 1 || d.Keys[0] != "k1" || d.Properties["shop"] != "north" {
		t.Errorf("received %+v", d)
	}
}
