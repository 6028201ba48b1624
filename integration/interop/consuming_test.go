package interop

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/internal/driver"
)

func push(x *cell) {
	x.producer()
	var want []string
	for i := range 60 {
		body := fmt.Sprintf("p%02d", i)
		x.do("send", x.sendTo(body, i%4)...)
		want = append(want, body)
	}
	s := x.push("c")
	got, ok := s.Until("got", patience, all(want...))
	x.check(ok && len(got) == 60, "got %d messages, %d bodies, want 60", len(got), len(bodies(got)))
	x.rec.Note("delivered", "messages", fmt.Sprint(len(got)))
	for q := 0; q < 4 && x.client != node; q++ { // node's queues are by turns
		x.eventually("the commit", func() bool { return x.committed(x.group(), x.name(), q) == "15" })
	}
	x.close("c", "p")
	for q := 0; q < 4 && x.client != node; q++ {
		x.rec.Note("committed", fmt.Sprint(q), x.committed(x.group(), x.name(), q))
	}
}

// sendTo are the arguments of a plain send to a queue, if the client can choose.
func (x *cell) sendTo(body string, queue int) []string {
	a := []string{"h", x.h("p"), "topic", x.name(), "body", body}
	if x.client != node {
		a = append(a, "queue", strconv.Itoa(queue))
	}
	return a
}

func orderly(x *cell) {
	x.producer()
	s := x.push("c", "orderly", "1")
	keys := []string{"a", "b", "c"}
	total := 0
	for n := range 10 {
		for _, k := range keys {
			more := append(x.sendTo(fmt.Sprint(k, n), 0)[:6], "shard", k, "keys", k)
			if k == "a" && n == 3 {
				more = append(more, "prop.act", "suspend,suspend,ok")
			}
			x.do("send", more...)
			total++
		}
	}
	got, ok := s.Wait("got", total+2, patience)
	x.check(ok, "got %d deliveries, want %d", len(got), total+2)
	x.noteOrder(keys, got)
	var at []int64
	for _, m := range got {
		if m.Text("body") == "a3" {
			at = append(at, m.Int("at"))
		}
	}
	for i := 1; i < len(at) && x.client != goClient; i++ { // which does not wait
		x.rec.Note("suspended", fmt.Sprint(i), waited(time.Duration(at[i]-at[i-1])*time.Millisecond, time.Second))
	}
	x.close("c", "p")
}

// noteOrder notes the sequence of each key's deliveries.
func (x *cell) noteOrder(keys []string, got []driver.Line) {
	for _, k := range keys {
		var seq []string
		queues := map[string]bool{}
		for _, m := range got {
			if m.Text("keys") == k {
				seq = append(seq, fmt.Sprintf("%s/%s", m.Text("body"), m.Text("reconsume")))
				queues[m.Text("queue")] = true
			}
		}
		x.rec.Note("order", k, strings.Join(seq, " "))
		x.rec.Note("queues", k, strings.Join(slices.Sorted(maps.Keys(queues)), " "))
	}
}

func broadcast(x *cell) {
	x.producer()
	streams := map[string]*driver.Stream{}
	for _, n := range []string{"a", "b"} {
		streams[n] = x.push(n, "broadcast", "1", "instance", x.h(n))
	}
	var want []string
	for i := range 12 {
		body := fmt.Sprint("x", i)
		x.do("send", x.sendTo(body, i%4)...)
		want = append(want, body)
	}
	for n, s := range streams {
		got, ok := s.Until("got", patience, all(want...))
		x.check(ok && len(got) == 12, "%s got %d messages, %v, want 12", n, len(got), bodies(got))
		x.rec.Note("delivered", n, fmt.Sprint(len(got)))
	}
	x.close("a", "b", "p")
	// Nobody keeps a position at the server.
	x.rec.Note("stats", "code", fmt.Sprint(x.ask(208, "consumerGroup", x.group()).Code))
	x.rec.Note("retry topic", "code", fmt.Sprint(x.askAt(x.target.NameServer(), 105, nil, "topic", "%RETRY%"+x.group()).Code))
}

