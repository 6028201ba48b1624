package interop

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/integration/internal/driver"
	"github.com/sluicemq/sluice/integration/internal/peer"
	"github.com/sluicemq/sluice/integration/internal/wire"
)

const (
	// patience is how long a client may take for what it does at once. Apache's
	// clients share out queues each 20 s if they missed the call to do so, and
	// on a busy machine they miss one more.
	patience = 60 * time.Second
	// early is how far a clock of another process may be behind.
	early = 100 * time.Millisecond
	// late is how much a delivery may be later than asked. It is generous: two
	// cores are shared by servers, JVMs and other work.
	late = 4 * time.Second
)

// cell is one scenario with one client on one target.
type cell struct {
	client, scenario string
	target           peer.Target
	d                *driver.Driver
	bench            *workbench
	rec              *Record
	started          time.Time

	mu       sync.Mutex
	problems []string
	sent     map[string]string // body -> message id
	turns    map[string]bool   // bodies whose queue was the client's choice
	parked   map[string]bool   // bodies that waited in a topic shared with everybody
}

func newCell(b *workbench, s scenario, client string, target peer.Target) *cell {
	return &cell{
		client: client, scenario: s.name, target: target, d: b.drivers[client], bench: b, rec: &Record{},
		sent: map[string]string{}, turns: map[string]bool{}, parked: map[string]bool{},
	}
}

// run runs the scenario to its end or its first fatal problem.
func (x *cell) run(f func(*cell)) {
	done := make(chan struct{})
	x.started = time.Now()
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				x.problem("panic: %v", p)
			}
		}()
		f(x)
	}()
	<-done
}

func (x *cell) problem(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.problems = append(x.problems, fmt.Sprintf(format, args...))
}

// fatal notes a problem and ends the scenario.
func (x *cell) fatal(format string, args ...any) {
	x.problem(format, args...)
	runtime.Goexit()
}

func (x *cell) check(ok bool, format string, args ...any) {
	if !ok {
		x.problem(format, args...)
	}
}

// name is a name of this scenario's own, the same on both targets.
func (x *cell) name(parts ...string) string {
	return strings.Join(append([]string{x.scenario, x.client}, parts...), "-")
}

func (x *cell) group(parts ...string) string {
	return strings.Join(append([]string{"g", x.scenario, x.client}, parts...), "-")
}

// h is a handle that no other cell uses, on either target.
func (x *cell) h(name string) string { return x.target.Name() + "-" + x.name(name) }

// try sends a command to the client. Java clients are opened two at a time: that
// is what a run spends its processors on, and when all open at once the first
// requests of each time out.
func (x *cell) try(verb string, arguments ...string) (driver.Line, error) {
	if x.client == java5 || x.client == java4 {
		switch verb {
		case "producer", "push", "lite", "puller":
			x.bench.opening <- struct{}{}
			defer func() { <-x.bench.opening }()
		}
	}
	return x.d.Do(patience+30*time.Second, verb, arguments...)
}

// do sends a command that must succeed.
func (x *cell) do(verb string, arguments ...string) driver.Line {
	l, err := x.try(verb, arguments...)
	if err != nil {
		x.fatal("%v", err)
	}
	return l
}

// failure is what the client said when a command failed, with the server's code
// if there is one.
func failure(err error) (string, string) {
	f, ok := errors.AsType[*driver.Failure](err)
	switch {
	case err == nil:
		return "ok", ""
	case !ok:
		return "broken", ""
	}
	code := f.Code
	if _, after, found := strings.Cut(f.Text, "CODE: "); found && code <= 0 {
		code, _ = strconv.Atoi(after[:max(0, strings.IndexFunc(after, func(r rune) bool { return r < '0' || r > '9' }))])
	}
	return "failed", strconv.Itoa(max(code, 0))
}

// producer opens a producer p of this scenario.
func (x *cell) producer(more ...string) {
	x.do("producer", append([]string{"h", x.h("p"), "ns", x.target.NameServer(), "group", x.group("p")}, more...)...)
}

// push opens a push consumer on this scenario's topic.
func (x *cell) push(name string, more ...string) *driver.Stream {
	arguments := []string{"h", x.h(name), "ns", x.target.NameServer()}
	for _, d := range [][2]string{{"topic", x.name()}, {"group", x.group()}} {
		if !slices.Contains(more, d[0]) {
			arguments = append(arguments, d[0], d[1])
		}
	}
	x.do("push", append(arguments, more...)...)
	return x.d.Stream(x.h(name))
}

