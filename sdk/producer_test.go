package sdk_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

type bill struct {
	ID string `json:"bill_id"`
}

func TestSendCarriesEverything(t *testing.T) {
	t.Parallel()
	conn := newConn()
	p := client(t, conn, nil).Producer()
	at := time.Now().Add(time.Hour)
	m := sdk.NewMessage("bills", bill{"b1"}, sdk.Tag("water"), sdk.Key("b1", "c1"), sdk.Header("h", "v"),
		sdk.OrderingKey("c1"), sdk.Queue(3), sdk.DeliverAt(at), sdk.ID("ID1"))
	r, err := p.SendMessage(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	want := sdk.SendResult{ID: "ID1", OffsetID: "off-1", Topic: "bills", Lane: "bills/0", Status: sdk.Stored, Attempts: 1}
	if r != want {
		t.Errorf("result %+v\nwant   %+v", r, want)
	}
	got := conn.messages()[0]
	if got.ID != "ID1" || got.Topic != "bills" || got.Tag != "water" || !slices.Equal(got.Keys, []string{"b1", "c1"}) ||
		got.OrderingKey != "c1" || !got.QueueSet || got.Queue != 3 || !got.DeliverAt.Equal(at) || got.BornAt.IsZero() ||
		string(got.Body) != `{"bill_id":"b1"}` {
		t.Errorf("sent %+v", got)
	}
	if !maps.Equal(got.Properties, map[string]string{"h": "v", "content-type": "application/json"}) {
		t.Errorf("properties %v", got.Properties)
	}
	if !maps.Equal(m.Headers, map[string]string{"h": "v"}) || m.ContentType != "" {
		t.Errorf("the caller's message was changed: %+v", m)
	}
}

func TestSendContentTypes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		payload any
		opts    []sdk.MessageOption
		body    string
		kind    string
	}{
		"json":        {bill{"1"}, nil, `{"bill_id":"1"}`, "application/json"},
		"bytes":       {[]byte("raw"), nil, "raw", "application/octet-stream"},
		"encoded":     {[]byte("{}"), []sdk.MessageOption{sdk.ContentType("application/json")}, "{}", "application/json"},
		"text":        {"x", []sdk.MessageOption{sdk.ContentType(sdk.ContentBytes)}, "x", "application/octet-stream"},
		"header":      {"x", []sdk.MessageOption{sdk.Header(sdk.HeaderContentType, sdk.ContentBytes)}, "x", "application/octet-stream"},
		"parameters":  {"x", []sdk.MessageOption{sdk.ContentType("application/json; charset=utf-8")}, `"x"`, "application/json; charset=utf-8"},
		"nil payload": {nil, nil, "null", "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := newConn()
			if _, err := client(t, conn, nil).Producer().Send(t.Context(), "bills", tt.payload, tt.opts...); err != nil {
				t.Fatal(err)
			}
			m := conn.messages()[0]
			if string(m.Body) != tt.body || m.Properties[sdk.HeaderContentType] != tt.kind {
				t.Errorf("body %q as %q", m.Body, m.Properties[sdk.HeaderContentType])
			}
		})
	}
}

