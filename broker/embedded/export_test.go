package embedded

import "testing"

// Lazy makes a broker that opens its store when it is used, as Module does.
func Lazy(t testing.TB, dir string) *Broker {
	t.Helper()
	b, err := newBroker(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Subscriptions is how many subscriptions a broker remembers.
func Subscriptions(b *Broker) int {
	g := b.attempt.engine.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.subs)
}
