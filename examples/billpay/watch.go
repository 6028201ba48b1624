package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

const (
	// lookEvery is how often the run is looked at.
	lookEvery = 100 * time.Millisecond
	// quietFor is how long nothing may move before the run counts as over with
	// something missing. It is longer than any retry delay of the services.
	quietFor = 10 * time.Second
	// echoFor is how long a run that is complete waits for the last duplicates
	// to be stopped, which may be on hold behind a lease. After a kill -9 some
	// of them may have been stopped without being counted.
	echoFor = 2 * time.Second
)

// groups are the consumer groups whose backlog says whether work is left. notify
// is not among them: the position of a broadcast belongs to its instance.
var groups = []string{"bills", "red-packet", "ledger", "closer", "closer-payments"}

// progress is how far the services have come, read from their databases.
type progress struct {
	Bills, Open, Paid, RolledBack, Closed       int
	Credits, Entries, Notices, Payments, Remind int
	Resent, Stopped                             int   // duplicates sent, and stopped by decorator or wallet
	Behind                                      int64 // messages that a group has not settled
}

// complete reports whether every service has done its part for every bill.
func (p progress) complete() bool {
	return p.Open == 0 && p.Credits >= p.Paid && p.Entries >= p.Paid && p.Notices >= p.Paid && p.Payments >= p.Paid &&
		p.Remind >= p.Bills && p.Closed >= p.RolledBack && p.Behind == 0
}

// line fits a terminal of 80 columns for as long as the numbers have four digits.
func (p progress) line() string {
	return fmt.Sprintf("%d/%d decided │ packets %d │ ledger %d │ notices %d │ reminders %d/%d",
		p.Bills-p.Open, p.Bills, p.Credits, p.Entries, p.Notices, p.Remind, p.Bills)
}

// String says everything, for a run that fails.
func (p progress) String() string {
	return fmt.Sprintf("bills %d  paid %d  rolled back %d  open %d │ red packets %d  ledger %d  notices %d  reminders %d  closed %d │ backlog %d",
		p.Bills, p.Paid, p.RolledBack, p.Open, p.Credits, p.Entries, p.Notices, p.Remind, p.Closed, p.Behind)
}

// watch looks at the services from outside: it reads their databases and asks
// the broker how far their groups are behind. It is used by one goroutine.
type watch struct {
	client *sdk.Client
	views  map[string]*sql.DB
	apart  bool // the services are processes that come and go as their users like
}

func newWatch(f folder, client *sdk.Client, apart bool) (*watch, error) {
	w := &watch{client: client, views: map[string]*sql.DB{}, apart: apart}
	for service := range services() {
		db, err := f.view(service)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.views[service] = db
	}
	return w, nil
}

