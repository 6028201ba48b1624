package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// engine is an open store and everything that runs on it.
type engine struct {
	path   string
	cfg    Config
	fs     vfs.FS // of the store
	owned  bool   // fs is the engine's own, to be closed
	log    *commitlog.Log
	st     *state
	w      *writer
	groups *groups
	checks *checks
	delays *delays
	flush  *flusher
	keeper *keeper
	count  counters
	ids    *message.UniqueIDs
	memory bool
	store  *Store // what servers stand on

	unmarked unmarked    // what the last recovery has left to mark
	restored bool        // a checkpoint has brought back what the log has lost: to be noted again
	marked   atomic.Bool // it was marked, so a checkpoint may stand behind it

	// root lives as long as the engine; services end with it.
	root    context.Context //nolint:containedctx // the service's own root
	cancel  context.CancelFunc
	wg      sync.WaitGroup // services
	writing sync.WaitGroup // the writer's goroutine
}

// openEngine opens the store and starts the services.
func openEngine(dir, path string, cfg Config) (*engine, error) {
	began := time.Now()
	e := &engine{path: path, cfg: cfg, ids: message.NewUniqueIDs(), memory: dir == "" && cfg.FS == nil}
	if err := e.openFS(dir); err != nil {
		return nil, openError(path, err)
	}
	rec, err := e.recoverFull()
	if err != nil {
		return nil, openError(path, errors.Join(err, e.closeFiles()))
	}
	e.start()
	if err := e.mark(rec); err != nil {
		gone, cancel := context.WithCancel(e.root)
		cancel()
		return nil, errors.Join(withOp(err, "open store "+path), e.close(gone))
	}
	e.marked.Store(true)
	e.serve()
	if !e.memory {
		cfg.Logger.Info("the store is open", slog.String("path", path), slog.Int("frames", rec.Frames),
			slog.Int64("replayed_from", rec.Replayed), slog.Int64("truncated_bytes", rec.TruncatedBytes),
			slog.Int("quarantined", len(rec.Holes)), slog.Duration("took", time.Since(began)))
	}
	if r := cfg.Retention; r.Bytes > 0 && r.Bytes < cfg.SegmentBytes {
		cfg.Logger.Warn("more is kept than retention says: it removes whole files of the log, and never the newest",
			slog.Int64("retention_bytes", r.Bytes), slog.Int64("file_bytes", cfg.SegmentBytes))
	}
	return e, nil
}

func (e *engine) openFS(dir string) (err error) {
	switch {
	case e.cfg.FS != nil:
		e.fs = e.cfg.FS
		return nil
	case dir == "":
		e.fs = vfs.NewMem()
	default:
		e.fs, err = vfs.Dir(dir, vfs.CreateMissing)
	}
	e.owned = err == nil
	return err
}

// start runs what writing needs.
func (e *engine) start() {
	mode := e.cfg.Sync
	if e.memory {
		mode = SyncNever // there is no more to lose than the process
	}
	e.root, e.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // a root that owns a lifecycle
	e.w = newWriter(e.log, e.st, mode, e.cfg.Logger, e.cfg.Queues, !e.cfg.NoAutoCreate)
	e.store = &Store{e: e}
	e.groups = newGroups(e)
	e.checks = newChecks(e)
	e.delays = newDelays(e)
	e.flush = newFlusher(e)
	e.w.onFull = e.keeper.exhausted
	e.st.mu.Lock()
	e.st.onDelay = e.delays.notify
	e.st.onHalf = e.checks.add
	e.st.onRoll = e.keeper.rolled
	e.st.halves.Undecided(func(h halves.Half) {
		if h.State == halves.Open {
			e.checks.add(h)
		}
	})
	e.st.mu.Unlock()
	e.writing.Go(e.w.loop)
	e.wg.Go(e.keeper.run)
}

// serve runs the services that write by themselves: a message whose delay is
// over must not get an offset that a lost one may have had.
func (e *engine) serve() {
	e.wg.Go(e.delays.run)
	e.wg.Go(e.checks.run)
	e.wg.Go(e.flush.run)
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
		e.checks.end()
	}()
	awaitEnd(ctx, callbacks)
	e.w.close()
	e.writing.Wait()
	e.keeper.finish()
	if err := errors.Join(e.closeFiles()); err != nil {
		return &driver.Error{Code: driver.Unavailable, Op: "close store " + e.path, Err: err}
	}
	return nil
}

// closeFiles closes what is open of index, log and file system.
func (e *engine) closeFiles() error {
	var errs []error
	if e.log != nil {
		errs = append(errs, e.log.Close())
	}
	if e.st != nil && e.st.set != nil {
		errs = append(errs, e.st.set.Close())
	}
	if e.owned {
		errs = append(errs, e.fs.Close())
	}
	return errors.Join(errs...)
}

// health is nil while the store takes messages.
func (e *engine) health() error {
	if err := e.log.Failed(); err != nil {
		e.w.fail(err)
	}
	op := "check store " + e.path
	if f := e.w.failed.Load(); f != nil {
		return withOp(f, op)
	}
	if e.w.full.Load() {
		return withOp(fullError(), op)
	}
	return nil
}

// lost counts a gap that a group has met and makes the error that tells it.
func (e *engine) lost(g *driver.GapError, group, op string) *driver.Error {
	where := []slog.Attr{
		slog.String("group", group), slog.String("lane", g.Lane), slog.Int64("from", g.From), slog.Int64("to", g.To),
		slog.String("reason", g.Reason.String()),
	}
	if g.Unsure {
		// The operator has heard of the damage, once for the store.
		e.cfg.Logger.LogAttrs(e.root, slog.LevelInfo, "a group passes offsets that lost messages may have had, if there were any", where...)
	} else {
		e.count.lost(g)
		e.cfg.Logger.LogAttrs(e.root, slog.LevelError, "messages are lost to a group", where...)
	}
	return &driver.Error{Code: driver.DataLoss, Op: op, Err: g}
}

// gone is why the messages in front of the first one of a queue are not there.
func (e *engine) gone() driver.GapReason {
	if h := e.log.Holes(); len(h) > 0 && h[0].Pos <= e.log.Start() {
		return driver.Damage // the log begins with what is lost
	}
	return driver.Retention
}

// guessed reports whether lost offsets were left out because there may have been
// messages; known is the position at which they became lost. Where a message
// behind them tells of them, they were there.
func (e *engine) guessed(known int64) bool {
	kind, _, err := e.log.ReadSized(known, sizeUnknown, nil)
	return err == nil && record.Kind(kind) == record.TopicCreated
}

// rotten takes an index file out of use whose bytes have changed, so that the
// next opening makes it anew.
func (e *engine) rotten(err error) {
	d, ok := errors.AsType[*segindex.DamagedError](err)
	if !ok || d.Name == "" {
		return
	}
	if rerr := e.fs.Remove(d.Name); rerr == nil {
		e.count.unread(err)
		e.cfg.Logger.Error("an index file is damaged; the next start makes it anew from the log", slog.Any("error", err))
	} else if !vfs.IsNotExist(rerr) {
		e.cfg.Logger.Error("a damaged index file was not removed", slog.Any("error", rerr))
	}
}

// newSet makes the index of a store.
func (e *engine) newSet(store uint64) *segindex.Set { return segindex.New(e.fs, store) }

// corruptFrame says that a frame contradicts what came before it.
func corruptFrame(pos int64, err error) error {
	return fmt.Errorf("frame at %d: %w: %w", pos, commitlog.ErrCorrupt, err)
}
