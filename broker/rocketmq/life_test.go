package rocketmq_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// nobody takes lanes and has nothing to settle.
type nobody struct{ assigned chan driver.Lane }

func (n nobody) Assigned(l driver.Lane)               { n.assigned <- l }
func (n nobody) Revoked(context.Context, driver.Lane) {}
func (n nobody) Lost(driver.Lane)                     {}

// Whatever was opened is gone after Close, a hundred times over, or a thousand
// with SLUICE_LONG: goroutines, connections, and the membership at the broker.
func TestClose_LeavesNothing(t *testing.T) {
	s := &served{cfg: embedded.Config{}}
	s.open(t)
	defer func() {
		if err := s.close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	var open atomic.Int32
	connect := s.connect(t, rocketmq.Config{
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				open.Add(1)
				c = &counted{Conn: c, open: &open}
			}
			return c, err
		},
	})
	cycle := func() {
		c, err := connect(t.Context(), "client")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: "t", Queues: 1}); err != nil && driver.CodeOf(err) != driver.AlreadyExists {
			t.Fatal(err)
		}
		n := nobody{make(chan driver.Lane, 8)}
		if _, err := c.Subscribe(t.Context(), driver.SubscribeSpec{Group: "g", Topic: "t"}, n); err != nil {
			t.Fatal(err)
		}
		<-n.assigned
		if r := c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}}); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := open.Load(); n != 0 {
			t.Fatalf("%d connections are open after Close", n)
		}
	}
	cycle()
	before := runtime.NumGoroutine()
	cycles := 100
	if os.Getenv("SLUICE_LONG") != "" {
		cycles = 1000
	}
	for range cycles {
		cycle()
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines after %d clients, %d after the first", runtime.NumGoroutine(), cycles, before)
		}
	}
	watch, err := connect(t.Context(), "watch")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Close(context.Background()) }()
	groups, err := watch.Extensions().Groups.Groups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if len(g.Members) > 0 {
			t.Errorf("group %s still has the members %q", g.Name, g.Members)
		}
	}
}

type counted struct {
	net.Conn
	open   *atomic.Int32
	closed atomic.Bool
}

func (c *counted) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// A server that takes connections and says nothing: the request ends in time,
// and one connection was made for it.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dials := 0
	const timeout = 100 * time.Millisecond
	d := rocketmq.New(rocketmq.Config{
		NameServers: []string{l.Addr().String()}, Timeout: timeout, OffsetDir: t.TempDir(),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	began := time.Now()
	_, err = d.Open(t.Context(), driver.Config{ClientID: "c"})
	e := driver.CodeOf(err)
	if e != driver.Timeout {
		t.Errorf("open answers %v (%v), want a timeout", err, e)
	}
	if took := time.Since(began); took < timeout || took > 50*timeout {
		t.Errorf("open took %v with a timeout of %v", took, timeout)
	}
	if dials != 1 {
		t.Errorf("one client made %d connections", dials)
	}
}

// Who waits for a name server reads which one it is, whatever ends the wait.
func TestSilentServer_IsNamed(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := l.Addr().String()
	refusing := func(context.Context, string, string) (net.Conn, error) {
		time.Sleep(100 * time.Millisecond)
		return nil, errors.New("no way there")
	}
	for what, cfg := range map[string]rocketmq.Config{"silent": {}, "out of reach": {Dial: refusing}} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("the caller has no more time"))
		cfg.NameServers, cfg.OffsetDir = []string{addr}, t.TempDir()
		_, err := rocketmq.New(cfg).Open(ctx, driver.Config{ClientID: "c"})
		cancel()
		if driver.CodeOf(err) != driver.Timeout || !strings.Contains(err.Error(), addr) || strings.Count(err.Error(), "no more time") > 1 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The port of a broker given as that of a name server is told as such.
func TestOpen_NoNameServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.serve("b:10911", func(_ *peer, req *remoting.Command) *remoting.Command {
			return &remoting.Command{Code: remoting.ResUnsupported, Remark: fmt.Sprintf(" request type %d not supported", req.Code)}
		})
		_, err := rocketmq.New(rocketmq.Config{NameServers: []string{"b:10911"}, Dial: n.dial, OffsetDir: t.TempDir()}).
			Open(t.Context(), driver.Config{ClientID: "c"})
		const want = "not a name server: b:10911 answered code 3: request type 105 not supported"
		if driver.CodeOf(err) != driver.Unsupported || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("open: %v", err)
		}
	})
}