func TestSendRefusesEarly(t *testing.T) {
	t.Parallel()
	levels := driver.Capabilities{System: "leveled", Delay: driver.Levels, DelayLevels: []time.Duration{time.Second, 5 * time.Second}}
	small := driver.Capabilities{System: "small", MaxBody: 4, MaxBatch: 2}
	for name, tt := range map[string]struct {
		caps driver.Capabilities
		m    sdk.Outgoing
		code sdk.Code
		want string
	}{
		"topic":      {levels, sdk.NewMessage("a/b", 1), sdk.InvalidArgument, `send to a/b: topic name "a/b" holds '/'; it takes 1 to 127 characters of a-z A-Z 0-9 _ - % |`},
		"tag":        {levels, sdk.NewMessage("a", 1, sdk.Tag("x||y")), sdk.InvalidArgument, `send to a: tag "x||y" holds ||, which separates tags`},
		"key":        {levels, sdk.NewMessage("a", 1, sdk.Key("x y")), sdk.InvalidArgument, `send to a: key "x y" holds a space; keys and tags are separated by spaces on the wire`},
		"header":     {levels, sdk.NewMessage("a", 1, sdk.Header("h", "")), sdk.InvalidArgument, `send to a: property "h" is empty; leave it out instead`},
		"codec":      {levels, sdk.NewMessage("a", 1, sdk.ContentType("text/csv")), sdk.InvalidArgument, `send to a: encode int as text/csv: no codec for content type "text/csv"; there are application/json, application/octet-stream, application/x-binary; add one with sdk.AsCodec`},
		"near codec": {levels, sdk.NewMessage("a", 1, sdk.ContentType("application/jsno")), sdk.InvalidArgument, `send to a: encode int as application/jsno: no codec for content type "application/jsno" (did you mean "application/json"?); there are application/json, application/octet-stream, application/x-binary; add one with sdk.AsCodec`},
		"payload":    {levels, sdk.NewMessage("a", make(chan int)), sdk.InvalidArgument, `send to a: encode chan int as application/json: json: unsupported type: chan int`},
		"delay":      {levels, sdk.NewMessage("a", 1, sdk.Delay(-time.Second)), sdk.InvalidArgument, `send to a: the delay -1s is negative; it takes a time from now on`},
		"two delays": {levels, sdk.NewMessage("a", 1, sdk.Delay(time.Second), sdk.DeliverAt(time.Now())), sdk.InvalidArgument, `send to a: both a delay (1s) and a delivery time are set; one is allowed`},
		"body":       {small, sdk.NewMessage("a", "12345"), sdk.InvalidArgument, `send to a: the body has 7 bytes; the broker takes at most 4`},
		"level":      {levels, sdk.NewMessage("a", 1, sdk.Delay(2*time.Second)), sdk.Unsupported, `send to a: a delay of 2s is asked for, but broker "leveled" delays only by 1s, 5s; choose one of them, or set sluice.delay to emulate to round up`},
		"no delay":   {small, sdk.NewMessage("a", 1, sdk.Delay(2*time.Second)), sdk.Unsupported, `send to a: a delay of 2s is asked for, but broker "small" cannot delay`},
		"queue":      {small, sdk.NewMessage("a", 1, sdk.Queue(3)), sdk.Unsupported, `send to a queue 3: queue 3 is asked for, but broker "small" has no numbered queues; use an ordering key`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := newConn()
			conn.caps = tt.caps
			c := client(t, conn, nil)
			r, err := c.Producer().SendMessage(t.Context(), tt.m)
			e := wantCode(t, err, tt.code, tt.want)
			if e.Retryable || e.MaybeDone || e.Attempts != 0 || r.Status != sdk.NotStored || r.ID == "" || r.Err == nil {
				t.Errorf("error %+v, result %+v", e, r)
			}
			if _, err := c.Encode(t.Context(), &tt.m); err == nil || err.Error() != tt.want {
				t.Errorf("Encode: %v", err)
			}
			if conn.sends() != 0 {
				t.Error("it went to the broker")
			}
		})
	}
}

func TestDelayLevels(t *testing.T) {
	t.Parallel()
	caps := driver.Capabilities{System: "leveled", Delay: driver.Levels, DelayLevels: []time.Duration{time.Second, 5 * time.Second}}
	for name, tt := range map[string]struct {
		delay    time.Duration
		settings map[string]string
		want     time.Duration
	}{
		"exact":   {5 * time.Second, nil, 5 * time.Second},
		"emulate": {2 * time.Second, map[string]string{"sluice.delay": "emulate"}, 5 * time.Second},
		"none":    {0, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			conn := newConn()
			conn.caps = caps
			p := client(t, conn, tt.settings, func(p *sdk.ClientParams) { p.Logger = log.logger() }).Producer()
			for range 2 {
				if _, err := p.Send(t.Context(), "a", 1, sdk.Delay(tt.delay)); err != nil {
					t.Fatal(err)
				}
			}
			m := conn.messages()[0]
			var got time.Duration
			if !m.DeliverAt.IsZero() {
				got = m.DeliverAt.Sub(m.BornAt)
			}
			if got != tt.want {
				t.Errorf("delay %v, want %v", got, tt.want)
			}
			if n := strings.Count(log.String(), "rounded up"); n != 0 && tt.delay == tt.want || n != 1 && tt.delay != tt.want {
				t.Errorf("rounding is logged %d times:\n%s", n, log.String())
			}
		})
	}
	conn := newConn()
	conn.caps = caps
	p := client(t, conn, map[string]string{"sluice.delay": "emulate"}).Producer()
	_, err := p.Send(t.Context(), "a", 1, sdk.Delay(time.Minute))
	wantError(t, err, "a delay of 1m0s is asked for") // no level is long enough
	if _, err := p.Send(t.Context(), "a", 1, sdk.DeliverAt(time.Now().Add(-time.Minute))); err != nil || !conn.messages()[0].DeliverAt.IsZero() {
		t.Errorf("the past is not now: %v", err)
	}
}