func fromWhere(x *cell) {
	x.producer()
	for i := range 8 {
		x.do("send", x.sendTo(fmt.Sprint("old", i), i%4)...)
	}
	streams := map[string]*driver.Stream{}
	for _, from := range []string{"first", "last", "time"} {
		// In the future, in whatever zone the client reads it.
		stamp := time.Now().Add(24 * time.Hour).Format("20060102150405")
		streams[from] = x.push(from, "group", x.group(from), "from", from, "stamp", stamp)
	}
	time.Sleep(3 * time.Second) // all have their queues now, or the next messages would be old for them too
	for i := range 4 {
		x.do("send", x.sendTo(fmt.Sprint("new", i), i)...)
	}
	for from, s := range streams {
		_, ok := s.Until("got", patience, all("new0", "new1", "new2", "new3"))
		x.check(ok, "from %s: got %v", from, bodies(s.Lines("got")))
		x.rec.Note(from, "got", strings.Join(bodies(s.Lines("got")), " "))
		x.close(from)
	}
	x.close("p")
}

func pause(x *cell) {
	x.producer()
	s := x.push("c")
	round := func(name string) []string {
		var want []string
		for q := range 4 {
			body := fmt.Sprint(name, q)
			x.do("send", x.sendTo(body, q)...)
			want = append(want, body)
		}
		return want
	}
	_, ok := s.Until("got", patience, all(round("before")...))
	x.check(ok, "before: got %v", bodies(s.Lines("got")))
	time.Sleep(time.Second) // until each queue has its next pull held; no client tells that
	x.do("suspend", "h", x.h("c"))
	// The pulls that the server holds already are still answered and consumed.
	_, ok = s.Until("got", patience, all(round("held")...))
	x.check(ok, "held: got %v", bodies(s.Lines("got")))
	want := round("paused")
	got, ok := s.Wait("got", 9, 3*time.Second)
	x.rec.Note("while paused", "got", strings.Join(bodies(got), " "))
	x.check(!ok, "got %v while it was paused", bodies(got))
	x.do("resume", "h", x.h("c"))
	got, ok = s.Until("got", patience, all(want...))
	x.check(ok, "after: got %v", bodies(got))
	x.rec.Note("in the end", "got", strings.Join(bodies(got), " "))
	x.close("c", "p")
}

