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