func TestSendRetries(t *testing.T) {
	t.Parallel()
	busy := driver.Error{Code: driver.ResourceExhausted, Retryable: true, Err: errors.New("busy")}
	lost := driver.Error{Code: driver.Timeout, Retryable: true, MaybeDone: true, Err: errors.New("lost")}
	wrong := driver.Error{Code: driver.NotFound, Op: "write", Err: errors.New("no such topic")}
	for name, tt := range map[string]struct {
		settings map[string]string
		answers  []driver.Error // then stored
		calls    int
		result   sdk.SendResult
		err      string
		least    time.Duration
		most     time.Duration
	}{
		"at once":     {nil, nil, 1, sdk.SendResult{Status: sdk.Stored, Attempts: 1}, "", 0, 0},
		"third":       {nil, []driver.Error{busy, busy}, 3, sdk.SendResult{Status: sdk.Stored, Attempts: 3}, "", 75 * time.Millisecond, 226 * time.Millisecond},
		"maybe":       {nil, []driver.Error{lost, busy}, 3, sdk.SendResult{Status: sdk.Stored, Attempts: 3, MaybeDone: true}, "", 0, time.Second},
		"exhausted":   {nil, []driver.Error{lost, busy, busy}, 3, sdk.SendResult{Attempts: 3, MaybeDone: true}, "send to bills: busy (after 3 attempts) (the broker may have done it)", 0, time.Second},
		"final":       {nil, []driver.Error{busy, wrong}, 2, sdk.SendResult{Attempts: 2}, "send to bills: write: no such topic (after 2 attempts)", 0, time.Second},
		"first final": {nil, []driver.Error{wrong}, 1, sdk.SendResult{Attempts: 1}, "send to bills: write: no such topic", 0, 0},
		"at most once": {
			map[string]string{"sluice.send.maybe-done": "fail"},
			[]driver.Error{busy, lost},
			2,
			sdk.SendResult{Attempts: 2, MaybeDone: true},
			"send to bills: lost (after 2 attempts) (the broker may have done it)", 0, time.Second,
		},
		"advice": {
			nil,
			[]driver.Error{{Code: driver.ResourceExhausted, Retryable: true, RetryAfter: 2 * time.Second}},
			2,
			sdk.SendResult{Status: sdk.Stored, Attempts: 2},
			"", 2 * time.Second, 2 * time.Second,
		},
		"advice beyond the deadline": {
			nil,
			[]driver.Error{{Code: driver.ResourceExhausted, Retryable: true, RetryAfter: 5 * time.Second}},
			1,
			sdk.SendResult{Attempts: 1},
			"send to bills: resource exhausted", 0, 0,
		},
		"no limit of tries": {
			map[string]string{"sluice.send.attempts": "0", "sluice.send.timeout": "1h", "sluice.send.backoff": "1s..1m"},
			slices.Repeat([]driver.Error{busy}, 40), 41,
			sdk.SendResult{Status: sdk.Stored, Attempts: 41},
			"", 15 * time.Minute, time.Hour, // backoff/v4 would stop after 15 minutes by itself
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				conn := newConn()
				ids := map[string]bool{}
				conn.answer = func(_ context.Context, n int, req driver.SendRequest) []driver.SendResult {
					ids[req.Messages[0].ID] = true
					if n <= len(tt.answers) {
						return refuse(req, tt.answers[n-1])
					}
					return nil
				}
				begin := time.Now()
				r, err := client(t, conn, tt.settings).Producer().Send(t.Context(), "bills", 1)
				took := time.Since(begin)
				if r.Status != tt.result.Status || r.Attempts != tt.result.Attempts || r.MaybeDone != tt.result.MaybeDone {
					t.Errorf("result %+v", r)
				}
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
					t.Errorf("error %v\nwant  %s", err, tt.err)
				}
				if e, ok := errors.AsType[*sdk.Error](err); ok && (e.Attempts != r.Attempts || e.MaybeDone != r.MaybeDone || r.Err == nil) {
					t.Errorf("error %+v differs from result %+v", e, r)
				}
				if conn.sends() != tt.calls || len(ids) != 1 || !ids[r.ID] {
					t.Errorf("%d calls with ids %v; want %d with %s", conn.sends(), ids, tt.calls, r.ID)
				}
				if took < tt.least || took > tt.most {
					t.Errorf("took %v, want %v to %v", took, tt.least, tt.most)
				}
			})
		})
	}
}