// Close closes the views.
func (w *watch) Close() error {
	var errs []error
	for _, db := range w.views {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// Look reads the progress.
func (w *watch) Look(ctx context.Context) (progress, error) {
	p, err := w.counts(ctx)
	if err != nil || w.client == nil {
		return p, err
	}
	conn, err := w.client.Conn(ctx)
	if err != nil {
		return p, err
	}
	for _, g := range groups {
		lag, err := conn.Extensions().Groups.Lag(ctx, g)
		if driver.CodeOf(err) == driver.NotFound {
			continue // it has not joined yet
		}
		if err != nil {
			return p, fmt.Errorf("ask how far group %s is behind: %w", g, err)
		}
		for _, l := range lag {
			p.Behind += l.Behind()
		}
	}
	return p, nil
}

func (w *watch) counts(ctx context.Context) (progress, error) {
	var p progress
	for _, q := range []struct {
		service, query string
		into           []any
	}{
		{
			"bills", `SELECT count(*), coalesce(sum(state = 'announced'), 0), coalesce(sum(state = 'paid'), 0),
				coalesce(sum(state = 'rolled_back'), 0), coalesce(sum(closed), 0), coalesce(sum(resent), 0) FROM bills`,
			[]any{&p.Bills, &p.Open, &p.Paid, &p.RolledBack, &p.Closed, &p.Resent},
		},
		{
			"redpacket", `SELECT (SELECT count(*) FROM movements),
				(SELECT coalesce(sum(duplicates), 0) FROM suppressed) + (SELECT count(*) FROM stopped)`,
			[]any{&p.Credits, &p.Stopped},
		},
		{"ledger", `SELECT count(*) FROM entries`, []any{&p.Entries}},
		{"notify", `SELECT count(*) FROM notices`, []any{&p.Notices}},
		{"closer", `SELECT (SELECT count(*) FROM paid), (SELECT count(*) FROM reminders)`, []any{&p.Payments, &p.Remind}},
	} {
		if err := w.views[q.service].QueryRowContext(ctx, q.query).Scan(q.into...); err != nil {
			return p, fmt.Errorf("look at %s: %w", q.service, err)
		}
	}
	return p, nil
}

// missing names the other services that were never started on this folder: they
// have no tables to look at.
func (w *watch) missing(ctx context.Context) ([]string, error) {
	var missing []string
	for service, view := range w.views {
		if service == "bills" {
			continue
		}
		var tables int
		if err := view.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&tables); err != nil {
			return nil, fmt.Errorf("look for %s: %w", service, err)
		}
		if tables == 0 {
			missing = append(missing, service)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

// Others waits until each of the other services was started. It tells say once
// which ones were not.
func (w *watch) Others(ctx context.Context, say func(missing []string)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var absent []string
	for {
		missing, err := w.missing(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: there was no %s", context.Cause(ctx), strings.Join(absent, ", "))
		}
		if err != nil || len(missing) == 0 {
			return err
		}
		if absent == nil {
			say(missing)
		}
		absent = missing
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// DeadLetters counts what the groups gave up.
func (w *watch) DeadLetters(ctx context.Context) (int, error) {
	const page = 256
	conn, err := w.client.Conn(ctx)
	if err != nil {
		return 0, err
	}
	ext := conn.Extensions()
	topics, err := ext.Topics.Topics(ctx)
	if err != nil {
		return 0, fmt.Errorf("list topics: %w", err)
	}
	n := 0
	for _, t := range topics {
		// The cluster may hold the dead letters of others.
		ours := func(group string) bool { return t.Name == driver.DeadLetterTopic(group) }
		if !slices.ContainsFunc(groups, ours) && !ours("notify") {
			continue
		}
		for queue := range t.Queues {
			for offset := int64(0); ; {
				ds, err := ext.Query.Browse(ctx, t.Name, queue, offset, page)
				if err != nil {
					return 0, fmt.Errorf("browse %s: %w", t.Name, err)
				}
				if len(ds) == 0 {
					break
				}
				n += len(ds)
				offset = ds[len(ds)-1].Offset + 1
			}
		}
	}
	return n, nil
}

// errQuiet says that the services have stopped moving before they were done.
var errQuiet = errors.New("nothing moves any more, and the run is not complete")

// Until looks at the run until it is complete. fed is closed once the last bill
// was handed in; show may be nil.
func (w *watch) Until(ctx context.Context, fed <-chan struct{}, show func(progress)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last progress
	moved := time.Now()
	for {
		all := closed(fed) // asked first: what is looked at then has every bill in it
		p, err := w.Look(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %s", context.Cause(ctx), last)
		}
		if err != nil {
			return err
		}
		if show != nil {
			show(p)
		}
		if p != last {
			last, moved = p, time.Now()
		}
		if all {
			if p.complete() && (p.Stopped >= p.Resent || time.Since(moved) > echoFor) {
				return nil
			}
			due, err := w.reminderDue(ctx)
			if err != nil {
				return err
			}
			if due && !w.apart && time.Since(moved) > quietFor {
				return fmt.Errorf("%w: %s", errQuiet, p)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), p)
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// reminderDue reports whether the last reminder should have come.
func (w *watch) reminderDue(ctx context.Context) (bool, error) {
	var last int64
	if err := w.views["bills"].QueryRowContext(ctx, `SELECT coalesce(max(due_at_ms), 0) FROM bills`).Scan(&last); err != nil {
		return false, fmt.Errorf("look at bills: %w", err)
	}
	return time.Now().UnixMilli() > last, nil
}

// onTerminal returns a function that keeps one line of progress on out, and one
// that ends the line; both do nothing if out is no terminal.
func onTerminal(out io.Writer) (show func(progress), end func()) {
	f, ok := out.(*os.File)
	if ok {
		info, err := f.Stat()
		ok = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if !ok {
		return nil, func() {}
	}
	return func(p progress) { fmt.Fprintf(out, "\r\x1b[K%s", p.line()) }, func() { fmt.Fprintln(out) }
}
