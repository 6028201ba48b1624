package interop

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/integration/internal/driver"
	"github.com/sluicemq/sluice/integration/internal/wire"
)

func sendSync(x *cell) {
	x.producer()
	var want []string
	send := func(body string, more ...string) {
		x.send(body, more...)
		want = append(want, body)
	}
	for q := range 4 {
		if x.client == node { // it has no way to name a queue
			send(fmt.Sprint("m", q))
		} else {
			send(fmt.Sprint("m", q), "queue", strconv.Itoa(q))
		}
	}
	send("rich", "tags", "T1", "keys", "k1 k2", "flag", "7", "prop.a", "1", "prop.b", "two words, ümlaut")
	send("héllo ✓ 世界")
	// Without a choice of its own a client takes the queues in turn.
	var last int64 = -1
	for i := range 4 {
		body := fmt.Sprint("turn", i)
		l := x.send(body)
		want = append(want, body)
		if last >= 0 && x.client != java5 && x.client != java4 { // they take turns for each thread
			x.rec.Note("turns", strconv.Itoa(i), fmt.Sprint((l.Int("queue")-last+4)%4))
		}
		last = l.Int("queue")
	}
	x.deliveries(x.push("c"), want...)
	x.close("c", "p")
}

func sendAsync(x *cell) {
	x.producer()
	var want []string
	for i := range 5 {
		body := fmt.Sprint("a", i)
		x.send(body, "mode", "async", "queue", "1", "keys", body)
		want = append(want, body)
	}
	x.deliveries(x.push("c"), want...)
	x.close("c", "p")
}

func sendOneWay(x *cell) {
	x.producer()
	s := x.push("c")
	var want []string
	for i := range 5 {
		body := fmt.Sprint("o", i)
		x.send(body, "mode", "oneway", "queue", "2")
		x.turns[body] = true // nobody waits, so two may change places
		want = append(want, body)
	}
	x.deliveries(s, want...)
	x.close("c", "p")
}

func batch(x *cell) {
	x.producer()
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint("b", i))
		x.turns[want[i]] = true
	}
	l := x.send(strings.Join(want, ","), "mode", "batch", "tags", "T")
	got := x.deliveries(x.push("c"), want...)
	// All of a batch are one run of one queue.
	for _, m := range got {
		i, _ := strconv.ParseInt(strings.TrimPrefix(m.Text("body"), "b"), 10, 64)
		x.rec.Note("place "+m.Text("body"), "queue", map[bool]string{true: "the batch's", false: m.Text("queue")}[m.Int("queue") == l.Int("queue")])
		x.rec.Note("place "+m.Text("body"), "after the first", fmt.Sprint(m.Int("offset")-l.Int("offset")))
		x.check(m.Int("offset")-l.Int("offset") == i, "%s is at offset %d, the batch at %d", m.Text("body"), m.Int("offset"), l.Int("offset"))
	}
	x.close("c", "p")
}

func autoCreate(x *cell) {
	x.producer()
	x.send("first")
	var a wire.Answer
	x.eventually("the route of the new topic", func() bool {
		a = x.askAt(x.target.NameServer(), 105, nil, "topic", x.name())
		return a.Code == 0
	})
	x.noteBody("route", a.Body)
	a = x.ask(351, "topic", x.name())
	x.rec.Note("config", "code", strconv.Itoa(a.Code))
	x.noteBody("config", a.Body)
	x.close("p")
}

func compression(x *cell) {
	types := map[string][]string{goClient: {""}, java4: {"zlib"}, java5: {"zlib", "lz4", "zstd"}, node: {""}}[x.client]
	var want []string
	for i, kind := range types {
		more := []string{"h", x.h("p" + kind), "ns", x.target.NameServer(), "group", x.group("p" + kind)}
		if kind != "" {
			more = append(more, "compress", kind)
		}
		x.do("producer", more...)
		l := x.do("send", "h", x.h("p"+kind), "topic", x.name(), "body", "big"+kind, "fill", "20000", "queue", strconv.Itoa(i))
		x.rec.Note("send "+kind, "status", l.Text("status"))
		x.close("p" + kind)
		want = append(want, kind)
	}
	got, ok := x.push("c").Wait("got", len(want), patience)
	x.check(ok, "got %d messages, want %d", len(got), len(want))
	for _, m := range got {
		kind := strings.TrimRight(strings.TrimPrefix(m.Text("body")[:8], "big"), ".")
		x.turns[m.Text("body")] = x.client == node
		x.seen("deliver "+kind, m)
		x.check(strings.Contains(m.Text("body"), "#20000"), "the body is %s", m.Text("body"))
	}
	x.close("c")
}