func TestSendDeadline(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ int, req driver.SendRequest) []driver.SendResult {
		<-ctx.Done()
		return refuse(req, *driver.FromContext(ctx, "", true))
	}
	synctest.Test(t, func(t *testing.T) {
		conn := newConn()
		conn.answer = hang
		p := client(t, conn, nil).Producer()
		begin := time.Now()
		_, err := p.Send(t.Context(), "bills", 1)
		e := wantCode(t, err, sdk.Timeout, "send to bills: no success within 3s: context deadline exceeded (the broker may have done it)")
		if took := time.Since(begin); took != 3*time.Second || !e.MaybeDone || !e.Retryable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("took %v, %+v", took, e)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a shorter deadline of the caller
		conn := newConn()
		conn.answer = hang
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		_, err := client(t, conn, nil).Producer().Send(ctx, "bills", 1)
		if took := time.Since(begin); took != time.Second || sdk.CodeOf(err) != sdk.Timeout {
			t.Errorf("took %v, %v", took, err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // the caller gives up between two tries
		conn := newConn()
		conn.answer = func(_ context.Context, _ int, req driver.SendRequest) []driver.SendResult {
			return refuse(req, driver.Error{Code: driver.Unavailable, Retryable: true, MaybeDone: true, RetryAfter: 2 * time.Second, Err: errors.New("down")})
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errors.New("user left")) })
		_, err := client(t, conn, nil).Producer().Send(ctx, "bills", 1)
		wantCode(t, err, sdk.Canceled, "send to bills: user left while waiting to repeat: down (the broker may have done it)")
	})
	conn := newConn()
	p := client(t, conn, nil).Producer()
	if _, err := p.Send(t.Context(), "bills", 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Send(ctx, "bills", 1)
	if e := wantCode(t, err, sdk.Canceled, "send to bills: context canceled"); e.Attempts != 0 || conn.sends() != 1 {
		t.Errorf("%+v after %d sends", e, conn.sends())
	}
}

