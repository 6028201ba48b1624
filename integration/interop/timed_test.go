package interop

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/internal/driver"
)

// jsonNow is the time as a driver would tell it.
func jsonNow() json.Number { return json.Number(strconv.FormatInt(time.Now().UnixMilli(), 10)) }

func delays(x *cell) {
	x.producer()
	s := x.push("c")
	var want []string
	due := map[string]time.Duration{}
	sent := map[string]int64{}
	for level := range 20 {
		name, wait := fmt.Sprintf("l%02d", level), time.Duration(level)*time.Second
		if level == 19 { // beyond the last: the last
			name, wait, level = "l99", 18*time.Second, 99
		}
		more := []string{"delay", strconv.Itoa(level)}
		if x.client != node {
			more = append(more, "queue", strconv.Itoa(level%4))
		}
		sent[name] = time.Now().UnixMilli()
		x.send(name, more...)
		due[name] = wait
		want = append(want, name)
	}
	for _, m := range x.deliveries(s, want...) {
		b := m.Text("body")
		x.rec.Note("deliver "+b, "waited", waited(time.Duration(m.Int("at")-sent[b])*time.Millisecond, due[b]))
	}
	x.close("c", "p")
}

func timers(x *cell) {
	x.producer()
	s := x.push("c")
	sent := map[string]int64{}
	cases := []struct {
		body, kind string
		due        int64
		wait       time.Duration
	}{
		{"two seconds", "seconds", 2, 2 * time.Second},
		{"2500 ms", "millis", 2500, 2 * time.Second}, // of which the last half is rounded away
		{"at a time", "at", time.Now().Add(4 * time.Second).UnixMilli(), 2 * time.Second},
		{"in the past", "at", time.Now().Add(-time.Minute).UnixMilli(), 0},
		{"zero", "seconds", 0, 0},
	}
	var want []string
	for _, c := range cases {
		sent[c.body] = time.Now().UnixMilli()
		x.send(c.body, "timer", c.kind, "due", fmt.Sprint(c.due), "queue", "1")
		x.turns[c.body] = true // two may be due in the same second, in any order
		want = append(want, c.body)
	}
	got := x.deliveries(s, want...)
	for _, m := range got {
		for _, c := range cases {
			if b := m.Text("body"); b == c.body {
				// A due time is rounded down to a second, or to the one before.
				took := time.Duration(m.Int("at")-sent[b])*time.Millisecond + time.Second
				x.rec.Note("deliver "+b, "waited", waited(took, c.wait+time.Second))
			}
		}
	}
	for _, c := range []struct {
		name, kind string
		due        int64
	}{{"four days", "seconds", 4 * 24 * 3600}, {"in a week", "at", time.Now().Add(7 * 24 * time.Hour).UnixMilli()}} {
		_, err := x.try("send", "h", x.h("p"), "topic", x.name(), "body", c.name, "timer", c.kind, "due", fmt.Sprint(c.due))
		said, code := failure(err)
		x.rec.Note("refuse "+c.name, "client", said)
		x.rec.Note("refuse "+c.name, "code", code)
	}
	x.close("c", "p")
}

func retries(x *cell) {
	x.producer()
	cases := [][2]string{{"twice", "later,ok"}, {"poison", "later,later,later,later"}, {"thrown", "throw,ok"}}
	if x.client == node {
		// Of a retried message it takes an error for a failure only, not an answer.
		cases[1][1] = "throw,throw,throw,throw"
	} else { // the listeners of the others have a say in the level
		cases = append(cases, [2]string{"soon", "later:1,ok"}, [2]string{"none", "null,ok"}, [2]string{"straight", "later:-1,ok"})
	}
	waits := map[string][]int{"twice": {3}, "poison": {3, 4}, "thrown": {3}, "soon": {1}, "none": {3}}
	want := 0
	s := x.push("c", "max", "2")
	for _, c := range cases {
		body, act := c[0], c[1]
		more := []string{"prop.act", act, "keys", "k-" + body, "tags", "T"}
		if x.client != node {
			more = append(more, "queue", "0")
		}
		x.send(body, more...)
		// All to one queue: which offset a message has there does not matter here.
		x.turns[body] = true
		want += 1 + len(waits[body])
	}
	got, ok := s.Wait("got", want, patience)
	x.check(ok, "got %d deliveries, want %d", len(got), want)
	last := map[string]int64{}
	for _, m := range got {
		b, attempt := m.Text("body"), int(m.Int("reconsume"))
		event := fmt.Sprintf("deliver %s attempt %d", b, attempt)
		x.seen(event, m)
		if attempt > 0 && attempt <= len(waits[b]) {
			wait := time.Duration(waits[b][attempt-1]) * time.Second
			x.rec.Note(event, "waited", waited(time.Duration(m.Int("at")-last[b])*time.Millisecond, wait))
		}
		last[b] = m.Int("at")
	}
	dead := []string{"poison", "straight"}
	if x.client == node {
		dead = dead[:1]
	}
	x.deadLetters(dead)
	x.close("c", "p")
}