func tags(x *cell) {
	x.producer()
	for i, tag := range []string{"A", "B", "C", "", "A", "AB"} {
		more := []string{}
		if x.client != node {
			more = append(more, "queue", "0")
		}
		if tag != "" {
			more = append(more, "tags", tag)
		}
		x.send(fmt.Sprint("t", i, tag), more...)
	}
	want := []string{"t0A", "t1B", "t4A"}
	s := x.push("c", "tags", "A || B")
	x.deliveries(s, want...)
	if x.client != node { // whose messages are in all queues
		// What was filtered out counts as consumed in the end.
		x.eventually("the commit", func() bool { return x.committed(x.group(), x.name(), 0) == "6" })
	}
	x.close("c")
	x.check(len(bodies(s.Lines("got"))) == len(want), "got %v", bodies(s.Lines("got")))
	x.close("p")
}

func sql92(x *cell) {
	x.producer()
	for i := range 6 {
		x.send(fmt.Sprint("eu", i), "queue", "0", "prop.n", strconv.Itoa(i), "prop.region", "eu")
		x.send(fmt.Sprint("us", i), "queue", "0", "prop.n", strconv.Itoa(i), "prop.region", "us")
	}
	x.send("none", "queue", "0")
	x.send("tagged", "queue", "0", "tags", "T", "prop.n", "x", "prop.region", "eu")
	expressions := []string{
		"n BETWEEN 2 AND 4 AND region = 'eu'",
		"region IS NULL OR (n > 4 AND NOT region = 'eu')",
		"TAGS = 'T' OR n IN ('0', '1')",
	}
	streams := map[string]*driver.Stream{}
	for i, expression := range expressions {
		name := "c" + strconv.Itoa(i)
		streams[name] = x.push(name, "sql", expression, "group", x.group(name))
	}
	for i, expression := range expressions {
		name := "c" + strconv.Itoa(i)
		// The last message of the queue is reached when the offset is there.
		x.eventually("the end of the queue", func() bool { return x.committed(x.group(name), x.name(), 0) == "14" })
		x.rec.Note(expression, "got", strings.Join(bodies(streams[name].Lines("got")), " "))
		x.close(name)
	}
	for i, expression := range []string{"n BETWEEN", "n = ", "region LIKE 'e%'", "n > 3 foo", "(n > 1"} {
		name := "bad" + strconv.Itoa(i)
		_, err := x.try("push", "h", x.h(name), "ns", x.target.NameServer(), "topic", x.name(), "group", x.group("bad"), "sql", expression)
		said, code := failure(err)
		x.rec.Note("refuse "+expression, "client", said)
		x.rec.Note("refuse "+expression, "code", code)
		if err == nil {
			x.close(name)
		}
	}
	x.close("p")
}

func namespaces(x *cell) {
	x.producer("namespace", "space")
	l := x.do("send", "h", x.h("p"), "topic", x.name(), "body", "inside", "queue", "0", "keys", "k")
	x.sent["inside"] = l.Text("msgId")
	x.noteSent("send", "inside", l)
	got := x.deliveries(x.push("c", "namespace", "space"), "inside")
	for _, m := range got {
		x.rec.Note("deliver", "topic", m.Text("topic"))
	}
	x.eventually("the commit in the namespace", func() bool { return x.committed("space%"+x.group(), "space%"+x.name(), 0) == "1" })
	x.close("c")
	for _, t := range []string{x.name(), "space%" + x.name()} {
		x.rec.Note("route "+t, "code", strconv.Itoa(x.askAt(x.target.NameServer(), 105, nil, "topic", t).Code))
	}
	x.close("p")
}
