package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

func named(scheme string, got *driver.Config) driver.Driver {
	return fakeDriver{scheme: scheme, open: func(_ context.Context, cfg driver.Config) (driver.Conn, error) {
		*got = cfg
		c := newConn()
		c.caps.System = scheme
		return c, nil
	}}
}

func TestChooseDriver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		schemes []string
		broker  string
		chosen  string
		err     string
	}{
		"only one":        {[]string{"embedded"}, "", "embedded", ""},
		"one by address":  {[]string{"embedded"}, "embedded:///data", "embedded", ""},
		"by scheme":       {[]string{"embedded", "rocketmq"}, "rocketmq://user:pw@h:9876", "rocketmq", ""},
		"word":            {[]string{"embedded", "rocketmq"}, "embedded", "embedded", ""},
		"upper case":      {[]string{"embedded", "rocketmq"}, "RocketMQ://h", "rocketmq", ""},
		"none chosen":     {[]string{"rocketmq", "embedded"}, "", "", "the application holds several broker drivers (embedded, rocketmq); set sluice.broker to choose one, such as embedded://address"},
		"unknown":         {[]string{"embedded"}, "kafka://pw@h", "", `sluice.broker has the scheme "kafka", but the broker drivers of the application are embedded; the form is scheme://address`},
		"typo":            {[]string{"embedded", "rocketmq"}, "roketmq://h", "", `sluice.broker has the scheme "roketmq" (did you mean "rocketmq"?), but the broker drivers`},
		"host, no scheme": {[]string{"rocketmq"}, "localhost:9876", "", `sluice.broker has the scheme "localhost", but`},
		"twice":           {[]string{"embedded", "embedded"}, "", "", `two broker drivers have the scheme "embedded"; list each broker module once`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got driver.Config
			p := sdk.ClientParams{}
			if tt.broker != "" {
				p.Config = configOf(t, map[string]string{"sluice.broker": tt.broker})
			}
			for _, s := range tt.schemes {
				p.Drivers = append(p.Drivers, named(s, &got))
			}
			c, err := sdk.NewClient(p)
			if tt.err != "" {
				wantError(t, err, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			conn, err := c.Conn(t.Context())
			if err != nil || conn.Capabilities().System != tt.chosen {
				t.Fatalf("%v, %v", conn, err)
			}
			if got.URL != tt.broker || got.ClientID != c.ID() || got.Logger == nil {
				t.Errorf("driver got %+v", got)
			}
			if text := fmt.Sprintf("%+v", c.Settings()); strings.Contains(text, "pw@") {
				t.Errorf("settings print the password: %s", text)
			}
		})
	}
}

func TestNoDriver(t *testing.T) {
	t.Parallel()
	c := client(t, nil, nil)
	const text = "connect to the broker: the application holds no broker driver; add one, such as embedded.Module, to the fx options"
	_, err := c.Conn(t.Context())
	wantCode(t, err, sdk.FailedPrecondition, text)
	_, err = c.Producer().Send(t.Context(), "a", 1)
	wantCode(t, err, sdk.FailedPrecondition, "send to a: "+text)
	wantCode(t, c.Health(t.Context()), sdk.FailedPrecondition, text)
}

func TestClientID(t *testing.T) {
	t.Parallel()
	a, b := client(t, newConn(), nil), client(t, newConn(), nil)
	if a.Logger() == nil || a.Codecs() == nil || a.Health(t.Context()) != nil {
		t.Error("a client without options lacks a part")
	}
	if a.ID() == b.ID() || !strings.Contains(a.ID(), fmt.Sprintf("@%d@", os.Getpid())) {
		t.Errorf("ids %q and %q", a.ID(), b.ID())
	}
	if c := client(t, newConn(), map[string]string{"sluice.client-id": "billpay-1"}); c.ID() != "billpay-1" {
		t.Errorf("id %q", c.ID())
	}
}

func TestConnOpensOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opens := 0
		conn := newConn()
		d := fakeDriver{"fake", func(context.Context, driver.Config) (driver.Conn, error) {
			opens++
			time.Sleep(time.Second)
			return conn, nil
		}}
		c, err := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{d}})
		if err != nil || opens != 0 {
			t.Fatalf("%v, %d opens by the constructor", err, opens)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if got, err := c.Conn(t.Context()); got != driver.Conn(conn) || err != nil {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = c.Conn(ctx)
		wantCode(t, err, sdk.Timeout, "connect to the broker: context deadline exceeded")
		wg.Wait()
		if err := c.Close(t.Context()); opens != 1 || err != nil || conn.closes != 1 {
			t.Errorf("%d opens, %v, %d closes", opens, err, conn.closes)
		}
	})
}

func TestConnFailureIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		errs := []error{
			&driver.Error{Code: driver.Unauthenticated, Op: "login", Err: errors.New("bad password")},
			&driver.Error{Code: driver.Unavailable, Retryable: true, Err: errors.New("refused")}, nil,
		}
		opens := 0
		d := fakeDriver{"fake", func(context.Context, driver.Config) (driver.Conn, error) {
			opens++
			if err := errs[opens-1]; err != nil {
				return nil, err
			}
			return newConn(), nil
		}}
		c, err := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{d}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Conn(t.Context())
		wantCode(t, err, sdk.Unauthenticated, "connect to the broker: login: bad password")
		if _, err = c.Conn(t.Context()); err != nil || opens != 3 {
			t.Errorf("%v after %d opens; a refused connection is tried again", err, opens)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestConnTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := fakeDriver{"fake", func(context.Context, driver.Config) (driver.Conn, error) {
			return nil, &driver.Error{Code: driver.Unavailable, Retryable: true, Err: errors.New("refused")}
		}}
		c, err := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{d}, Config: configOf(t, map[string]string{"sluice.connect.timeout": "30s"})})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = c.Conn(t.Context())
		if took := time.Since(begin); took > 30*time.Second || took < 28*time.Second || sdk.CodeOf(err) != sdk.Unavailable {
			t.Errorf("gave up after %v with %v", took, err)
		}
		begin = time.Now()
		_, err = c.Producer().Send(t.Context(), "a", 1)
		wantError(t, err, "send to a: connect to the broker: refused (after ")
		if took := time.Since(begin); took > 3*time.Second || strings.Count(err.Error(), "attempts") != 1 {
			t.Errorf("a send took %v: %v", took, err)
		}
	})
}

func TestCloseWhileOpening(t *testing.T) {
	t.Parallel()
	for name, obedient := range map[string]bool{"driver honours the context": true, "driver does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conn := newConn()
				d := fakeDriver{"fake", func(ctx context.Context, _ driver.Config) (driver.Conn, error) {
					if obedient {
						<-ctx.Done()
						return nil, driver.FromContext(ctx, "dial", false)
					}
					time.Sleep(5 * time.Second)
					return conn, nil
				}}
				c, err := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{d}})
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						_, err := c.Conn(t.Context())
						wantCode(t, err, sdk.Closed, "connect to the broker: the client is closed")
					})
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := c.Close(ctx); err != nil {
					t.Error(err)
				}
				wg.Wait()
				if !obedient && conn.closes != 1 {
					t.Error("a connection that came too late was not closed")
				}
			})
		})
	}
}

func TestCloseReportsAndRepeats(t *testing.T) {
	t.Parallel()
	conn := newConn()
	conn.closeErr = driver.Errorf(driver.Timeout, "leave group", "no answer")
	conn.health = driver.Errorf(driver.Unavailable, "ping", "down")
	c := client(t, conn, nil)
	wantCode(t, c.Health(t.Context()), sdk.Unavailable, "check the health of the broker: ping: down")
	const text = "close the connection to the broker: leave group: no answer"
	wantError(t, c.Close(t.Context()), text)
	wantError(t, c.Close(t.Context()), text)
	if conn.closes != 1 {
		t.Errorf("closed %d times", conn.closes)
	}
}

func TestSecondCloseWaitsForFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn, open := gated()
		c := client(t, conn, nil)
		if err := c.Producer().SendAsync(t.Context(), sdk.NewMessage("a", 1), nil); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.Close(t.Context()) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantCode(t, c.Close(ctx), sdk.Timeout, "close the client: context deadline exceeded")
		close(open)
		wg.Wait()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s, err := sdk.LoadSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := sdk.Settings{
		ConnectTimeout: 10 * time.Second, SendTimeout: 3 * time.Second, SendAttempts: 3,
		SendBackoff: config.Range{From: 50 * time.Millisecond, To: time.Second},
		AsyncBuffer: 1024, AsyncBatch: 32, AsyncFull: sdk.FullBlock,
	}
	if s != want {
		t.Errorf("defaults %+v\nwant     %+v", s, want)
	}
	s, err = sdk.LoadSettings(configOf(t, map[string]string{
		"sluice.broker": "x://y", "sluice.client-id": "me", "sluice.connect.timeout": "1s", "sluice.send.timeout": "2s",
		"sluice.send.attempts": "0", "sluice.send.backoff": "1s..2s", "sluice.send.maybe-done": "fail", "sluice.async.buffer": "5",
		"sluice.async.batch": "6", "sluice.async.full": "drop", "sluice.delay": "emulate", "sluice.stop-budget": "7s",
		"sluice.tracing.process": "link", "sluice.tracing.create": "off", "sluice.mine": "1",
	}), config.Known{Keys: []string{"sluice.mine"}})
	want = sdk.Settings{
		Broker: "x://y", ClientID: "me", ConnectTimeout: time.Second, SendTimeout: 2 * time.Second, SendAttempts: 0,
		SendBackoff: config.Range{From: time.Second, To: 2 * time.Second}, SendFailMaybeDone: true,
		AsyncBuffer: 5, AsyncBatch: 6, AsyncFull: sdk.FullDrop, EmulateDelay: true, StopBudget: 7 * time.Second,
		TracingLink: true, TracingNoCreate: true,
	}
	if err != nil || s != want {
		t.Errorf("%+v, %v\nwant %+v", s, err, want)
	}
}