// deadLetters consumes the dead-letter topic of the scenario's group.
func (x *cell) deadLetters(want []string) {
	dlq := "%DLQ%" + x.group()
	if !x.eventually("the dead-letter topic", func() bool { return x.askAt(x.target.NameServer(), 105, nil, "topic", dlq).Code == 0 }) {
		return
	}
	s := x.push("dead", "topic", dlq, "group", x.group("dead"))
	got, ok := s.Until("got", patience, all(want...))
	x.check(ok && len(got) == len(want), "dead letters: got %v, want %v", bodies(got), want)
	for _, m := range got {
		x.seen("dead "+m.Text("body"), m)
	}
	x.close("dead")
	a := x.ask(351, "topic", dlq)
	x.rec.Note("dead-letter topic", "code", strconv.Itoa(a.Code))
	x.noteBody("dead-letter topic", a.Body)
}

func transactions(x *cell) {
	s := x.known("tx", "1")
	cases := []struct{ body, local, check string }{
		{"commit", "commit", "commit"}, {"rollback", "rollback", "commit"}, {"unknown then commit", "unknown", "commit"},
		{"unknown then rollback", "unknown", "rollback"}, {"unknown twice then commit", "unknown", "unknown,commit"},
		{"thrown then commit", "throw", "commit"}, {"never decided", "unknown", "unknown"},
	}
	for i, c := range cases {
		x.send(c.body, "mode", "tx", "prop.local", c.local, "prop.check", c.check, "queue", strconv.Itoa(i%4), "keys", "k"+strconv.Itoa(i), "tags", "T")
	}
	want := []string{"commit", "unknown then commit", "unknown twice then commit", "thrown then commit"}
	_, ok := s.Until("got", patience, all(want...))
	x.check(ok, "got %v, want %v", bodies(s.Lines("got")), want)
	// The one that is never decided is asked about five times and then no more.
	p := x.d.Stream(x.h("p"))
	count := func(body string, ms []driver.Line) (n int) {
		for _, m := range ms {
			if m.Text("body") == body {
				n++
			}
		}
		return n
	}
	p.Until("check", patience, func(ms []driver.Line) bool { return count("never decided", ms) >= 5 })
	time.Sleep(3 * time.Second) // for a sixth check, or a delivery that must not be
	checks := p.Lines("check")
	for _, c := range cases {
		x.rec.Note("checks", c.body, fmt.Sprint(count(c.body, checks)))
	}
	for _, m := range checks {
		if m.Int("number") == 1 {
			x.noteCheck("check "+m.Text("body"), m)
		}
	}
	for _, m := range x.deliveries(s, want...) {
		x.check(strings.Contains(strings.Join(want, ","), m.Text("body")), "%s was delivered", m.Text("body"))
	}
	x.rec.Note("local", "executed", strings.Join(bodies(p.Lines("local")), ", "))
	x.close("c", "p")
}

// noteCheck notes the message that a check carries; its place is one among the
// half messages of everybody.
func (x *cell) noteCheck(event string, m driver.Line) {
	b := m.Text("body")
	before := x.turns[b]
	x.turns[b] = true
	x.seen(event, m)
	x.turns[b] = before
}

