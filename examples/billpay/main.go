// Command billpay is a scenario of five services on one broker: bills are paid
// in local transactions with half messages, each settled bill earns a red
// packet exactly once, a ledger keeps the order of each account, customers are
// notified, and bills that nobody paid are closed. With -chaos it breaks its own
// transactions, senders and handlers, and shows from the databases that nothing
// was lost and nothing was paid twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	redis.SetLogger(silence{})
	// The first signal drains; after it the default is back, so a second one kills.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// silence drops what the Redis client prints past every logger: that it cannot
// connect is said once, by the caller that it fails.
type silence struct{}

// Printf implements the logger of go-redis.
func (silence) Printf(context.Context, string, ...any) {}

// errInterrupted is why a run ends early when its user asks for it.
var errInterrupted = errors.New("interrupted")

// run is the program; it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	f, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		fmt.Fprintf(stderr, "billpay: %v\n", err)
		return exitRejected
	}
	r, err := scenario(ctx, f, stdin, stderr)
	if r != nil {
		if e := r.print(stdout, f.json); e != nil {
			err = errors.Join(err, fmt.Errorf("print the report: %w", e))
		}
		err = errors.Join(err, r.check())
	}
	switch {
	case r == nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "billpay: interrupted before it began")
		return exitInterrupted
	case err != nil:
		fmt.Fprintf(stderr, "billpay: %v\n", err)
		return exitFailed
	case r == nil: // a service of its own, told to end
		return exitDone
	case r.Interrupted && f.dir == "":
		fmt.Fprintln(stderr, "billpay: interrupted; its folder was temporary, -dir keeps one to continue with")
		return exitInterrupted
	case r.Interrupted:
		fmt.Fprintln(stderr, "billpay: interrupted; a run with the same -dir continues")
		return exitInterrupted
	case r.RejectedRows > 0:
		fmt.Fprintf(stderr, "billpay: %d rows were refused\n", r.RejectedRows)
		return exitRejected
	default:
		return exitDone
	}
}

// scenario opens what the services share, runs them and reports. The report is
// nil if the services did not start, and in a process that pays no bills.
func scenario(ctx context.Context, f flags, stdin io.Reader, stderr io.Writer) (r *report, err error) {
	in, closeInput, err := openInput(f.bills, stdin)
	if err != nil {
		return nil, err
	}
	defer func() { _ = closeInput.Close() }() // it was only read
	if f.bills == "" && f.pays() {
		if err := folder(f.dir).begun(); err != nil {
			return nil, err
		}
	}
	dir, remove, err := openFolder(f.dir)
	if err != nil {
		return nil, err
	}
	closing := func(what string, f func() error) {
		if e := f(); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", what, e))
		}
	}
	defer closing("remove the temporary folder", remove)
	rdb, closeRedis, err := openRedis(ctx, f.redis)
	if err != nil {
		return nil, err
	}
	defer closing("close redis", closeRedis)
	traces, closeTrace, err := openTrace(f.trace)
	if err != nil {
		return nil, err
	}
	defer closing("finish the trace", func() error { return closeTrace(context.WithoutCancel(ctx)) })

	level := slog.LevelError
	if f.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	dbs := &databases{folder: dir}
	defer closing("close the databases", dbs.Close)
	p := platform{databases: dbs, redis: rdb, traces: traces, log: log, flags: f}
	if !f.pays() {
		return nil, serve(ctx, p)
	}
	s := session{in: in, stderr: stderr, deadline: f.deadline, folder: dir, apart: f.as != ""}
	app, err := newApp(p, fx.Populate(&s.bills, &s.client))
	if err != nil {
		return nil, err
	}
	return s.run(ctx, app)
}

// serve runs a service that pays no bills until ctx ends.
func serve(ctx context.Context, p platform) error {
	app, err := newApp(p)
	if err != nil {
		return err
	}
	start, cancel := context.WithTimeout(ctx, app.StartTimeout())
	defer cancel()
	if err := app.Start(start); err != nil {
		return rootCause(err)
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), app.StopTimeout())
	defer cancel()
	if err := app.Stop(stop); err != nil {
		return fmt.Errorf("stop %s: %w", p.flags.as, err)
	}
	return nil
}

