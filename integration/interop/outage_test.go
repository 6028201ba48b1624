package interop

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sluicemq/sluice/integration/internal/driver"
	"github.com/sluicemq/sluice/integration/internal/peer"
)

// outageClients are those that live through the end of their server.
var outageClients = []string{goClient, java5, java4, node}

// outages has the clients of all kinds send and consume while the server is
// killed, comes back, is ended in an orderly way and comes back with access
// control. They sign their requests all the time; only in the end it matters.
type outages struct {
	s      *suite
	target peer.Target
	cells  map[string]*cell
}

func (s *suite) outages(target peer.Target) *outages {
	o := &outages{s: s, target: target, cells: map[string]*cell{}}
	for _, c := range outageClients {
		if s.wants("outage", c) {
			o.cells[c] = newCell(s.bench, scenario{name: "outage"}, c, target)
			if c == node {
				// A process of its own: one that has used many clients may not come
				// back after an outage, whichever server it was.
				d, err := s.bench.startNode(target.Name() + "-outage")
				if err != nil {
					s.t.Errorf("start another driver of the Node client: %v", err)
					delete(o.cells, c)
					continue
				}
				s.t.Cleanup(d.Kill)
				o.cells[c].d = d
			}
		}
	}
	return o
}

// each runs a step with all clients at once that got this far.
func (o *outages) each(step func(*cell)) {
	var running sync.WaitGroup
	for _, x := range o.cells {
		if len(x.problems) > 0 {
			continue
		}
		running.Go(func() { x.run(step) })
	}
	running.Wait()
}

// run reports whether the server is up in the end.
func (o *outages) run() bool {
	if len(o.cells) == 0 {
		return false
	}
	defer func() {
		for _, x := range o.cells {
			o.s.keep(x)
		}
	}()
	queues := map[string]int{}
	for c, x := range o.cells {
		queues[x.name()], queues["%RETRY%"+x.group()] = 4, 1
		_ = c
	}
	if err := makeTopics(o.target, queues); err != nil {
		o.s.t.Error(err)
		return false
	}
	keys := []string{"ak", peer.AdminKey, "sk", peer.AdminSecret}
	o.each(func(x *cell) {
		x.producer(append([]string{"retry", "5"}, keys...)...)
		x.push("c", keys...)
		x.stubborn("before", 20)
		x.arrived("before")
	})
	// The signal comes while they are sending.
	var sending sync.WaitGroup
	sending.Go(func() { o.each(func(x *cell) { x.stubborn("during", 60) }) })
	time.Sleep(300 * time.Millisecond)
	o.target.Kill()
	if err := o.target.Start(false); err != nil {
		o.s.t.Errorf("start %s after it was killed: %v\n%s", o.target.Name(), err, o.target.Said())
		return false
	}
	sending.Wait()
	o.each(func(x *cell) {
		x.arrived("during")
		x.stubborn("after the kill", 20)
		x.arrived("after the kill")
	})
	graceful, took := o.target.Terminate()
	o.s.t.Logf("%s ended after %v", o.target.Name(), took.Round(time.Millisecond))
	if err := o.target.Start(true); err != nil {
		o.s.t.Errorf("start %s with access control: %v\n%s", o.target.Name(), err, o.target.Said())
		return false
	}
	o.each(func(x *cell) {
		x.rec.Note("end", "by signal 15 alone", strconv.FormatBool(graceful))
		x.stubborn("guarded", 20)
		x.arrived("guarded")
		x.rec.Note("in the end", "phantoms", fmt.Sprint(x.phantoms()))
		x.close("c", "p")
	})
	return true
}