func TestSettingsReportEverything(t *testing.T) {
	t.Parallel()
	_, err := sdk.NewClient(sdk.ClientParams{
		Drivers: []driver.Driver{driverOf(newConn())},
		Config: configOf(t, map[string]string{
			"sluice.broker": "other://x", "sluice.send.timout": "3s", "sluice.send.timeout": "soon", "sluice.async.full": "wait",
			"sluice.send.attempts": "three", "sluice.send.backoff": "1m..1s", "sluice.tracing.create": "2", "mine.free": "1",
		}),
		Interceptors: []sdk.Interceptor{{Name: "x"}, {Name: "x"}, {Order: 7}, {Name: "tracing"}},
	})
	wantError(t, err,
		`unknown key sluice.send.timout (map) (did you mean "sluice.send.timeout"?)`,
		`sluice.send.timeout (map): "soon" is not a duration; it takes a form such as 300ms`,
		`sluice.async.full (map): "wait" is unknown; it takes block, fail or drop`,
		`sluice.send.attempts (map): "three" is not a whole number such as 16`,
		`sluice.send.backoff (map): "1m..1s" is not a range of durations`,
		`sluice.tracing.create (map): "2" is neither true nor false`,
		`sluice.broker has the scheme "other", but the broker drivers of the application are fake`,
		`two interceptors are named "x"; the name must be unique`,
		`two interceptors are named "tracing"`,
		"an interceptor of order 7 has no name",
	)
	_, err = sdk.LoadSettings(configOf(t, map[string]string{
		"sluice.connect.timeout": "0s", "sluice.send.timeout": "-1s", "sluice.send.attempts": "-1", "sluice.send.backoff": "0s",
		"sluice.async.buffer": "0", "sluice.async.batch": "-3", "sluice.stop-budget": "-1s",
	}))
	wantError(t, err,
		"sluice.connect.timeout is 0s; it must be longer than 0", "sluice.send.timeout is -1s; it must be longer than 0",
		"sluice.send.attempts is -1; it takes 1 or more, or 0 for as many as fit the timeout",
		"sluice.send.backoff is 0s; it must be longer than 0", "sluice.async.buffer is 0; it takes 1 or more messages",
		"sluice.async.batch is -3; it takes 1 or more messages", "sluice.stop-budget is -1s; it takes 0 for all that fx gives, or more",
	)
}

func TestRetryOptions(t *testing.T) {
	t.Parallel()
	c := client(t, newConn(), nil)
	busy := &driver.Error{Code: driver.Unavailable, Retryable: true, MaybeDone: true, Err: errors.New("down")}
	synctest.Test(t, func(t *testing.T) {
		c, err := sdk.NewClient(sdk.ClientParams{})
		if err != nil {
			t.Fatal(err)
		}
		begin, n := time.Now(), 0
		err = c.Retry(t.Context(), "join group", func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); bounded {
				t.Error("a timeout of 0 bounds the context")
			}
			if n++; n < 100 {
				return busy
			}
			return nil
		}, sdk.RetryTimeout(0), sdk.RetryAttempts(0), sdk.RetryBackoff(time.Second, time.Minute))
		if took := time.Since(begin); err != nil || n != 100 || took < 50*time.Minute {
			t.Errorf("%v after %d tries and %v", err, n, took)
		}
		_ = c.Close(t.Context())
	})
	n := 0
	try := func(context.Context) error { n++; return busy }
	err := c.Retry(t.Context(), "settle 3 on a/0", try, sdk.RetryMaybeDone(false))
	if wantCode(t, err, sdk.Unavailable, "settle 3 on a/0: down (the broker may have done it)"); n != 1 {
		t.Errorf("%d tries", n)
	}
	n = 0
	err = c.Retry(t.Context(), "settle", func(context.Context) error {
		if n++; n == 1 {
			return busy
		}
		return driver.Errorf(driver.LaneLost, "", "gone")
	})
	wantCode(t, err, sdk.LaneLost, "settle: gone (after 2 attempts) (the broker may have done it)")
	err = c.Retry(t.Context(), "settle", func(context.Context) error { return errors.New("plain") })
	if e := wantCode(t, err, sdk.Unknown, "settle: plain"); e.Retryable || e.Attempts != 1 {
		t.Errorf("%+v", e)
	}
	if err := c.Retry(t.Context(), "settle", func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}