// begun is why there is no earlier run to finish in the folder: its name is
// mostly a mistake, which must not make a folder that looks like a run.
func (f folder) begun() error {
	_, err := os.Stat(f.path("bills"))
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for an earlier run in the folder of -dir: %w", err)
	}
	why := "it has no " + filepath.Base(f.path("bills"))
	if _, err := os.Stat(string(f)); errors.Is(err, fs.ErrNotExist) {
		why = "it does not exist"
	}
	return fmt.Errorf("-dir %s holds no earlier run to finish: %s; -bills FILE begins one", string(f), why)
}

// openFolder makes the folder of a run, and one for this run alone if dir is "".
func openFolder(dir string) (folder, func() error, error) {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "billpay-")
		if err != nil {
			return "", nil, fmt.Errorf("make a temporary folder: %w", err)
		}
		return folder(tmp), func() error { return os.RemoveAll(tmp) }, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("make the folder of -dir: %w", err)
	}
	return folder(dir), func() error { return nil }, nil
}

// session is one run of the services.
type session struct {
	in       *rowReader
	stderr   io.Writer
	deadline time.Duration
	folder   folder
	apart    bool // the other services are processes of their own
	bills    *bills
	client   *sdk.Client
	rejected atomic.Int64
}

// run starts the services, feeds them, waits for them, stops them and reads
// what they have done.
func (s *session) run(ctx context.Context, app *fx.App) (*report, error) {
	w, err := newWatch(s.folder, s.client, s.apart)
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close() }() // only read
	if s.apart {
		if err := s.others(ctx, w); err != nil {
			return nil, err
		}
	}
	start, cancel := context.WithTimeout(ctx, app.StartTimeout())
	defer cancel()
	if err := app.Start(start); err != nil {
		return nil, rootCause(err)
	}

	runErr := s.work(ctx, w)
	after := context.WithoutCancel(ctx) // an interrupted run drains and reports
	o := outcome{rejected: int(s.rejected.Load()), interrupted: errors.Is(runErr, errInterrupted)}
	if o.interrupted {
		runErr = nil
	}
	o.deadLetters, err = w.DeadLetters(after)
	runErr = errors.Join(runErr, err)

	drained := time.Now()
	stop, cancel := context.WithTimeout(after, app.StopTimeout())
	defer cancel()
	if err := app.Stop(stop); err != nil {
		runErr = errors.Join(runErr, fmt.Errorf("stop the services: %w", err))
	}
	o.drain = time.Since(drained)
	w.client = nil // the broker is closed
	r, err := makeReport(after, w, o)
	if err != nil {
		return nil, errors.Join(runErr, err)
	}
	return &r, runErr
}

// others waits for the services that are processes of their own.
func (s *session) others(ctx context.Context, w *watch) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.deadline, fmt.Errorf("waited for %s", s.deadline))
	defer cancel()
	return w.Others(ctx, func(missing []string) {
		fmt.Fprintf(s.stderr, "billpay: bills waits for %s; start each with -as and the same -dir and -broker\n", strings.Join(missing, ", "))
	})
}

// work feeds the bills service and waits until all services are done.
func (s *session) work(parent context.Context, w *watch) error {
	// Not a child of parent: then the cause would be a race between two cancels.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	defer cancel(nil)
	late := time.AfterFunc(s.deadline, func() {
		cancel(fmt.Errorf("the run was not complete after %s", s.deadline))
	})
	defer late.Stop()
	unhook := context.AfterFunc(parent, func() { cancel(errInterrupted) })
	defer unhook()

	fed := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.bills.Run(ctx, stream(ctx, s.in), s.reject); err != nil {
			cancel(err)
			return
		}
		close(fed)
	}()
	show, end := onTerminal(s.stderr)
	err := w.Until(ctx, fed, show)
	end()
	cancel(err)
	<-ended
	return err
}

// reject reports a row that was skipped.
func (s *session) reject(err error) {
	s.rejected.Add(1)
	fmt.Fprintf(s.stderr, "billpay: %v; the row is skipped\n", err)
}