// known opens a producer p and a push consumer c, and waits until the server knows
// the producer.
func (x *cell) known(of ...string) *driver.Stream {
	// The newer clients send a first heartbeat for a producer up to 30 s after its
	// first message, but for push consumers at once; so the two share an instance.
	shared := []string{"instance", x.h("shared")}
	x.producer(append(of, shared...)...)
	s := x.push("c", shared...)
	x.eventually("the producer is registered", func() bool { return x.ask(204, "producerGroup", x.group("p")).Code == 0 })
	return s
}

func deadProducer(x *cell) {
	s := x.known("tx", "1")
	victim, err := x.bench.startGo(x.h("victim"))
	if err != nil {
		x.fatal("%v", err)
	}
	defer victim.Kill()
	ns := x.target.NameServer()
	if _, err := victim.Do(patience, "producer", "h", "p", "ns", ns, "group", x.group("p"), "tx", "1"); err != nil {
		x.fatal("%v", err)
	}
	l, err := victim.Do(patience, "send", "h", "p", "topic", x.name(), "mode", "tx", "body", "orphan", "prop.local", "unknown", "prop.check", "commit", "queue", "2")
	if err != nil {
		x.fatal("%v", err)
	}
	victim.Kill()
	x.sent["orphan"] = l.Text("msgId")
	x.parked["orphan"] = true
	x.noteSent("send", "orphan", l)
	x.deliveries(s, "orphan")
	checks := x.d.Stream(x.h("p")).Lines("check")
	x.check(len(checks) >= 1, "the peer was never asked")
	if len(checks) > 0 {
		x.noteCheck("check", checks[0])
	}
	x.close("c", "p")
}

func requestReply(x *cell) {
	s := x.push("c", "reply", "1")
	x.producer()
	for i := range 3 {
		body := fmt.Sprint("ask", i)
		l := x.do("send", "h", x.h("p"), "topic", x.name(), "mode", "request", "body", body, "ttl", "10000")
		event := "reply " + body
		x.rec.Note(event, "body", l.Text("reply"))
		x.check(l.Int("took") < 10_000, "the reply took %d ms", l.Int("took"))
		for name, value := range l.Map("props") {
			x.rec.Note(event, "prop."+name, x.property(body, name, value, l))
		}
	}
	got, _ := s.Wait("got", 3, patience)
	for _, m := range got {
		x.turns[m.Text("body")] = true
		x.sent[m.Text("body")] = m.Text("msgId")
		x.seen("deliver "+m.Text("body"), m)
	}
	x.close("p", "c")
}

func trace(x *cell) {
	reader := x.push("reader", "topic", "RMQ_SYS_TRACE_TOPIC", "group", x.group("reader"), "whole", "1")
	s := x.push("c", "trace", "1")
	x.producer("trace", "1")
	x.send("traced", "queue", "3", "tags", "T", "keys", "trace-key")
	x.deliveries(s, "traced")
	id := x.sent["traced"]
	find := func(ms []driver.Line) map[string][]string {
		found := map[string][]string{}
		for _, m := range ms {
			for r := range strings.SplitSeq(m.Text("body"), "\x02") {
				if parts := strings.Split(r, "\x01"); strings.Contains(r, id) {
					found[parts[0]] = parts
				}
			}
		}
		return found
	}
	kinds := []string{"Pub", "SubBefore", "SubAfter"}
	ms, ok := reader.Until("got", patience, func(ms []driver.Line) bool { return len(find(ms)) >= len(kinds) })
	x.check(ok, "found records %v of %d trace messages", find(ms), len(ms))
	for kind, parts := range find(ms) {
		for i, p := range parts {
			switch n, err := strconv.ParseInt(p, 10, 64); {
			case p == id:
				p = "the message id"
			case p == x.target.Broker():
				p = "the broker"
			case err == nil && n > 1e12:
				p = "ms"
			case hexID.MatchString(p) || len(p) == 36:
				p = "id"
			case net.ParseIP(p) != nil:
				p = "an address"
			case kind == "Pub" && i == 10 || kind == "SubAfter" && i == 3:
				p = "ms it took"
			}
			x.rec.Note("trace "+kind, strconv.Itoa(i), p)
		}
	}
	x.close("c", "p", "reader")
}