func (x *cell) close(names ...string) {
	for _, n := range names {
		x.do("close", "h", x.h(n))
	}
}

// send sends a message with p and notes what came back.
func (x *cell) send(body string, more ...string) driver.Line {
	arguments := []string{"h", x.h("p"), "body", body}
	if !slices.Contains(more, "topic") {
		arguments = append(arguments, "topic", x.name())
	}
	l := x.do("send", append(arguments, more...)...)
	x.mu.Lock()
	x.sent[body] = l.Text("msgId")
	// The transactional send of the Java clients takes no choice either.
	if !slices.Contains(more, "queue") && !slices.Contains(more, "shard") || slices.Contains(more, "tx") && x.client != goClient {
		x.turns[body] = true
	}
	if slices.Contains(more, "delay") || slices.Contains(more, "timer") || slices.Contains(more, "tx") {
		x.parked[body] = true
	}
	x.mu.Unlock()
	if l.Text("status") != "" {
		x.noteSent("send "+body, body, l)
	}
	return l
}

func (x *cell) noteSent(event, body string, l driver.Line) {
	n := func(field, value string) { x.rec.Note(event, field, value) }
	n("status", l.Text("status"))
	n("topic", l.Text("topic"))
	n("broker", l.Text("broker"))
	if !x.turns[body] {
		n("queue", l.Text("queue"))
		if !x.parked[body] {
			n("offset", l.Text("offset"))
		}
	}
	n("msgId", shape(l.Text("msgId")))
	n("offsetMsgId", x.offsetID(l.Text("offsetMsgId")))
	n("region", l.Text("region"))
	n("traceOn", l.Text("traceOn"))
	switch id := l.Text("transactionId"); id {
	case "":
		n("transactionId", "")
	case l.Text("msgId"):
		n("transactionId", "as msgId")
	default:
		n("transactionId", shape(id))
	}
	if s := l.Text("state"); s != "" {
		n("state", s)
	}
}

// shape is how an identifier looks. Those of the Java clients have 32 digits or,
// on a machine with IPv6, 56; those of the Go client are not all digits.
func shape(id string) string {
	var parts []string
	for p := range strings.SplitSeq(id, ",") {
		switch {
		case p == "":
			parts = append(parts, "")
		case len(p) == 32 || len(p) == 56:
			parts = append(parts, "an id")
		default:
			parts = append(parts, fmt.Sprintf("%d characters", len(p)))
		}
	}
	return strings.Join(parts, ",")
}

// offsetID says whether an offset message id names the target's broker.
func (x *cell) offsetID(id string) string {
	var parts []string
	for p := range strings.SplitSeq(id, ",") {
		_, port, _ := strings.Cut(x.target.Broker(), ":")
		n, _ := strconv.Atoi(port)
		switch want := fmt.Sprintf("7F000001%08X", n); {
		case p == "":
			parts = append(parts, "")
		case len(p) == 32 && strings.HasPrefix(p, want):
			parts = append(parts, "of the broker")
		default:
			parts = append(parts, "strange: "+p)
		}
	}
	return strings.Join(parts, ",")
}

// seen notes a message as a listener got it.
func (x *cell) seen(event string, m driver.Line) {
	n := func(field, value string) { x.rec.Note(event, field, value) }
	body := m.Text("body")
	for _, f := range []string{"topic", "tags", "keys", "body", "flag", "reconsume", "sysFlag", "did", "batch"} {
		n(f, m.Text(f))
	}
	if !x.turns[body] {
		n("queue", m.Text("queue"))
		n("offset", m.Text("offset"))
	}
	n("bornHost", m.Text("bornHost"))
	n("storeHost", map[bool]string{true: "the broker", false: m.Text("storeHost")}[m.Text("storeHost") == x.target.Broker()])
	n("born", x.within(m.Int("born"), x.started.Add(-time.Second).UnixMilli(), m.Int("at")))
	n("store", x.within(m.Int("store"), m.Int("born"), m.Int("at")))
	n("msgId", x.sameID(body, m.Text("msgId")))
	if _, ok := m["offsetMsgId"]; ok {
		n("offsetMsgId", x.offsetID(m.Text("offsetMsgId")))
	}
	if p := m.Int("prepared"); p > 0 {
		n("prepared", "set")
	} else {
		n("prepared", m.Text("prepared"))
	}
	n("transactionId", x.sameID(body, m.Text("transactionId")))
	for name, value := range m.Map("props") {
		n("prop."+name, x.property(body, name, value, m))
	}
}

