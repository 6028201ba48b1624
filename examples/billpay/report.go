package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// report is what a run, and the earlier runs on the same folder, have done.
type report struct {
	Bills        int `json:"bills"`
	RejectedRows int `json:"rejected_rows"` // of this run's input
	Committed    int `json:"committed"`
	RolledBack   int `json:"rolled_back"`
	CheckedBack  int `json:"checked_back"`
	RedPackets   int `json:"red_packets"`
	// DuplicatesSuppressed is what the idempotency decorator stopped,
	// StoppedByWallet what got past it and met the unique bill id.
	DuplicatesSuppressed int   `json:"duplicates_suppressed"`
	StoppedByWallet      int   `json:"stopped_by_wallet"`
	DoublePayouts        int   `json:"double_payouts"`
	Lost                 int   `json:"lost"`
	LedgerInversions     int   `json:"ledger_inversions"`
	ClosedUnpaid         int   `json:"closed_unpaid"`
	DeadLetters          int   `json:"dead_letters"`
	DrainMS              int64 `json:"drain_ms"`
	// Pending is what an interrupted run leaves to the next one: bills that are
	// undecided, and paid ones whose red packet is still on its way. In a run
	// that was not interrupted the latter count as Lost.
	Pending     int  `json:"pending"`
	Interrupted bool `json:"interrupted"`

	findings []string
}

// outcome is what the databases cannot know.
type outcome struct {
	rejected    int
	deadLetters int
	interrupted bool
	drain       time.Duration
}

// makeReport reads the databases of the services after they have stopped.
func makeReport(ctx context.Context, w *watch, o outcome) (report, error) {
	p, err := w.Look(ctx)
	if err != nil {
		return report{}, err
	}
	r := report{
		Bills: p.Bills, RejectedRows: o.rejected, Committed: p.Paid, RolledBack: p.RolledBack, RedPackets: p.Credits,
		ClosedUnpaid: p.Closed, DeadLetters: o.deadLetters, DrainMS: o.drain.Milliseconds(), Interrupted: o.interrupted,
	}
	for _, q := range []struct {
		service, query string
		into           *int
	}{
		{"bills", `SELECT count(*) FROM checks`, &r.CheckedBack},
		{"redpacket", `SELECT coalesce(sum(duplicates), 0) FROM suppressed`, &r.DuplicatesSuppressed},
		{"redpacket", `SELECT count(*) FROM stopped`, &r.StoppedByWallet},
	} {
		if err := w.views[q.service].QueryRowContext(ctx, q.query).Scan(q.into); err != nil {
			return report{}, fmt.Errorf("%s: %w", q.query, err)
		}
	}
	if r.LedgerInversions, err = countInversions(ctx, w.views["ledger"]); err != nil {
		return report{}, err
	}
	a, err := reconcile(ctx, w.views["bills"], w.views["redpacket"])
	if err != nil {
		return report{}, err
	}
	r.Lost, r.DoublePayouts, r.findings = a.Lost, a.DoublePayouts, a.Findings
	r.Pending = p.Open
	if o.interrupted {
		r.Pending, r.Lost = r.Pending+r.Lost, 0
		if r.DoublePayouts == 0 {
			r.findings = nil // what is on its way is no finding
		}
	}
	return r, nil
}

// check says why the report is not that of a run in order; nil if it is.
func (r report) check() error {
	switch {
	case r.Lost != 0 || r.DoublePayouts != 0:
		return fmt.Errorf("the balances do not match the bills: %d lost, %d double payouts", r.Lost, r.DoublePayouts)
	case r.LedgerInversions != 0:
		return fmt.Errorf("the ledger saw %d inversions", r.LedgerInversions)
	case r.Interrupted:
		return nil
	case r.Committed+r.RolledBack != r.Bills:
		return fmt.Errorf("%d bills are neither committed nor rolled back", r.Bills-r.Committed-r.RolledBack)
	case r.RedPackets != r.Committed:
		return fmt.Errorf("%d bills were committed and %d red packets paid", r.Committed, r.RedPackets)
	case r.DeadLetters != 0:
		return fmt.Errorf("%d messages were given up", r.DeadLetters)
	default:
		return nil
	}
}

// print writes the report as one line of JSON or as text.
func (r report) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	for _, f := range r.findings {
		if _, err := fmt.Fprintln(out, f); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, `bills                 %6d   rows refused %d
  committed           %6d   decided by check-back %d
  rolled back         %6d   closed unpaid %d
red packets           %6d   duplicates suppressed %d, stopped by the wallet alone %d
lost                  %6d
double payouts        %6d
ledger inversions     %6d
dead letters          %6d
drained in            %6d ms
`, r.Bills, r.RejectedRows, r.Committed, r.CheckedBack, r.RolledBack, r.ClosedUnpaid, r.RedPackets,
		r.DuplicatesSuppressed, r.StoppedByWallet, r.Lost, r.DoublePayouts, r.LedgerInversions, r.DeadLetters, r.DrainMS)
	if err == nil && r.Interrupted {
		_, err = fmt.Fprintf(out, "interrupted           %6d bills are left for the next run on the same -dir\n", r.Pending)
	}
	return err
}