func share(x *cell) {
	x.producer()
	streams := map[string]*driver.Stream{}
	for _, n := range []string{"a", "b"} {
		streams[n] = x.push(n, "instance", x.h(n))
	}
	sent := map[string]bool{}
	got := func() []string { return bodies(slices.Concat(streams["a"].Lines("got"), streams["b"].Lines("got"))) }
	// settled sends a message to each queue until those of a round were shared as wanted.
	settled := func(round string, wantA, wantB int) {
		for i := 0; i < 60; i++ {
			before := map[string]int{"a": len(streams["a"].Lines("got")), "b": len(streams["b"].Lines("got"))}
			for q := range 4 {
				body := fmt.Sprintf("%s-%d-%d", round, i, q)
				x.do("send", x.sendTo(body, q)...)
				sent[body] = true
			}
			x.eventually("a round", func() bool { return len(got()) == len(sent) })
			if len(streams["a"].Lines("got"))-before["a"] == wantA && len(streams["b"].Lines("got"))-before["b"] == wantB {
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
		x.fatal("%s: the queues were never shared %d to %d", round, wantA, wantB)
	}
	settled("both", 2, 2)
	queues := func(n string, last int) string {
		set := map[string]bool{}
		lines := streams[n].Lines("got")
		for _, m := range lines[len(lines)-last:] {
			set[m.Text("queue")] = true
		}
		return strings.Join(slices.Sorted(maps.Keys(set)), " ")
	}
	x.rec.Note("both", "queues of a", queues("a", 2))
	x.rec.Note("both", "queues of b", queues("b", 2))
	x.close("b")
	settled("one", 4, 0)
	x.rec.Note("one", "queues of a", queues("a", 4))
	x.rec.Note("in the end", "lost", fmt.Sprint(len(sent)-len(got())))
	x.close("a", "p")
}

func litePull(x *cell) {
	x.producer()
	var want []string
	for i := range 12 {
		body := fmt.Sprintf("l%02d", i)
		x.send(body, "queue", fmt.Sprint(i%4))
		want = append(want, body)
	}
	x.do("lite", "h", x.h("l"), "ns", x.target.NameServer(), "topic", x.name(), "group", x.group())
	poll := func(handle string, n int) []driver.Line {
		var got []driver.Line
		x.eventually("polled messages", func() bool {
			got = append(got, x.do("poll", "h", x.h(handle), "wait", "500").List("messages")...)
			return len(got) >= n
		})
		return got
	}
	// Both editions can lose a seek: a round of pulling that has just begun when it
	// comes takes the new position and ends, and the next goes on from the old one
	// (DefaultLitePullConsumerImpl, seek and nextPullOffset). On an idle machine that
	// is one of 300, on any broker. An application can but seek again.
	sought := func(handle string, n int, queues ...int) []driver.Line {
		var got []driver.Line
		x.eventually("polled messages after a seek", func() bool {
			for _, q := range queues {
				x.do("seek", "h", x.h(handle), "topic", x.name(), "broker", "b1", "queue", fmt.Sprint(q), "offset", "1")
			}
			got = nil
			for range 10 {
				got = append(got, x.do("poll", "h", x.h(handle), "wait", "500").List("messages")...)
				if len(got) >= n {
					return true
				}
			}
			return false
		})
		return got
	}
	for _, m := range poll("l", 12) {
		m["at"] = jsonNow()
		x.seen("poll "+m.Text("body"), m)
	}
	if x.client != goClient {
		x.do("commit", "h", x.h("l"))
		for q := range 4 {
			x.rec.Note("committed", fmt.Sprint(q), x.do("committed", "h", x.h("l"), "topic", x.name(), "broker", "b1", "queue", fmt.Sprint(q)).Text("offset"))
		}
		x.rec.Note("after seek", "got", strings.Join(bodies(sought("l", 2, 2)), " "))
	}
	x.close("l")
	for q := range 4 {
		x.eventually("the commit", func() bool { return x.committed(x.group(), x.name(), q) == "3" })
		x.rec.Note("at the server", fmt.Sprint(q), x.committed(x.group(), x.name(), q))
	}
	x.send("later", "queue", "3")
	x.do("lite", "h", x.h("again"), "ns", x.target.NameServer(), "topic", x.name(), "group", x.group())
	x.rec.Note("again", "got", strings.Join(bodies(poll("again", 1)), " "))
	x.close("again")
	if x.client != goClient {
		x.do("lite", "h", x.h("assigned"), "ns", x.target.NameServer(), "topic", x.name(), "group", x.group("assigned"), "assign", "true")
		x.rec.Note("assigned", "got", strings.Join(bodies(sought("assigned", 9, 0, 1, 2, 3)), " "))
		x.close("assigned")
	}
	x.close("p")
}

func pull(x *cell) {
	x.producer()
	for i := range 6 {
		x.send(fmt.Sprint("q", i), "queue", "0", "tags", []string{"A", "B"}[i%2])
	}
	opened := "puller"
	if x.client == goClient {
		opened = "lite"
	}
	l := x.do(opened, "h", x.h("q"), "ns", x.target.NameServer(), "topic", x.name(), "group", x.group())
	if x.client != goClient {
		x.rec.Note("queues", "names", strings.Join(l.Texts("queues"), " "))
	}
	at := []string{"h", x.h("q"), "topic", x.name(), "broker", "b1"}
	for _, c := range []struct{ name, queue, offset, count, tags string }{
		{"from 0", "0", "0", "32", ""}, {"two from 1", "0", "1", "2", ""}, {"tag B", "0", "0", "32", "B"}, {"no such tag", "0", "0", "32", "Z"},
		{"at the end", "0", "6", "32", ""}, {"beyond", "0", "9", "32", ""}, {"empty queue", "1", "0", "32", ""}, {"beyond in the empty", "1", "3", "32", ""},
	} {
		more := append(slices.Clone(at), "queue", c.queue, "offset", c.offset, "count", c.count)
		if c.tags != "" {
			more = append(more, "tags", c.tags)
		}
		if x.client == goClient && (c.name == "empty queue" || c.tags != "") {
			// It has the server hold an empty pull for 20 s, of which one is enough,
			// and its pull has no selector.
			continue
		}
		l, err := x.try("pull", more...)
		if err != nil {
			said, code := failure(err)
			x.rec.Note(c.name, "client", said+" "+code)
			continue
		}
		for _, f := range []string{"status", "next", "min", "max"} {
			x.rec.Note(c.name, f, l.Text(f))
		}
		x.rec.Note(c.name, "got", strings.Join(bodies(l.List("messages")), " "))
	}
	if x.client != goClient {
		x.pullOffsets(at)
	}
	x.close("q", "p")
}

// pullOffsets asks for the offsets of queues as the Java clients can.
func (x *cell) pullOffsets(at []string) {
	for _, c := range [][]string{
		{"queue", "0"}, {"queue", "1"}, {"queue", "0", "time", fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())}, {"queue", "0", "store", "4"},
	} {
		l := x.do("offsets", append(slices.Clone(at), c...)...)
		event := "offsets " + strings.Join(c[:min(len(c), 3)], " ")
		for _, f := range []string{"min", "max", "at"} {
			x.rec.Note(event, f, l.Text(f))
		}
		if e := l.Int("earliest"); e > 0 {
			x.rec.Note(event, "earliest", x.within(e, x.started.UnixMilli(), time.Now().UnixMilli()))
		} else {
			x.rec.Note(event, "earliest", l.Text("earliest"))
		}
		x.rec.Note(event, "committed", l.Text("committed"))
	}
	x.eventually("the stored offset", func() bool { return x.committed(x.group(), x.name(), 0) == "4" })
}

func reset(x *cell) {
	x.producer()
	s := x.push("c")
	var want []string
	for i := range 8 {
		body := fmt.Sprint("r", i)
		x.do("send", x.sendTo(body, i%4)...)
		want = append(want, body)
	}
	_, ok := s.Until("got", patience, all(want...))
	x.check(ok, "got %v", bodies(s.Lines("got")))
	x.eventually("a commit", func() bool {
		return !slices.ContainsFunc([]int{0, 1, 2, 3}, func(q int) bool { return x.committed(x.group(), x.name(), q) != "2" })
	})
	a := x.ask(222, "topic", x.name(), "group", x.group(), "timestamp", "0", "isForce", "true")
	x.rec.Note("online", "code", fmt.Sprint(a.Code))
	x.noteBody("online", a.Body)
	again := func(ms []driver.Line) bool { return len(ms) >= 16 }
	got, ok := s.Until("got", 75*time.Second, again)
	x.check(ok, "after the reset: %d deliveries of %v", len(got), bodies(got))
	x.rec.Note("online", "delivered again", strings.Join(bodies(got[min(8, len(got)):]), " "))
	x.close("c")
	// Offline: skip to the end.
	for i := range 4 {
		x.do("send", x.sendTo(fmt.Sprint("skipped", i), i)...)
	}
	for q := range 4 { // a server may index what it has answered a little later
		x.eventually("the last messages are indexed", func() bool { return x.ask(30, "topic", x.name(), "queueId", fmt.Sprint(q)).Fields["offset"] == "3" })
	}
	a = x.ask(222, "topic", x.name(), "group", x.group(), "timestamp", "-1", "isForce", "true")
	x.rec.Note("offline", "code", fmt.Sprint(a.Code))
	x.noteBody("offline", a.Body)
	for q := range 4 {
		x.rec.Note("offline", "committed "+fmt.Sprint(q), x.committed(x.group(), x.name(), q))
	}
	for i := range 4 {
		x.do("send", x.sendTo(fmt.Sprint("after", i), i)...)
	}
	s = x.push("d")
	_, ok = s.Until("got", 75*time.Second, all("after0", "after1", "after2", "after3"))
	x.check(ok, "after the reset to the end: got %v", bodies(s.Lines("got")))
	x.rec.Note("offline", "got", strings.Join(bodies(s.Lines("got")), " "))
	x.close("d", "p")
}