// A second copy that the driver has made is told like one of another try.
func TestSend_CopyOfTheDriver(t *testing.T) {
	t.Parallel()
	conn := newConn()
	conn.answer = func(_ context.Context, _ int, req driver.SendRequest) []driver.SendResult {
		return []driver.SendResult{{ID: req.Messages[0].ID, Status: driver.StoredNoReplica, MaybeDone: true}}
	}
	r, err := client(t, conn, nil).Producer().Send(t.Context(), "bills", 1)
	if err != nil || r.Status != sdk.StoredNoReplica || r.Status.String() != "stored_no_replica" || !r.MaybeDone || r.Attempts != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestSendBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := newConn()
		conn.answer = func(_ context.Context, n int, req driver.SendRequest) []driver.SendResult {
			if n > 1 {
				return nil
			}
			out := conn.store(driver.SendRequest{Messages: req.Messages[:1]})
			out = append(out, driver.SendResult{Err: &driver.Error{Code: driver.Unavailable, Retryable: true, MaybeDone: true, Err: errors.New("moving")}})
			out = append(out, driver.SendResult{Err: driver.Errorf(driver.PermissionDenied, "", "not yours")})
			return append(out, driver.SendResult{Err: &driver.Error{Code: driver.Unavailable, Retryable: true, RetryAfter: time.Second}})
		}
		ms := []sdk.Outgoing{
			sdk.NewMessage("a", "0"), sdk.NewMessage("a", "1"), sdk.NewMessage("b", "2"), sdk.NewMessage("a b", "bad"), sdk.NewMessage("a", "3"),
		}
		begin := time.Now()
		rs, err := client(t, conn, nil).Producer().SendBatch(t.Context(), ms)
		if time.Since(begin) < time.Second {
			t.Error("the longest advice was not followed")
		}
		wantError(t, err, "send to b: not yours", `topic name "a b" holds ' '`)
		if lines := strings.Count(err.Error(), "\n"); lines != 1 {
			t.Errorf("%d errors in %v", lines+1, err)
		}
		type short struct {
			status    sdk.SendStatus
			attempts  int
			maybeDone bool
			failed    bool
		}
		want := []short{{sdk.Stored, 1, false, false}, {sdk.Stored, 2, true, false}, {sdk.NotStored, 1, false, true}, {sdk.NotStored, 0, false, true}, {sdk.Stored, 2, false, false}}
		ids := map[string]bool{}
		for i, r := range rs {
			if got := (short{r.Status, r.Attempts, r.MaybeDone, r.Err != nil}); got != want[i] || r.Topic != ms[i].Topic {
				t.Errorf("result %d is %+v, want %+v", i, r, want[i])
			}
			ids[r.ID] = true
		}
		if len(ids) != 5 {
			t.Errorf("ids %v are not unique", ids)
		}
		var bodies []string
		for _, m := range conn.messages() {
			bodies = append(bodies, string(m.Body))
		}
		if want := []string{`"0"`, `"1"`, `"3"`}; !slices.Equal(bodies, want) {
			t.Errorf("stored %q, want %q", bodies, want)
		}
	})
	conn := newConn()
	conn.caps.MaxBatch = 1
	p := client(t, conn, nil).Producer()
	rs, err := p.SendBatch(t.Context(), []sdk.Outgoing{sdk.NewMessage("a", 1), sdk.NewMessage("b", 2)})
	wantCode(t, err, sdk.InvalidArgument, "send to a, b (2 messages): 2 messages in one batch; the broker takes at most 1")
	if len(rs) != 2 || rs[1].Err == nil || conn.sends() != 0 {
		t.Errorf("results %+v", rs)
	}
	if rs, err := p.SendBatch(t.Context(), nil); rs != nil || err != nil {
		t.Errorf("an empty batch: %v, %v", rs, err)
	}
	_, err = p.SendBatch(t.Context(), []sdk.Outgoing{sdk.NewMessage("a", 1), sdk.NewMessage("b", 2), sdk.NewMessage("c", 2), sdk.NewMessage("d", 2)})
	wantError(t, err, "send to 4 topics (4 messages): ")
}

func TestSendOneWay(t *testing.T) {
	t.Parallel()
	conn := newConn()
	p := client(t, conn, nil).Producer()
	if err := p.SendOneWay(t.Context(), sdk.NewMessage("logs", "x")); err != nil || !conn.noAck[0] {
		t.Errorf("%v, noAck %v", err, conn.noAck)
	}
	conn.answer = func(_ context.Context, _ int, req driver.SendRequest) []driver.SendResult {
		return refuse(req, driver.Error{Code: driver.Unavailable, Retryable: true})
	}
	before := conn.sends()
	err := p.SendOneWay(t.Context(), sdk.NewMessage("logs", "x"))
	if wantCode(t, err, sdk.Unavailable, "send to logs: unavailable"); conn.sends() != before+1 {
		t.Error("one-way sending was repeated")
	}
	without := newConn()
	without.caps = driver.Capabilities{System: "strict"}
	err = client(t, without, nil).Producer().SendOneWay(t.Context(), sdk.NewMessage("logs", "x"))
	wantCode(t, err, sdk.Unsupported, `send to logs: one-way sending is asked for, but broker "strict" always answers; use Send or SendAsync`)
}

