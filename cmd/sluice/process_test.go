package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// process is "sluice serve" in a process of its own.
type process struct {
	*remoteKit
	cmd *exec.Cmd
	out *bufio.Reader
	log *logText
}

// logText is what a process writes to standard error.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until a text is there.
func (l *logText) await(t *testing.T, want string) {
	t.Helper()
	for {
		l.mu.Lock()
		text, more := l.text.String(), l.more
		l.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		select {
		case <-more:
		case <-t.Context().Done():
			t.Fatalf("there is no %q in\n%s", want, text)
		}
	}
}

// start starts "sluice serve" and waits until it is ready.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{log: &logText{more: make(chan struct{})}}
	p.cmd = exec.Command(os.Args[0], append([]string{"serve", "-listen", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), runMain+"=1")
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadString('\n')
	ready := regexp.MustCompile(`^sluice serve: ready at ((?:127\.0\.0\.1|\[::\]):\d+)\n$`).FindStringSubmatch(line)
	if ready == nil {
		t.Fatalf("printed %q: %v; told\n%s", line, err, p.log)
	}
	p.remoteKit = &remoteKit{t: t, addr: ready[1]}
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for the end, and requires that nothing else was printed.
func (p *process) wait() *os.ProcessState {
	p.t.Helper()
	rest, err := io.ReadAll(p.out)
	if err != nil || len(rest) > 0 {
		p.t.Errorf("printed %q after the first line: %v", rest, err)
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState
}

// ends requires an orderly end within the time that is promised.
func (p *process) ends(s os.Signal) {
	p.t.Helper()
	begun := time.Now()
	p.signal(s)
	state := p.wait()
	if state.ExitCode() != exitFine || !strings.Contains(p.log.String(), "ended in order") {
		p.t.Errorf("%v: %v, told\n%s", s, state, p.log)
	}
	if d := time.Since(begun); d > 5*time.Second {
		p.t.Errorf("it took %v to end", d)
	}
}

// dial connects to the server.
func (k *remoteKit) dial() *rpc.Conn {
	k.t.Helper()
	conn, err := rpc.Dial(k.t.Context(), "tcp", k.addr, rpc.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A server ends in order while clients wait for messages, and keeps what it
// has answered.
func TestServe_Ends(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i, s := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		p := start(t, "-dir", dir, "-sync", "never")
		if i == 0 {
			p.ok("topic", "create", "orders", "-queues", "1")
		}
		p.ok("message", "send", "orders", fmt.Sprint("body ", i))
		var wg sync.WaitGroup
		defer wg.Wait()
		for range 3 {
			held := p.hold("orders", int64(i+1))
			wg.Go(func() { <-held })
		}
		p.ends(s)
	}
	p := start(t, "-dir", dir)
	if all := p.objects("message", "browse", "orders", "-body"); len(all) != 2 || all[1]["body"] != "body 1" {
		t.Errorf("the store has %v", all)
	}
	p.ends(syscall.SIGTERM)
	sluice(t, dir, "log", "verify", dir).has(t, exitFine, "closed in order", "messages 2,", "damage none")
}

// hold sends a pull that waits for a message; done is closed when it has ended.
func (k *remoteKit) hold(topic string, offset int64) (done chan struct{}) {
	k.t.Helper()
	conn := k.dial()
	req := &remoting.Command{Code: remoting.ReqPullMessage}
	remoting.PullMessage{
		Group: "g", Topic: topic, QueueOffset: offset, MaxMessages: 32, SysFlag: remoting.PullSubscription | remoting.PullSuspend,
		SuspendMillis: 20000, Subscription: "*",
	}.AppendTo(&req.Fields)
	done = make(chan struct{})
	go func() {
		defer close(done)
		_, _ = conn.Call(context.Background(), req)
	}()
	// Requests of a connection are served in their order.
	if _, err := conn.Call(k.t.Context(), &remoting.Command{Code: remoting.ReqGetClusterInfo}); err != nil {
		k.t.Fatal(err)
	}
	return done
}

// A server that was killed has what it has answered.
func TestServe_Killed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, "-dir", dir)
	p.ok("topic", "create", "orders", "-queues", "1")
	conn := p.dial()
	for i := range 100 {
		req := &remoting.Command{Code: remoting.ReqSendMessageV2, Body: fmt.Append(nil, i)}
		remoting.SendMessage{
			ProducerGroup: "p", Topic: "orders", DefaultTopic: "TBW102", DefaultTopicQueues: 4, MaxReconsumeTimes: -1,
			Properties: message.UniqKey + "\x01id-" + fmt.Sprint(i) + "\x02",
		}.AppendTo(req.Code, &req.Fields)
		if resp, err := conn.Call(t.Context(), req); err != nil || resp.Code != remoting.ResSuccess {
			t.Fatal(resp, err)
		}
	}
	p.signal(syscall.SIGKILL)
	p.wait()
	p = start(t, "-dir", dir)
	all := p.objects("message", "browse", "orders", "-from", "first", "-limit", "1000", "-body")
	if len(all) != 100 || all[99]["id"] != "id-99" || all[99]["body"] != "99" {
		t.Errorf("%d messages, the last one %v", len(all), all[len(all)-1])
	}
	p.ends(syscall.SIGTERM)
}

// A peer that takes nothing is cut off in time, and a second signal does not
// wait for it.
func TestServe_StalledPeer(t *testing.T) {
	t.Parallel()
	for _, second := range []bool{false, true} {
		p := start(t)
		p.ok("topic", "create", "orders", "-queues", "1")
		p.stall()
		if !second {
			p.ends(syscall.SIGTERM)
			continue
		}
		p.signal(syscall.SIGTERM)
		p.log.await(t, "ending, because of a signal")
		p.signal(syscall.SIGTERM)
		state := p.wait()
		if status, ok := state.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
			t.Errorf("a second signal: %v, told\n%s", state, p.log)
		}
	}
}

