package server

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

func (p *peer) fill(topic string, queue, n int, tag func(i int) string) {
	p.t.Helper()
	for i := range n {
		p.mustSend(outgoing(topic, queue, strconv.Itoa(i), props("TAGS", tag(i), "n", strconv.Itoa(i))))
	}
}

func TestPull_Codes(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 2)
	p := s.dial(t)
	p.fill("T", 0, 5, func(i int) string { return []string{"A", "B"}[i%2] })
	tagged := func(expr string, offset int64) remoting.PullMessage {
		x := pulling("G", "T", 0, offset)
		x.Subscription = expr
		return x
	}
	sql := tagged("n BETWEEN 1 AND 2", 0)
	sql.ExpressionType = remoting.ExpressionSQL92
	few := pulling("G", "T", 0, 1)
	few.MaxMessages = 2
	for name, c := range map[string]struct {
		x    remoting.PullMessage
		code int
		n    int
		next int64
	}{
		"all":          {pulling("G", "T", 0, 0), remoting.ResSuccess, 5, 5},
		"some":         {few, remoting.ResSuccess, 2, 3},
		"tag":          {tagged("A", 0), remoting.ResSuccess, 3, 5},
		"two tags":     {tagged("A || B", 3), remoting.ResSuccess, 2, 5},
		"no such tag":  {tagged("C", 0), remoting.ResPullRetryImmediately, 0, 5},
		"sql":          {sql, remoting.ResSuccess, 2, 5},
		"end":          {pulling("G", "T", 0, 5), remoting.ResPullNotFound, 0, 5},
		"beyond":       {pulling("G", "T", 0, 9), remoting.ResPullOffsetMoved, 0, 5},
		"empty":        {pulling("G", "T", 1, 0), remoting.ResPullNotFound, 0, 0},
		"empty beyond": {pulling("G", "T", 1, 3), remoting.ResPullOffsetMoved, 0, 0},
	} {
		code, r, ms := p.pull(c.x)
		if code != c.code || len(ms) != c.n || r.NextBeginOffset != c.next {
			t.Errorf("%s: code %d, %d messages, next %d; want %d, %d, %d", name, code, len(ms), r.NextBeginOffset, c.code, c.n, c.next)
		}
	}
}

func TestPull_Refused(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 1)
	p := s.dial(t)
	with := func(f func(x *remoting.PullMessage)) *remoting.Command {
		x := pulling("G", "T", 0, 0)
		f(&x)
		return pullCommand(x)
	}
	for name, c := range map[string]struct {
		cmd  *remoting.Command
		code int
	}{
		"topic":          {with(func(x *remoting.PullMessage) { x.Topic = "nope" }), remoting.ResTopicNotExist},
		"virtual topic":  {with(func(x *remoting.PullMessage) { x.Topic = "RMQ_SYS_TRACE_TOPIC" }), remoting.ResTopicNotExist},
		"queue":          {with(func(x *remoting.PullMessage) { x.QueueID = 1 }), remoting.ResInvalidParameter},
		"negative queue": {with(func(x *remoting.PullMessage) { x.QueueID = -1 }), remoting.ResInvalidParameter},
		"group":          {with(func(x *remoting.PullMessage) { x.Group = "a/b" }), remoting.ResInvalidParameter},
		"expression": {
			with(func(x *remoting.PullMessage) { x.ExpressionType, x.Subscription = "SQL92", "a LIKE" }),
			remoting.ResSubscriptionParseFailed,
		},
		"not registered": {with(func(x *remoting.PullMessage) { x.SysFlag = 0 }), remoting.ResSubscriptionNotExist},
	} {
		if a := p.ask(c.cmd); a.Code != c.code {
			t.Errorf("%s: %d %s, want %d", name, a.Code, a.Remark, c.code)
		}
	}
}

// A held pull is answered as soon as a message comes that it wants, beside
// others on the same connection, and out of their order.
func TestPull_Held(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 2)
	c, p := s.dial(t), s.dial(t)
	hold := func(queue int, expr string) int32 {
		x := pulling("G", "T", queue, 0)
		x.SysFlag |= remoting.PullSuspend
		x.SuspendMillis, x.Subscription = 20_000, expr
		return c.send(pullCommand(x))
	}
	first, second := hold(0, "B"), hold(1, "*")
	if a := c.ask(request(remoting.ReqGetMaxOffset, "topic", "T", "queueId", "0")); a.Fields.Get("offset") != "0" {
		t.Fatalf("a request behind held pulls: %+v", a)
	}
	p.mustSend(outgoing("T", 1, "x", props("TAGS", "A")))
	if a := c.next(); a.Opaque != second || a.Code != remoting.ResSuccess {
		t.Fatalf("answer to %d with %d, want the pull of queue 1", a.Opaque, a.Code)
	}
	p.mustSend(outgoing("T", 0, "unwanted", props("TAGS", "A")))
	p.mustSend(outgoing("T", 0, "wanted", props("TAGS", "B")))
	a := c.next()
	r, ms := pulled(t, a)
	if a.Opaque != first || a.Code != remoting.ResSuccess || len(ms) != 1 || string(ms[0].Body) != "wanted" || r.NextBeginOffset != 2 {
		t.Fatalf("answer to %d with %d, %d messages, next %d", a.Opaque, a.Code, len(ms), r.NextBeginOffset)
	}
}

