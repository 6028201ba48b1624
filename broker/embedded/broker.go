package embedded

import (
	"context"
	"errors"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// Broker is one store and the clients in this process. It is safe for
// concurrent use. Close it, also after a failure of the store: it holds a lock.
type Broker struct {
	dir string
	cfg Config

	mu      sync.Mutex
	attempt *attempt // to open the store: at work or successful; nil for none
	closing bool
	conns   map[*conn]struct{}
	closed  chan struct{} // closed once Close has finished
}

// attempt is one try to open the store.
type attempt struct {
	done   chan struct{} // closed once the rest is set
	engine *engine
	err    error
}

// Open opens the store in dir, or makes one if dir is missing or empty, and
// replays it. An empty dir keeps everything in memory; then Close loses it.
//
// Errors unwrap to [*driver.Error] with the path and what to do: another
// process has the store open ([driver.FailedPrecondition]), the directory
// cannot be written ([driver.PermissionDenied]), it is something else than a
// store ([driver.FailedPrecondition]), it is damaged ([driver.Corrupt]).
func Open(dir string, cfg Config) (*Broker, error) {
	b, err := newBroker(dir, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := b.open(context.Background()); err != nil { //nolint:forbidigo // a root that owns a lifecycle
		return nil, err
	}
	return b, nil
}

// newBroker makes a broker that opens its store when it is used.
func newBroker(dir string, cfg Config) (*Broker, error) {
	cfg = cfg.withDefaults(dir == "" && cfg.FS == nil)
	if err := cfg.validate(); err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "configure embedded broker", "%w", err)
	}
	return &Broker{dir: dir, cfg: cfg, conns: map[*conn]struct{}{}, closed: make(chan struct{})}, nil
}

// path names the store in errors.
func (b *Broker) path() string {
	switch {
	case b.cfg.FS != nil && b.dir == "":
		return "(file system of the configuration)"
	case b.dir == "":
		return "(memory)"
	default:
		return b.dir
	}
}

// open answers the engine and opens the store if nobody has before. Who comes
// second waits no longer than ctx; the opening goes on all the same. If Close
// comes meanwhile, it closes what was opened.
func (b *Broker) open(ctx context.Context) (*engine, error) {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return nil, closedError("use broker " + b.path())
	}
	a := b.attempt
	if a != nil {
		b.mu.Unlock()
		select {
		case <-a.done:
			return a.engine, a.err
		case <-ctx.Done():
			return nil, driver.FromContext(ctx, "open store "+b.path(), false)
		}
	}
	a = &attempt{done: make(chan struct{})}
	b.attempt = a
	b.mu.Unlock()
	a.engine, a.err = openEngine(b.dir, b.path(), b.cfg)
	b.mu.Lock()
	if a.err != nil {
		b.attempt = nil // the next use tries again
	}
	b.mu.Unlock()
	close(a.done)
	return a.engine, a.err
}

// Connect makes a client with the identity clientID; several may share a
// broker, also under one identity. Of a broker that is closed, or whose store
// cannot be opened, every method of the client answers why.
func (b *Broker) Connect(clientID string) driver.Conn {
	c := &conn{broker: b, id: clientID, done: make(chan struct{}), finished: make(chan struct{}), subs: map[*member]struct{}{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		c.closing = true
		close(c.done)
		close(c.finished)
		return c
	}
	b.conns[c] = struct{}{}
	return c
}

// Close revokes every lane of every client, makes positions durable, finishes
// what waits to be written and unlocks the store. When ctx ends first, the
// remaining lanes are lost. It may be called at any time, more than once.
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		select {
		case <-b.closed:
			return nil
		case <-ctx.Done():
			return driver.FromContext(ctx, "close store "+b.path(), false)
		}
	}
	b.closing = true
	a := b.attempt
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	defer close(b.closed)
	var e *engine
	if a != nil {
		<-a.done // reading the log takes its time and ends by itself
		e = a.engine
	}
	if e != nil {
		e.groups.close(ctx)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(conns)+1)
	for i, c := range conns {
		wg.Go(func() { errs[i] = c.Close(ctx) })
	}
	wg.Wait()
	if e != nil {
		errs[len(conns)] = e.close(ctx)
	}
	return errors.Join(errs...)
}

// forget drops a closed client.
func (b *Broker) forget(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}
