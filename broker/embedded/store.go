package embedded

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/driver"
)

// Store is the broker beneath its lanes: topics, queues, positions and half
// messages by their numbers. It is what a server stands on that speaks another
// protocol to clients elsewhere; a service uses [Broker.Driver]. Both see the
// same messages, groups and positions. It is safe for concurrent use and needs
// no closing; after the Close of its broker every method answers
// [driver.Closed], or what was there last.
type Store struct {
	e *engine
	// host is written into records that are read, see SetHost.
	host atomic.Pointer[netip.AddrPort]
	// members is told that the members in this process of a group have changed.
	members atomic.Pointer[func(group string)]
}

// Store answers the store of b and opens it if nobody has yet; its errors are
// those of [Open].
func (b *Broker) Store(ctx context.Context) (*Store, error) {
	e, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	return e.store, nil
}

// SetHost sets the address under which the broker is reached: records that are
// read from now on carry it as their store host, whatever it was when they were
// stored, so that an offset id always leads here. Without it records carry
// 127.0.0.1 and port 0. An address that is not valid is refused.
func (s *Store) SetHost(host netip.AddrPort) error {
	if !host.IsValid() || host.Port() == 0 {
		return driver.Errorf(driver.InvalidArgument, "set the address of store "+s.e.path, "%s is no address with a port", host)
	}
	s.host.Store(&host)
	return nil
}

// MaxBody is the largest body of a message in bytes.
func (s *Store) MaxBody() int { return s.e.cfg.MaxBody }

// Durable reports whether what is answered as stored survives a power cut.
func (s *Store) Durable() bool { return !s.e.memory && s.e.w.syncs() }

// Health is nil while the store takes messages.
func (s *Store) Health() error { return s.e.health() }

// Stats answers the state of the store.
func (s *Store) Stats() Stats { return s.e.stats() }

// Waiting is how many messages are not due yet, and how many half messages
// wait for a decision, parked ones included.
func (s *Store) Waiting() (delayed, halves int) {
	st := s.e.st
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.delays.Len(), st.halves.Len()
}

// NowMs is the time of the broker in milliseconds since 1970; it never goes
// back.
func (s *Store) NowMs() int64 { return s.e.nowMs() }

// StoreID tells stores apart.
func (s *Store) StoreID() uint64 { return s.e.log.StoreID() }

// OnMembers makes f hear the name of a group whenever its members in this
// process have changed; nil for nobody. f must not block. It is called with no
// lock held, by whoever joins or leaves.
func (s *Store) OnMembers(f func(group string)) {
	if f == nil {
		s.members.Store(nil)
		return
	}
	s.members.Store(&f)
}

// changed tells who wants to know that the members of a group have changed.
func (s *Store) changed(group string) {
	if f := s.members.Load(); f != nil {
		(*f)(group)
	}
}

// run runs a job of the administration and waits for it.
func (s *Store) run(ctx context.Context, op string, j job, failed func() *driver.Error) error {
	if err := s.e.w.do(ctx, nil, j, 0); err != nil {
		return withOp(err, op)
	}
	return asError(failed(), op)
}

func invalid(op, format string, args ...any) error {
	return driver.Errorf(driver.InvalidArgument, op, "%w", fmt.Errorf(format, args...))
}
