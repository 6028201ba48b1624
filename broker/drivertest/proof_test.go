package drivertest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/internal/reference"
	"github.com/sluicemq/sluice/broker/embedded"
)

// wrapped puts w around every client of h.
func wrapped(h Harness, w func(t testing.TB, c driver.Conn) driver.Conn) Harness {
	open := h.Open
	h.Open = func(t testing.TB) Broker {
		b := open(t)
		connect := b.Connect
		b.Connect = func(ctx context.Context, id string) (driver.Conn, error) {
			c, err := connect(ctx, id)
			if err != nil {
				return nil, err
			}
			return w(t, c), nil
		}
		return b
	}
	return h
}

// caseNamed finds a test of the suite.
func caseNamed(t *testing.T, name string) testCase {
	t.Helper()
	for _, cases := range groups() {
		for _, c := range cases {
			if c.group+"/"+c.name == name {
				return c
			}
		}
	}
	t.Fatalf("the suite has no test %q", name)
	return testCase{}
}

// bundled is the bundled broker, in memory.
func bundled() Harness {
	return Harness{
		Virtual: true,
		Open: func(t testing.TB) Broker {
			b, err := embedded.Open("", embedded.Config{CheckMax: 4})
			if err != nil {
				t.Fatalf("open the bundled broker: %v", err)
			}
			return Broker{Connect: Connector(b.Driver()), Close: b.Close}
		},
		Limits: Limits{CheckMax: 4, CheckGap: 16 * 30 * time.Second},
	}
}

// TestRun_CatchesMutants proves the suite: each test named by a mutant passes
// for the correct driver and fails for the mutant, on top of two brokers.
func TestRun_CatchesMutants(t *testing.T) {
	t.Parallel()
	for base, h := range map[string]Harness{"reference": referenceHarness(), "bundled": bundled()} {
		h = h.withDefaults()
		offered := probe(t, h)
		for _, m := range mutants() {
			if caseNamed(t, m.caughtBy).needs&^offered != 0 {
				continue // there is nothing to get wrong
			}
			t.Run(base+"/"+strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				c := caseNamed(t, m.caughtBy)
				if bad := attempt(t, h, c.run); len(bad) > 0 {
					t.Fatalf("%s fails for the correct driver: %q", m.caughtBy, bad)
				}
				bad := attempt(t, wrapped(h, m.wrap), c.run)
				if len(bad) == 0 {
					t.Fatalf("a driver that %s passes %s", m.name, m.caughtBy)
				}
				t.Logf("caught by %s: %.160s", m.caughtBy, bad[0])
			})
		}
	}
}

// TestRun_CatchesForgetfulBroker: a crash that loses what Send answered.
func TestRun_CatchesForgetfulBroker(t *testing.T) {
	t.Parallel()
	h := referenceHarness().withDefaults()
	h.Open = func(testing.TB) Broker {
		b := reference.New(reference.Config{})
		return Broker{
			Connect:        func(ctx context.Context, id string) (driver.Conn, error) { return Connector(b)(ctx, id) },
			CrashAndReopen: func(testing.TB) { b.Crash(); b = reference.New(reference.Config{}) },
			Close:          func(ctx context.Context) error { return b.Close(ctx) },
		}
	}
	h.Limits.Within = 5 * time.Second
	for _, name := range []string{
		"durable/crash_after_send", "durable/positions_survive_crash_after_leaving", "half/survives_crash",
		"half/decision_survives_crash", "delay/survives_crash", "dead_letter/survives_crash", "query/survives_crash",
	} {
		if bad := attempt(t, h, caseNamed(t, name).run); len(bad) == 0 {
			t.Errorf("a broker that forgets everything in a crash passes %s", name)
		}
	}
}

// TestMachine_CatchesMutants: random programs find mistakes that no test names.
func TestMachine_CatchesMutants(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"counts Return as an attempt", "does not count Retry", "loses what is retried", "delivers twice",
		"acknowledges up to the highest offset", "forgets acknowledgements at the end of a lane", "ignores the ordering key",
		"stores twice", "retries at once",
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			h := referenceHarness().withDefaults()
			h.Limits.Within = 10 * time.Second
			for _, m := range mutants() {
				if m.name != name {
					continue
				}
				for seed := range 100 {
					prog := program(60).Example(seed)
					if bad := attempt(t, wrapped(h, m.wrap), func(e *env) { newMachine(e).run(prog) }); len(bad) > 0 {
						t.Logf("program %d of %d steps: %.200s", seed, len(prog), bad[0])
						return
					}
				}
				t.Errorf("100 random programs pass for a driver that %s", name)
			}
		})
	}
}
