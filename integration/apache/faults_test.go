package apache

import (
	"testing"
	"time"

	"github.com/sluicemq/sluice/integration/apache/internal/ledger"
	"github.com/sluicemq/sluice/integration/internal/peer"
)

// fault is something that happens to a cluster under load.
type fault struct {
	name string
	run  func(t *testing.T, c *peer.Cluster) ledger.Verdict
}

// on runs faults one after the other and keeps what came of them.
func on(t *testing.T, layout string, c *peer.Cluster, faults []fault) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			var v ledger.Verdict
			defer keep(t, layout, f.name, &v, time.Now())
			v = f.run(t, c)
		})
	}
}

// must ends the test if a server does not come back.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// masterDies: sends go on elsewhere, and nothing is lost once it is back.
func masterDies(t *testing.T, c *peer.Cluster) ledger.Verdict {
	l := begin(t, c, 2)
	l.goesOn("before", time.Second)
	c.Masters[1].Kill()
	l.goesOn("one of two masters is dead", 6*time.Second)
	must(t, c.Masters[1].Start())
	l.goesOn("it is back", 2*time.Second)
	return l.end()
}

// nameServerDies: what runs goes on, and a new client finds its way.
func nameServerDies(t *testing.T, c *peer.Cluster) ledger.Verdict {
	l := begin(t, c, 2)
	c.Names[0].Kill()
	l.goesOn("one of two name servers is dead", 3*time.Second)
	l.join("late", 0)
	l.goesOn("a member joined meanwhile", 2*time.Second)
	must(t, c.Names[0].Start())
	must(t, c.Registered(patience))
	return l.end()
}

// nameServersDie: what runs goes on without any.
func nameServersDie(t *testing.T, c *peer.Cluster) ledger.Verdict {
	l := begin(t, c, 2)
	l.goesOn("before", time.Second)
	for _, s := range c.Names {
		s.Kill()
	}
	l.goesOn("no name server is there", 6*time.Second)
	starting := make(chan error)
	for _, s := range c.Names {
		apart(func() { go func() { starting <- s.Start() }() })
	}
	for range c.Names {
		must(t, <-starting)
	}
	l.goesOn("the name servers are back and know nothing yet", 3*time.Second)
	must(t, c.Registered(patience))
	return l.end()
}

// masterFreezes: a broker that is silent for ten seconds costs no more than the
// deadlines of those who ask it.
func masterFreezes(t *testing.T, c *peer.Cluster) ledger.Verdict {
	l := begin(t, c, 2)
	l.goesOn("before", time.Second)
	c.Masters[0].Freeze()
	l.goesOn("one of two masters is silent", 10*time.Second)
	c.Masters[0].Thaw()
	l.goesOn("it goes on", 2*time.Second)
	return l.end()
}

// everythingRestarts: one server after the other.
func everythingRestarts(t *testing.T, c *peer.Cluster) ledger.Verdict {
	l := begin(t, c, 2)
	for _, s := range c.All() {
		s.Stop()
		must(t, s.Start())
		l.goesOn("a server was restarted", 2*time.Second)
	}
	return l.end()
}

// masterOfSlaveDies: what is stored is read from the slave.
func masterOfSlaveDies(t *testing.T, c *peer.Cluster) ledger.Verdict {
	l := begin(t, c, 0)
	for l.acknowledged.Load() < 600 {
		time.Sleep(10 * time.Millisecond)
	}
	l.stop()
	l.sending.Wait()
	l.join("reader", 20*time.Millisecond)
	for stored := l.acknowledged.Load(); int64(l.ledger.Missing()) > stored/2; {
		time.Sleep(10 * time.Millisecond)
	}
	c.Masters[0].Kill()
	l.drain()
	if n := l.ledger.Missing(); n > 0 {
		t.Errorf("the master is dead, and %d of %d messages were not read from its slave", n, l.acknowledged.Load())
	}
	must(t, c.Masters[0].Start())
	return l.end()
}