func TestSendAfterClose(t *testing.T) {
	t.Parallel()
	c := client(t, newConn(), nil)
	p := c.Producer()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := p.Send(t.Context(), "a", 1)
	wantCode(t, err, sdk.Closed, "send to a: the client is closed")
	rs, err := p.SendBatch(t.Context(), []sdk.Outgoing{sdk.NewMessage("a", 1), sdk.NewMessage("a", 1)})
	if wantCode(t, err, sdk.Closed, "send to a (2 messages): the client is closed"); len(rs) != 2 || rs[0].Err == nil {
		t.Errorf("results %+v", rs)
	}
	wantCode(t, p.SendOneWay(t.Context(), sdk.NewMessage("a", 1)), sdk.Closed, "send to a: the client is closed")
	wantCode(t, p.SendAsync(t.Context(), sdk.NewMessage("a", 1), nil), sdk.Closed, "send to a: the client is closed")
	if err := p.Flush(t.Context()); err != nil {
		t.Errorf("Flush after Close: %v", err)
	}
	_, err = c.Encode(t.Context(), &sdk.Outgoing{Topic: "a"})
	wantCode(t, err, sdk.Closed, "send to a: connect to the broker: the client is closed")
}

func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	conn := newConn()
	conn.answer = func(context.Context, int, driver.SendRequest) []driver.SendResult { return []driver.SendResult{{}, {}} }
	r, err := client(t, conn, nil).Producer().Send(t.Context(), "a", 1)
	wantCode(t, err, sdk.Internal, "send to a: the driver answered 2 results for 1 messages")
	if r.ID == "" || r.Err == nil {
		t.Errorf("result %+v", r)
	}
	bad := sdk.Interceptor{Name: "bad", Produce: func(sdk.ProduceFunc) sdk.ProduceFunc {
		return func(context.Context, []*sdk.Outgoing) ([]sdk.SendResult, error) { return nil, nil }
	}}
	c := client(t, newConn(), nil, func(p *sdk.ClientParams) { p.Interceptors = []sdk.Interceptor{bad} })
	_, err = c.Producer().Send(t.Context(), "a", 1)
	wantCode(t, err, sdk.Internal, "send to a: an interceptor answered 0 results for 1 messages")
}

func TestNewID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		id := sdk.NewID()
		if len(id) != 32 || strings.Trim(id, "0123456789ABCDEF") != "" || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	synctest.Test(t, func(t *testing.T) {
		a := sdk.NewID()
		time.Sleep(time.Millisecond)
		if b := sdk.NewID(); a[:12] >= b[:12] {
			t.Errorf("%s is not before %s", a, b)
		}
	})
}

func TestEncodeAssignsID(t *testing.T) {
	t.Parallel()
	m := sdk.NewMessage("a", bill{"1"}, sdk.Queue(2))
	w, err := client(t, newConn(), nil).Encode(t.Context(), &m)
	if err != nil || m.ID == "" || w.ID != m.ID || w.Queue != 2 || string(w.Body) != `{"bill_id":"1"}` {
		t.Errorf("%+v, %v", w, err)
	}
}

func BenchmarkProducer(b *testing.B) {
	conn := newConn()
	conn.answer = func(_ context.Context, _ int, req driver.SendRequest) []driver.SendResult {
		out := make([]driver.SendResult, len(req.Messages))
		for i := range out {
			out[i].Status = driver.Stored
		}
		return out
	}
	p := client(b, conn, nil).Producer()
	m := sdk.NewMessage("bills", []byte("body"), sdk.Key("k"))
	b.Run("Send", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.SendMessage(b.Context(), m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("SendAsync", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := p.SendAsync(b.Context(), m, nil); err != nil {
				b.Fatal(err)
			}
		}
		if err := p.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}
