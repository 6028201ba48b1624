package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/server"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

// Nobody who answers is not the same as an answer that is no.
func TestRemote_ExitCodes(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	gone := "127.0.0.1:1" // a port that nothing here takes
	if r := call(t.Context(), "topic", "list", "-addr", gone); r.code != exitFailed || !strings.Contains(r.err, "list the topics at "+gone) {
		t.Errorf("nobody there: %+v", r)
	}
	if r := call(t.Context(), "topic", "list", "-addr", gone+","+k.addr); r.code != exitFine {
		t.Errorf("the second name server is there: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range []string{"topic list", "lag", "message browse t", "dlq redrive g", "group show g"} {
		r := call(ctx, append(strings.Fields(args), "-addr", k.addr)...)
		if r.code != exitInterrupted || r.err != "sluice: interrupted\n" || strings.Contains(r.out, "no ") {
			t.Errorf("%s, interrupted: %+v", args, r)
		}
	}
}

// Servers that speak something else say nothing about it: a question helps.
func TestRemote_OtherProtocols(t *testing.T) {
	t.Parallel()
	s := newSecrets(t)
	plain, secure := serveRemote(t, server.Config{}), served(t, "-tls-cert", s.cert, "-tls-key", s.key)
	web, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := web.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_, _ = io.Copy(io.Discard, conn) // until the other side has read it
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = web.Close()
		<-ended
	})
	plain.refuses(exitFailed, "does it talk TLS at all?", "topic", "list", "-tls", "-tls-skip-verify")
	secure.refuses(exitFailed, "does it talk TLS, or another protocol?", "topic", "list")
	addr := web.Addr().String()
	for want, args := range map[string][]string{
		"it answers in HTTP, not in RocketMQ's protocol": {"topic", "list", "-addr", addr},
		"does it talk TLS at all?":                       {"topic", "list", "-addr", addr, "-tls", "-tls-skip-verify"},
	} {
		if r := call(t.Context(), args...); r.code != exitFailed || !strings.Contains(r.err, want) {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if r := call(t.Context(), "topic", "list", "-addr", "127.0.0.1:1"); strings.Contains(r.err, "TLS") {
		t.Errorf("nobody there: %+v", r)
	}
}

// A server that has as many connections as it may have closes one more without a
// word, like one that speaks something else.
func TestRemote_TooManyConnections(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{Limits: server.Limits{PerAddress: 1}})
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", k.addr)
	if err != nil {
		t.Fatal(err)
	}
	k.refuses(exitFailed, "Or has it as many connections as its limits allow? Its log says so", "topic", "list")
	_ = conn.Close()
}

func TestRemote_NobodyReads(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.send("orders", 1)
	for _, args := range []string{"topic list", "topic list -json", "topic show orders", "message browse orders -json", "message send orders x"} {
		var errs strings.Builder
		if code := run(t.Context(), append(strings.Fields(args), "-addr", k.addr), broken{}, &errs); code != exitFailed {
			t.Errorf("%s: exit code %d, told %q", args, code, errs.String())
		}
	}
	// What was done is not taken for what failed.
	for _, args := range []string{"topic create bills", "topic update bills -perm r", "message send orders x -json", "topic delete bills -yes"} {
		var errs strings.Builder
		if code := run(t.Context(), append(strings.Fields(args), "-addr", k.addr), broken{}, &errs); code != exitFailed ||
			!strings.HasPrefix(errs.String(), "sluice: it was done, but this was not told: print: ") {
			t.Errorf("%s: exit code %d, told %q", args, code, errs.String())
		}
	}
}

