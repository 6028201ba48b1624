package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"
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

// engine is an open store and everything that runs on it.
type engine struct {
	path   string
	cfg    Config
	fs     vfs.FS // what the engine closes; nil if it was given
	log    *commitlog.Log
	st     *state
	w      *writer
	groups *groups
	checks *checks
	delays *delays
	flush  *flusher
	ids    *message.UniqueIDs
	memory bool

	// root lives as long as the engine; services end with it.
	root    context.Context //nolint:containedctx // the service's own root
	cancel  context.CancelFunc
	wg      sync.WaitGroup // services
	writing sync.WaitGroup // the writer
}

// openEngine opens the store and starts the services.
func openEngine(dir, path string, cfg Config) (*engine, error) {
	began := time.Now()
	e := &engine{path: path, cfg: cfg, st: newState(), ids: message.NewUniqueIDs(), memory: dir == "" && cfg.FS == nil}
	fs := cfg.FS
	switch {
	case fs != nil:
	case dir == "":
		fs = vfs.NewMem()
		e.fs = fs
	default:
		var err error
		if fs, err = vfs.Dir(dir, vfs.CreateMissing); err != nil {
			return nil, openError(path, err)
		}
		e.fs = fs
	}
	rec, err := e.replay(fs)
	if err != nil {
		if e.fs != nil {
			err = errors.Join(err, e.fs.Close())
		}
		return nil, openError(path, err)
	}
	e.root, e.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // a root that owns a lifecycle
	e.w = newWriter(e.log, e.st, cfg.Sync, cfg.Logger, cfg.Queues, !cfg.NoAutoCreate)
	e.groups = newGroups(e)
	e.checks = newChecks(e)
	e.delays = newDelays(e)
	e.flush = newFlusher(e)
	e.st.mu.Lock()
	e.st.onDelay = e.delays.notify
	e.st.onHalf = e.checks.add
	e.st.halves.Undecided(func(h halves.Half) {
		if h.State == halves.Open {
			e.checks.add(h)
		}
	})
	e.st.mu.Unlock()
	e.writing.Go(e.w.run)
	e.wg.Go(e.delays.run)
	e.wg.Go(e.checks.run)
	e.wg.Go(e.flush.run)
	if !e.memory {
		cfg.Logger.Info("the store is open", slog.String("path", path), slog.Int("frames", rec.Frames),
			slog.Int64("truncated_bytes", rec.TruncatedBytes), slog.Duration("took", time.Since(began)))
	}
	return e, nil
}

// replay opens the log and folds it into the state.
func (e *engine) replay(fs vfs.FS) (commitlog.Recovery, error) {
	latest := int64(0)
	log, rec, err := commitlog.Open(commitlog.Options{
		FS: fs, SegmentBytes: e.cfg.SegmentBytes, MaxFrame: maxFrame, Logger: e.cfg.Logger,
	}, func(pos int64, k commitlog.Kind, payload []byte) error {
		f, err := decodeFact(pos, record.Kind(k), payload)
		if err == nil {
			err = e.st.apply(&f)
		}
		if err != nil {
			return fmt.Errorf("frame at %d: %w: %w", pos, commitlog.ErrCorrupt, err)
		}
		latest = max(latest, f.msg.storedMs)
		return nil
	})
	if err != nil {
		return rec, err
	}
	log.RaiseTime(time.UnixMilli(latest))
	e.log = log
	return rec, nil
}

// nowMs is the time of the broker.
func (e *engine) nowMs() int64 { return e.log.Now().UnixMilli() }

// until is how long it takes until the broker's time is ms; never so long that
// a change of the clock stays unnoticed.
func (e *engine) until(ms int64) time.Duration {
	const most = int64(time.Hour / time.Millisecond)
	return time.Duration(min(ms-e.nowMs(), most)) * time.Millisecond
}

// close ends the services and the log. Every client is closed by then; only
// callbacks that outlive their ctx may still run.
func (e *engine) close(ctx context.Context) error {
	e.cancel()
	e.wg.Wait()
	callbacks := make(chan struct{})
	go func() {
		defer close(callbacks)
		e.groups.wait()
	}()
	awaitEnd(ctx, callbacks)
	e.w.close()
	e.writing.Wait()
	err := e.log.Close()
	if e.fs != nil {
		err = errors.Join(err, e.fs.Close())
	}
	if err != nil {
		return &driver.Error{Code: driver.Unavailable, Op: "close store " + e.path, Err: err}
	}
	return nil
}

// health is nil while the store takes writes.
func (e *engine) health() error {
	if f := e.w.failed.Load(); f != nil {
		return withOp(f, "check store "+e.path)
	}
	return nil
}