// stubborn sends numbered messages and repeats each until it is acknowledged.
func (x *cell) stubborn(round string, n int) {
	defer x.timed("sending, " + round)()
	for i := range n {
		body := fmt.Sprintf("%s %d", round, i)
		x.mu.Lock()
		x.sent[body] = "tried"
		x.mu.Unlock()
		deadline := time.Now().Add(3 * patience)
		for {
			l, err := x.try("send", x.sendTo(body, i%4)...)
			if err == nil && l.Text("status") == "SEND_OK" {
				break
			}
			if time.Now().After(deadline) {
				x.fatal("%s was never acknowledged: %v", body, err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	x.rec.Note(round, "acknowledged", strconv.Itoa(n))
}

// arrived waits until everything that was acknowledged so far was delivered. A
// message may come twice: its acknowledgement or its commit may have been lost.
func (x *cell) arrived(round string) {
	defer x.timed("waiting, " + round)()
	x.mu.Lock()
	want := slices.Sorted(maps.Keys(x.sent))
	x.mu.Unlock()
	got, ok := x.d.Stream(x.h("c")).Until("got", 2*patience, all(want...))
	lost := slices.DeleteFunc(want, func(b string) bool { return slices.Contains(bodies(got), b) })
	x.check(ok, "%s: lost %v", round, lost)
	x.rec.Note(round, "lost", strconv.Itoa(len(lost)))
}

// timed logs how long something took, if it took long.
func (x *cell) timed(what string) func() {
	began := time.Now()
	return func() {
		if took := time.Since(began); took > 5*time.Second {
			x.bench.t.Logf("%s %s/%s: %s took %v", x.target.Name(), x.scenario, x.client, what, took.Round(time.Millisecond))
		}
	}
}

// phantoms counts deliveries of what nobody sent.
func (x *cell) phantoms() (n int) {
	for _, b := range bodies(x.d.Stream(x.h("c")).Lines("got")) {
		if x.sent[b] == "" {
			n++
		}
	}
	return n
}

// access tries good and bad credentials on a server that asks for them.
func access(x *cell) {
	attempt := func(name, topic, group, ak, sk string) {
		keys := []string{}
		if ak != "" {
			keys = []string{"ak", ak, "sk", sk}
		}
		p := x.h("p " + name)
		_, err := x.try("producer", append([]string{"h", p, "ns", x.target.NameServer(), "group", group, "retry", "0"}, keys...)...)
		if err != nil {
			x.rec.Note("send: "+name, "client", "refused at the start")
			return
		}
		l, err := x.try("send", "h", p, "topic", topic, "body", name)
		said, _ := failure(err)
		x.rec.Note("send: "+name, "client", said+" "+l.Text("status"))
		x.check((err == nil) == (l.Text("status") == "SEND_OK"), "%s: %v %s", name, err, l.Text("status"))
		_, _ = x.try("close", "h", p)
	}
	mine, my := "acl-"+x.client, "acl-g-"+x.client
	attempt("administrator", mine, my, peer.AdminKey, peer.AdminSecret)
	attempt("granted", mine, my, peer.UserKey, peer.UserSecret)
	attempt("wrong secret", mine, my, peer.UserKey, "notthesecret")
	attempt("unknown key", mine, my, "somebody", "somesecret")
	attempt("unsigned", mine, my, "", "")
	attempt("not granted", "acl-other", my, peer.UserKey, peer.UserSecret)
	consume := func(name, topic, group, ak, sk string, want bool) {
		h := "c " + name
		arguments := []string{"h", x.h(h), "ns", x.target.NameServer(), "topic", topic, "group", group}
		if ak != "" {
			arguments = append(arguments, "ak", ak, "sk", sk)
		}
		_, err := x.try("push", arguments...)
		wait := 3 * time.Second
		if want {
			wait = patience
		}
		got, ok := x.d.Stream(x.h(h)).Until("got", wait, func(ms []driver.Line) bool { return len(bodies(ms)) >= 2 })
		x.rec.Note("consume: "+name, "got", fmt.Sprint(bodies(got)))
		x.check(ok == want, "consume: %s got %v, %v", name, bodies(got), err)
		if err == nil {
			_, _ = x.try("close", "h", x.h(h))
		}
	}
	consume("granted", mine, my, peer.UserKey, peer.UserSecret, true)
	consume("wrong secret", mine, my, peer.UserKey, "notthesecret", false)
	consume("unsigned", mine, my, "", "", false)
	consume("group not granted", mine, "acl-g-other", peer.UserKey, peer.UserSecret, false)
}

// grant gives the plain user of Apache's server its rights; ours has them from
// its file.
func (s *suite) grant(target peer.Target) {
	admin := s.bench.drivers[mqadmin]
	if target.Name() != apacheTarget || admin == nil {
		return
	}
	resources := ""
	for _, t := range peer.Grants.Topics {
		resources += ",Topic:" + t
	}
	for _, g := range peer.Grants.Groups {
		resources += ",Group:" + g
	}
	for _, c := range []string{
		"createUser -c C -u " + peer.UserKey + " -p " + peer.UserSecret + " -t Normal",
		"createAcl -c C -s User:" + peer.UserKey + " -r " + resources[1:] + " -a Pub,Sub -d Allow",
	} {
		l, err := admin.Do(2*patience, "mqadmin", "args", c+" -n "+target.NameServer())
		if err != nil || l.Text("complained") != "" {
			s.t.Errorf("%s: %v %s %s", c, err, l.Text("printed"), l.Text("complained"))
		}
	}
}