// stall is a client that asks for a lot and reads nothing of it.
func (p *process) stall() {
	p.t.Helper()
	conn := p.dial()
	req := &remoting.Command{Code: remoting.ReqSendMessageV2, Body: make([]byte, 3<<20)}
	remoting.SendMessage{
		ProducerGroup: "p", Topic: "orders", DefaultTopic: "TBW102", DefaultTopicQueues: 4, MaxReconsumeTimes: -1,
	}.AppendTo(req.Code, &req.Fields)
	if resp, err := conn.Call(p.t.Context(), req); err != nil || resp.Code != remoting.ResSuccess {
		p.t.Fatal(resp, err)
	}
	var frames []byte
	for i := range 32 {
		pull := &remoting.Command{Code: remoting.ReqPullMessage, Opaque: int32(i), Version: remoting.Version}
		remoting.PullMessage{Group: "g", Topic: "orders", MaxMessages: 32, SysFlag: remoting.PullSubscription, Subscription: "*"}.AppendTo(&pull.Fields)
		var err error
		if frames, err = remoting.AppendFrame(frames, pull); err != nil {
			p.t.Fatal(err)
		}
	}
	raw := p.raw()
	if _, err := raw.Write(frames); err != nil {
		p.t.Fatal(err)
	}
	// The first bytes of an answer: the others are on their way.
	if _, err := io.ReadFull(raw, make([]byte, 4)); err != nil {
		p.t.Fatal(err)
	}
}

// Accounts that trust strangers are refused by a running server as at its start, by
// the names of its flags.
func TestServe_ReloadExposed(t *testing.T) {
	t.Parallel()
	f := newSecrets(t)
	p := start(t, "-listen", "0.0.0.0:0", "-advertise", "127.0.0.1:9876", "-acl", f.acl, "-tls-cert", f.cert, "-tls-key", f.key)
	f.write(f.acl, "globalWhiteRemoteAddresses: [0.0.0.0/1, 128.0.0.0/1]\n"+f.read(f.acl))
	p.signal(syscall.SIGHUP)
	p.log.await(t, "the accounts stay as they were")
	p.log.await(t, "it takes -tls-client-ca F, because ")
	p.ends(syscall.SIGTERM)
	if strings.Contains(p.log.String(), "Config.") {
		t.Errorf("fields are named instead of flags:\n%s", p.log)
	}
}

// SIGHUP reads the accounts and the certificate again.
func TestServe_Reload(t *testing.T) {
	t.Parallel()
	f := newSecrets(t)
	p := start(t, "-acl", f.acl, "-tls-cert", f.cert, "-tls-key", f.key)
	flags := []string{"topic", "list", "-tls", "-tls-ca", f.ca, "-access-key", "operator-key", "-secret-file", f.secret}
	p.ok(flags...)
	f.write(f.acl, strings.ReplaceAll(f.read(f.acl), "operator-secret", "another-secret"))
	p.signal(syscall.SIGHUP)
	p.log.await(t, "the certificate was read again")
	p.refuses(exitRefused, "code 16", flags...)
	f.write(f.secret, "another-secret\n")
	p.ok(flags...)
	f.write(f.acl, "accounts: []")
	f.write(f.key, "no key")
	p.signal(syscall.SIGHUP)
	p.log.await(t, "the accounts stay as they were")
	p.log.await(t, "the certificate stays as it was")
	p.ok(flags...)
	p.ends(syscall.SIGTERM)
	for _, secret := range []string{"operator-secret", "another-secret"} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("a secret is in the log:\n%s", p.log)
		}
	}
}
