package durability_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing/synctest"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// quarantine sets bad ranges aside instead of refusing the store.
func quarantine(c embedded.Config) embedded.Config {
	c.OnCorruption = embedded.Quarantine
	return c
}

// gapOf reads the range that a lane has lost from the answer of a Fetch.
func gapOf(err error, reason driver.GapReason) (from, to int64, ok bool) {
	gap, ok := errors.AsType[*driver.GapError](err)
	if !ok || driver.CodeOf(err) != driver.DataLoss || gap.Reason != reason {
		return 0, 0, false
	}
	return gap.From, gap.To, true
}

// member collects its lanes.
type member struct {
	mu  sync.Mutex
	all []driver.Lane
}

func (m *member) Assigned(l driver.Lane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, l)
}

func (m *member) Revoked(context.Context, driver.Lane) {}
func (m *member) Lost(driver.Lane)                     {}

func (m *member) lanes() []driver.Lane {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

func waitIdle() { synctest.Wait() }
