package interop

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/internal/driver"
)

// spring is the client that is a service on the Spring Boot starter.
const spring = "spring"

// springTopics are the topics and groups that the service's annotations name.
var springTopics = map[string]int{
	"spring-orders": 4, "spring-raw": 4, "spring-ordered": 4, "spring-tx": 4, "%RETRY%spring-orders-g": 1, "%RETRY%spring-raw-g": 1,
	"%RETRY%spring-ordered-g": 1, "%RETRY%spring-tx-g": 1,
}

func springService(x *cell) {
	if err := makeTopics(x.target, springTopics); err != nil {
		x.fatal("%v", err)
	}
	if _, err := x.d.Do(5*patience, "start", "ns", x.target.NameServer()); err != nil {
		x.fatal("%v", err)
	}
	// The streams go on from one target to the next.
	mark := map[string]int{}
	for _, n := range []string{"orders", "raw", "ordered", "tx"} {
		for _, event := range []string{"got", "local", "check"} {
			mark[n+event] = len(x.d.Stream(n).Lines(event))
		}
	}
	got := func(stream, event string, enough func([]driver.Line) bool) []driver.Line {
		all, ok := x.d.Stream(stream).Until(event, patience, func(ms []driver.Line) bool { return enough(ms[min(mark[stream+event], len(ms)):]) })
		all = all[min(mark[stream+event], len(all)):]
		x.check(ok, "%s %s: %v", stream, event, bodies(all))
		return all
	}
	// A converted object, by tag.
	for _, c := range []string{"paid", "open", "gone"} {
		x.do("convert", "to", "spring-orders:"+c, "name", c, "amount", "7")
	}
	x.rec.Note("orders", "got", strings.Join(bodies(got("orders", "got", all("paid=7", "open=7"))), " "))
	x.springSends(got)
	x.springTransactions(got)
	x.do("stop")
}

func (x *cell) springSends(got func(string, string, func([]driver.Line) bool) []driver.Line) {
	sentAt := map[string]int64{}
	for _, c := range []struct{ body, mode, delay string }{{"sync", "sync", ""}, {"async", "async", ""}, {"delayed", "delay", "2"}, {"once", "sync", ""}, {"poison", "sync", ""}} {
		more := []string{"mode", c.mode, "to", "spring-raw:T", "body", c.body, "keys", "k-" + c.body, "prop.own", "value"}
		if c.delay != "" {
			more = append(more, "delay", c.delay)
		}
		sentAt[c.body] = time.Now().UnixMilli()
		l := x.do("send", more...)
		x.sent[c.body], x.turns[c.body], x.parked[c.body] = l.Text("msgId"), true, true
		x.noteSent("send "+c.body, c.body, l)
	}
	count := func(ms []driver.Line) bool { return len(ms) >= 3+2+3 }
	for _, m := range got("raw", "got", count) {
		b := m.Text("body")
		event := fmt.Sprintf("deliver %s attempt %s", b, m.Text("reconsume"))
		x.seen(event, m)
		if b == "delayed" {
			x.rec.Note(event, "waited", waited(time.Duration(m.Int("at")-sentAt[b])*time.Millisecond, 2*time.Second))
		}
	}
	x.eventually("the dead letter", func() bool { return x.askAt(x.target.NameServer(), 105, nil, "topic", "%DLQ%spring-raw-g").Code == 0 })
	for i := range 9 {
		k := []string{"a", "b", "c"}[i%3]
		x.do("send", "mode", "ordered", "to", "spring-ordered", "body", fmt.Sprint(k, i/3), "keys", k, "shard", k)
	}
	x.noteOrder([]string{"a", "b", "c"}, got("ordered", "got", func(ms []driver.Line) bool { return len(ms) >= 9 }))
}

func (x *cell) springTransactions(got func(string, string, func([]driver.Line) bool) []driver.Line) {
	for _, c := range [][3]string{{"commit", "commit", "commit"}, {"rollback", "rollback", "commit"}, {"checked", "unknown", "commit"}, {"denied", "unknown", "rollback"}} {
		l := x.do("send", "mode", "tx", "to", "spring-tx", "body", c[0], "prop.local", c[1], "prop.check", c[2])
		x.sent[c[0]], x.turns[c[0]], x.parked[c[0]] = l.Text("msgId"), true, true
		x.noteSent("send "+c[0], c[0], l)
	}
	x.rec.Note("tx", "asked", strings.Join(bodies(got("tx", "check", all("checked", "denied"))), " "))
	ms := got("tx", "got", all("commit", "checked"))
	for _, m := range ms {
		x.seen("deliver "+m.Text("body"), m)
	}
	x.rec.Note("tx", "delivered", strings.Join(bodies(ms), " "))
	x.rec.Note("tx", "executed", strings.Join(bodies(got("tx", "local", func(ms []driver.Line) bool { return len(ms) >= 4 })), " "))
	x.check(!slices.ContainsFunc(ms, func(m driver.Line) bool { return m.Text("body") == "rollback" || m.Text("body") == "denied" }), "delivered %v", bodies(ms))
}

// volume sends 20,000 messages through Apache's Go client and wants every one of
// them, those of a key in order.
func volume(x *cell) {
	const count, keys = 20_000, 40
	x.push("c", "orderly", "1", "tally", "1")
	x.producer()
	l, err := x.d.Do(5*time.Minute, "bulk", "h", x.h("p"), "topic", x.name(), "count", fmt.Sprint(count), "keys", fmt.Sprint(keys), "workers", "20")
	x.check(err == nil, "send: %v", err)
	x.rec.Note("acknowledged", "messages", l.Text("acknowledged"))
	var t driver.Line
	x.eventually("the last message", func() bool {
		t = x.do("tally", "h", x.h("c"))
		return t.Int("count") >= count
	})
	for _, f := range []string{"count", "wrong"} { // some may come again, that is allowed
		x.rec.Note("delivered", f, t.Text(f))
	}
	x.check(len(t.Texts("wrong")) == 0, "out of order: %v", t.Texts("wrong"))
	x.close("c", "p")
}
