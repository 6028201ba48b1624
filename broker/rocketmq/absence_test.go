package rocketmq_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// logged keeps what is logged at INFO and above, a line each: the level, the
// text and the attributes, times in whole seconds.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(_ context.Context, at slog.Level) bool { return at >= slog.LevelInfo }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler            { return l }
func (l *logged) WithGroup(string) slog.Handler                 { return l }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.DurationValue(a.Value.Duration().Truncate(time.Second))
		}
		line += fmt.Sprint(" ", a)
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

// of answers the lines with a text, and forgets all lines.
func (l *logged) of(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return slices.DeleteFunc(lines, func(s string) bool { return !strings.Contains(s, text) })
}

// watched is a cluster with one broker and one queue, and what a client of it
// logs.
func watched(t *testing.T) (*cluster, *node, driver.Conn, *logged) {
	c := newCluster(t, false, "a")
	c.topic("t", 1)
	log := new(logged)
	conn := c.open(rocketmq.Config{Logger: slog.New(log)}, "client")
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return c, c.brokers["a"].master, conn, log
}

// A broker that is away is told of once and then every minute, and so is its
// return, whether it refuses connections or takes them and says nothing or ends them. One that
// starts again is not.
func TestAbsence_IsTold(t *testing.T) {
	t.Parallel()
	for what, how := range map[string]state{"down": down, "silent": silent, "half dead": halfDead, "hangs up": hangsUp} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, a, conn, log := watched(t)
				newConsumer(t).join(conn, spec)
				fill(t, conn, "t", 0, 1)
				time.Sleep(time.Minute)
				a.set(down)
				time.Sleep(2 * time.Second)
				a.set(up)
				time.Sleep(time.Minute)
				if lines := log.of(""); len(lines) > 0 {
					t.Fatalf("a restart of two seconds is told as %q", lines)
				}
				if how != hangsUp {
					a.freeze()
				}
				a.set(how)
				time.Sleep(150 * time.Second)
				lines := log.of("a server does not answer")
				if len(lines) != 3 {
					t.Fatalf("two and a half minutes are told as %q", lines)
				}
				for i, line := range lines {
					var away time.Duration
					for at := range strings.FieldsSeq(line) {
						if s, ok := strings.CutPrefix(at, "away="); ok {
							away, _ = time.ParseDuration(s)
						}
					}
					least := 3*time.Second + time.Duration(i)*time.Minute
					if !strings.HasPrefix(line, "WARN ") || !strings.Contains(line, "addr="+a.addr) || !strings.Contains(line, "error=") ||
						away < least || away > least+10*time.Second {
						t.Errorf("line %d is %q", i, line)
					}
				}
				a.set(up)
				time.Sleep(30 * time.Second)
				if lines := log.of(""); len(lines) != 1 || !strings.HasPrefix(lines[0], "INFO a server answers again addr="+a.addr+" away=2m") {
					t.Errorf("the return is told as %q", lines)
				}
			})
		})
	}
}

// Who has no time to wait for a slow broker does not call it absent.
func TestAbsence_SlowBrokerIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn, log := watched(t)
		c.with(func() {
			c.brokers["a"].onSend = func(remoting.SendMessage, int) *remoting.Command { time.Sleep(500 * time.Millisecond); return nil }
		})
		for range 30 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if r := sendOne(ctx, conn, &driver.Message{Topic: "t"}); r.Err == nil {
				t.Error("the broker is not slow")
			}
			cancel()
			time.Sleep(time.Second)
		}
		if lines := log.of(""); len(lines) > 0 {
			t.Errorf("a slow broker is told as %q", lines)
		}
	})
}

// Nothing is said of a broker that nobody asks, and two failures far apart are no
// absence.
func TestAbsence_NobodyAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, conn, log := watched(t)
		send := func() error { return sendOne(t.Context(), conn, &driver.Message{Topic: "t"}).Err }
		if err := send(); err != nil {
			t.Fatal(err)
		}
		a.set(down)
		time.Sleep(time.Hour)
		if err := send(); err == nil {
			t.Error("the broker is there")
		}
		if lines := log.of(""); len(lines) > 0 {
			t.Errorf("nobody asked for an hour, and there is %q", lines)
		}
	})
}

// A client that closes does not complain of servers that it leaves.
func TestAbsence_CloseSaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, a, conn, log := watched(t)
		newConsumer(t).join(conn, spec)
		time.Sleep(time.Second)
		a.set(down)
		time.Sleep(2500 * time.Millisecond)
		a.set(silent)
		began := time.Now()
		_ = conn.Close(t.Context())
		if took := time.Since(began); took < 500*time.Millisecond {
			t.Errorf("Close took %v: nothing has waited for the broker", took)
		}
		if lines := log.of("a server"); len(lines) > 0 {
			t.Errorf("Close logs %q", lines)
		}
	})
}

// A topic that does not exist is told of once, and so is its coming; one that is
// made a moment later is not.
func TestAbsence_TopicIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn, log := watched(t)
		m := newConsumer(t)
		m.join(conn, driver.SubscribeSpec{Group: "g", Topic: "soon"})
		time.Sleep(time.Second)
		c.topic("soon", 1)
		m.join(conn, driver.SubscribeSpec{Group: "g", Topic: "neverthere"})
		time.Sleep(10 * time.Minute)
		if lines := log.of(""); !slices.Equal(lines, []string{"WARN no name server knows a topic of a group; it is waited for group=g topic=neverthere"}) {
			t.Errorf("ten minutes are told as %q", lines)
		}
		c.topic("neverthere", 1)
		time.Sleep(30 * time.Second)
		if lines := log.of(""); len(lines) != 1 || !strings.HasPrefix(lines[0], "INFO a topic of a group exists now group=g topic=neverthere waited=10m") {
			t.Errorf("its coming is told as %q", lines)
		}
		fill(t, conn, "neverthere", 0, 1)
		time.Sleep(time.Second)
		if got := m.came(); len(got) != 1 {
			t.Errorf("there came %q", got)
		}
	})
}