// When the time of a held pull is over, it is answered 19, or 20 with the
// progress that it has made behind messages for others.
func TestPull_HeldExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servePipes(t, Config{})
		s.topic(t, "T", 1)
		c := s.dial(t)
		x := pulling("G", "T", 0, 0)
		x.SysFlag |= remoting.PullSuspend
		x.SuspendMillis, x.Subscription = 15_000, "B"
		began := time.Now()
		c.send(pullCommand(x))
		a := c.next()
		if r, _ := pulled(t, a); a.Code != remoting.ResPullNotFound || r.NextBeginOffset != 0 {
			t.Errorf("nothing came: %d, next %d", a.Code, r.NextBeginOffset)
		}
		if d := time.Since(began); d < 14*time.Second || d > 17*time.Second {
			t.Errorf("held for %v, want about 15s", d)
		}
		c.send(pullCommand(x))
		synctest.Wait()
		p := s.dial(t)
		p.mustSend(outgoing("T", 0, "unwanted", props("TAGS", "A")))
		a = c.next()
		if r, _ := pulled(t, a); a.Code != remoting.ResPullRetryImmediately || r.NextBeginOffset != 1 {
			t.Errorf("something else came: %d, next %d", a.Code, r.NextBeginOffset)
		}
	})
}

// Closing the server answers what is held.
func TestPull_HeldAtClose(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 1)
	c := s.dial(t)
	x := pulling("G", "T", 0, 0)
	x.SysFlag |= remoting.PullSuspend
	x.SuspendMillis = 20_000
	c.send(pullCommand(x))
	c.ask(request(remoting.ReqGetMaxOffset, "topic", "T", "queueId", "0"))
	done := make(chan error, 1)
	go func() { done <- s.Close(t.Context()) }()
	if a := c.next(); a.Code != remoting.ResPullNotFound {
		t.Errorf("answer %d", a.Code)
	}
	c.ended()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestOffsets(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 2)
	p := s.dial(t)
	before := s.store.NowMs()
	p.fill("T", 0, 4, func(int) string { return "A" })
	q := func(code int, pairs ...string) *remoting.Command {
		return p.ask(request(code, append([]string{"topic", "T", "queueId", "0"}, pairs...)...))
	}
	ask := func(code int, field string, pairs ...string) string { return q(code, pairs...).Fields.Get(field) }
	if got := ask(remoting.ReqGetMaxOffset, "offset"); got != "4" {
		t.Errorf("max %s", got)
	}
	if got := ask(remoting.ReqGetMinOffset, "offset"); got != "0" {
		t.Errorf("min %s", got)
	}
	if got := ask(remoting.ReqSearchOffsetByTimestamp, "offset", "timestamp", strconv.FormatInt(before-1, 10)); got != "0" {
		t.Errorf("offset of an early time %s", got)
	}
	if got := ask(remoting.ReqSearchOffsetByTimestamp, "offset", "timestamp", strconv.FormatInt(before+3_600_000, 10)); got != "4" {
		t.Errorf("offset of a late time %s", got)
	}
	if got, _ := strconv.ParseInt(ask(remoting.ReqGetEarliestStoreTime, "timestamp"), 10, 64); got < before {
		t.Errorf("earliest store time %d, before the first message at %d", got, before)
	}
	group := []string{"consumerGroup", "G"}
	if a := q(remoting.ReqQueryConsumerOffset, group...); a.Code != remoting.ResSuccess || a.Fields.Get("offset") != "0" {
		t.Errorf("a new group on a young queue: %d %s", a.Code, a.Fields.Get("offset"))
	}
	if a := q(remoting.ReqQueryConsumerOffset, append(group, "setZeroIfNotFound", "false")...); a.Code != remoting.ResQueryNotFound {
		t.Errorf("a new group that wants to know: %d", a.Code)
	}
	if a := q(remoting.ReqUpdateConsumerOffset, append(group, "commitOffset", "3")...); a.Code != remoting.ResSuccess {
		t.Errorf("commit: %d %s", a.Code, a.Remark)
	}
	if got := ask(remoting.ReqQueryConsumerOffset, "offset", group...); got != "3" {
		t.Errorf("committed %s", got)
	}
	for name, pairs := range map[string][]string{
		"queue": {"topic", "T", "queueId", "2", "consumerGroup", "G", "commitOffset", "1"},
		"below": {"topic", "T", "queueId", "0", "consumerGroup", "G", "commitOffset", "-1"},
		"topic": {"topic", "U", "queueId", "0", "consumerGroup", "G", "commitOffset", "1"},
		"group": {"topic", "T", "queueId", "0", "consumerGroup", "a b", "commitOffset", "1"},
	} {
		if a := p.ask(request(remoting.ReqUpdateConsumerOffset, pairs...)); a.Code == remoting.ResSuccess {
			t.Errorf("a commit with a wrong %s is accepted", name)
		}
	}
}