func (x *cell) within(at, from, to int64) string {
	if slack := early.Milliseconds(); at < from-slack || at > to+slack {
		return fmt.Sprintf("%d ms from the beginning, %d ms from the end", at-from, to-at)
	}
	return "within"
}

func (x *cell) sameID(body, id string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case id == "":
		return ""
	case id == x.sent[body]:
		return "as sent"
	}
	return shape(id)
}

// property is the value of a property without what differs from run to run.
func (x *cell) property(body, name, value string, m driver.Line) string {
	switch name {
	case "UNIQ_KEY", "__transactionId__", "ORIGIN_MESSAGE_ID", "DLQ_ORIGIN_MESSAGE_ID":
		return x.sameID(body, value)
	case "MAX_OFFSET":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > m.Int("offset") {
			return "above the offset"
		}
	case "CONSUME_START_TIME", "TIMER_OUT_MS", "TIMER_DELIVER_MS", "PUSH_REPLY_TIME", "ARRIVE_TIME", "BORN_TIMESTAMP", "TIMER_DEQUEUE_MS", "TIMER_ENQUEUE_MS", "timestamp":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > 1e12 {
			return "ms"
		}
	case "CORRELATION_ID", "REPLY_TO_CLIENT", "id":
		if value != "" {
			return "id"
		}
	case "REAL_QID", "MIN_OFFSET":
		if x.turns[body] && name == "REAL_QID" {
			return "by turns"
		}
	}
	return value
}

// waited says how long something took that should have taken a while.
func waited(took, want time.Duration) string {
	if took < want-early || took > want+late {
		return fmt.Sprintf("%d ms instead of %v", took.Milliseconds(), want)
	}
	return "about " + want.String()
}

// bodies are the sorted bodies of messages, each once.
func bodies(ms []driver.Line) []string {
	var all []string
	for _, m := range ms {
		all = append(all, m.Text("body"))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// all says whether messages with all of the bodies are there.
func all(want ...string) func([]driver.Line) bool {
	return func(ms []driver.Line) bool {
		have := bodies(ms)
		return !slices.ContainsFunc(want, func(b string) bool { return !slices.Contains(have, b) })
	}
}

// deliveries waits until a consumer got messages with all the bodies, notes
// each, and complains about what is missing or came twice.
func (x *cell) deliveries(s *driver.Stream, want ...string) []driver.Line {
	got, ok := s.Until("got", patience, all(want...))
	x.check(ok, "got %d messages %v, want %v", len(got), bodies(got), want)
	count := map[string]int{}
	for _, m := range got {
		b := m.Text("body")
		if count[b]++; count[b] > 1 {
			x.problem("%s was delivered %d times", b, count[b])
		}
		x.seen("deliver "+b, m)
	}
	return got
}

// ask sends the broker a raw request.
func (x *cell) ask(code int, fields ...string) wire.Answer {
	return x.askAt(x.target.Broker(), code, nil, fields...)
}

func (x *cell) askAt(addr string, code int, body []byte, fields ...string) wire.Answer {
	f := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		f[fields[i]] = fields[i+1]
	}
	a, err := wire.Call(addr, wire.Request{Code: code, Fields: f, Body: body}, 15*time.Second)
	if err != nil {
		x.fatal("%v", err)
	}
	return a
}

// eventually repeats a check until it holds.
func (x *cell) eventually(what string, check func() bool) bool {
	for deadline := time.Now().Add(patience); !check(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			x.problem("%s: not within %v", what, patience)
			return false
		}
	}
	return true
}

// committed is a group's offset of a queue, or the code of the refusal.
func (x *cell) committed(group, topic string, queue int) string {
	a := x.ask(14, "consumerGroup", group, "topic", topic, "queueId", strconv.Itoa(queue))
	if a.Code != 0 {
		return fmt.Sprintf("code %d", a.Code)
	}
	return a.Fields["offset"]
}