// Addresses and keys may come from the environment; flags win.
func TestRemote_Environment(t *testing.T) {
	k := serveRemote(t, server.Config{})
	t.Setenv("SLUICE_ADDR", k.addr)
	if r := call(t.Context(), "topic", "list"); r.code != exitFine {
		t.Errorf("%+v", r)
	}
	t.Setenv("SLUICE_ADDR", "127.0.0.1:1")
	if r := call(t.Context(), "topic", "list"); r.code != exitFailed {
		t.Errorf("%+v", r)
	}
	k.ok("topic", "list")
	t.Setenv("SLUICE_ADDR", "nowhere")
	if r := call(t.Context(), "topic", "list"); !strings.Contains(r.err, `: $SLUICE_ADDR takes host:port, such as `) {
		t.Errorf("%+v", r)
	}
	for _, addr := range []string{"nowhere", ""} { // whoever has named the default knows it
		t.Setenv("SLUICE_ADDR", addr)
		var errs strings.Builder
		code := newRemote("topic list", "", nil, &errs).exit(t.Context(), &cluster.UnreachableError{Op: "list", Addr: defaultAddr, Err: io.EOF})
		if hint := "EOF; that is the default, -addr or $SLUICE_ADDR name another\n"; code != exitFailed || strings.HasSuffix(errs.String(), hint) != (addr == "") {
			t.Errorf("with %q exit code %d, told %q", addr, code, errs.String())
		}
	}
	t.Setenv("SLUICE_ADDR", k.addr)
	acl, err := server.ParseACL([]byte("accounts: [{accessKey: operator-key, secretKey: operator-secret, admin: true}]"))
	if err != nil {
		t.Fatal(err)
	}
	k = serveRemote(t, server.Config{ACL: acl})
	k.refuses(exitRefused, "code 16", "topic", "list")
	t.Setenv("SLUICE_ACCESS_KEY", "operator-key")
	k.refuses(exitFailed, "takes a secret in $SLUICE_SECRET_KEY", "topic", "list")
	t.Setenv("SLUICE_SECRET_KEY", "operator-secret")
	k.ok("topic", "list")
}

// Ctrl-C ends a command that waits for standard input.
func TestInterruptible(t *testing.T) {
	t.Parallel()
	in, out := io.Pipe()
	defer func() { _ = out.Close() }()
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &interruptible{ctx: ctx, in: in, buf: make([]byte, 4)}
	go func() { _, _ = out.Write([]byte("abcdef")) }()
	for _, want := range []string{"abc", "def"} {
		got := make([]byte, 3)
		if n, err := r.Read(got); err != nil || string(got[:n]) != want {
			t.Errorf("read %q, %v", got[:n], err)
		}
	}
	cancel(errors.New("enough"))
	if _, err := r.Read(make([]byte, 3)); err == nil || err.Error() != "enough" {
		t.Errorf("interrupted: %v", err)
	}
}

func TestParsePoint(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 18, 0, 0, 0, time.UTC)
	for s, want := range map[string]cluster.Point{
		"first": {Kind: cluster.First}, "last": {Kind: cluster.Last}, "0": {Kind: cluster.AtOffset}, "17": {Kind: cluster.AtOffset, Offset: 17},
		"2h":                   {Kind: cluster.AtTime, Time: now.Add(-2 * time.Hour)},
		"2026-01-31T17:00:00Z": {Kind: cluster.AtTime, Time: now.Add(-time.Hour)},
		"2026-01-31 17:00":     {Kind: cluster.AtTime, Time: time.Date(2026, 1, 31, 17, 0, 0, 0, time.Local)},
		"2026-01-31":           {Kind: cluster.AtTime, Time: time.Date(2026, 1, 31, 0, 0, 0, 0, time.Local)},
	} {
		got, err := parsePoint(s, now)
		if err != nil || got.Kind != want.Kind || got.Offset != want.Offset || !got.Time.Equal(want.Time) {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-1", "-2h", "yesterday", "2026-13-01"} {
		if got, err := parsePoint(s, now); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cell any
		want string
	}{
		{7, "7"},
		{int64(-1234567), "-1,234,567"},
		{int64(-123), "-123"},
		{1000, "1,000"},
		{size(0), "0 B"},
		{size(1023), "1023 B"},
		{size(1536), "1.5 KiB"},
		{size(5 << 40), "5.0 TiB"},
		{size(5 << 50), "5120.0 TiB"},
		{rate(1.25), "1.2/s"},
		{"", "-"},
		{"标签", "标签"},
		{"a\x1b[2J", `"a\x1b[2J"`},
		{"\xff", `"\xff"`},
		{time.Time{}, "-"},
		{time.UnixMilli(1700000000123), "2023-11-14T22:13:20.123Z"},
	} {
		if got, _ := shown(c.cell); got != c.want {
			t.Errorf("%v is shown as %q, want %q", c.cell, got, c.want)
		}
	}
	now := time.UnixMilli(1700000000000)
	for d, want := range map[time.Duration]string{
		-time.Second: "now", 0: "now", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 90 * time.Minute: "1h30m", 47 * time.Hour: "47h0m", 72 * time.Hour: "3d",
	} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v ago is %q, want %q", d, got, want)
		}
	}
}
