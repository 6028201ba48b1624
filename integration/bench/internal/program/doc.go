// Package program is what the benchmarks of this module share as programs:
// their flags, their rounds, and what they print. A line a ratio comes first,
// then tables; the exit code is 1 if a goal is short and 2 if the run failed.
package program

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/report"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// Program is one benchmark.
type Program struct {
	Name string
	// Rows is the table of goals.
	Rows []row.Row
	// Span is the measured time of a loop unless a flag says otherwise.
	Span time.Duration
	// Flags, if set, adds flags of the program's own.
	Flags func(*flag.FlagSet)
	// Prepare is called once before the first round with the rows that were
	// selected; it answers the steps, and what ends all that it has started.
	Prepare func(b *row.Bench, rows []row.Row) (steps []row.Step, end func() error, err error)
}

// Main runs the program and returns its exit code.
func (p Program) Main(args []string) int {
	short, err := p.Run(args, os.Stdout, os.Stderr)
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		return 2
	case short > 0:
		return 1
	default:
		return 0
	}
}

// options are the flags.
type options struct {
	rows        []string
	rounds      int
	span        time.Duration
	quick       bool
	skipMissing bool
	out, dir    string
}

func (p Program) parse(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Func("rows", "rows to measure, comma separated, such as "+p.Rows[0].Name+" (default all)", func(list string) error {
		o.rows = strings.Split(list, ",")
		return nil
	})
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; the medians are taken over them")
	flags.DurationVar(&o.span, "dur", p.Span, "measured time of a loop")
	flags.BoolVar(&o.quick, "quick", false, "one round of 200ms and small sizes: tries the benchmark, measures nothing")
	flags.BoolVar(&o.skipMissing, "skip-missing", false, "a peer that is not installed is no shortfall")
	flags.StringVar(&o.out, "out", "", "file that raw results are appended to as JSON lines")
	flags.StringVar(&o.dir, "dir", "", "existing folder for stores, on the disk to measure (default the system's temporary folder)")
	if p.Flags != nil {
		p.Flags(flags)
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.span <= 0 {
		return o, fmt.Errorf("-rounds and -dur take more than 0, and there are no arguments, got %v", flags.Args())
	}
	if o.quick {
		o.rounds, o.span = 1, 200*time.Millisecond
	}
	return o, nil
}

// Run measures and prints; it answers how many ratios are short.
func (p Program) Run(args []string, out, errs io.Writer) (short int, err error) {
	o, err := p.parse(args, errs)
	if err != nil {
		return 0, err
	}
	rows, err := row.Select(p.Rows, o.rows)
	if err != nil {
		return 0, err
	}
	patience := 2 * time.Minute
	if o.quick {
		patience = 0
	}
	scratch, err := measure.NewScratch(o.dir, p.Name, patience)
	if err != nil {
		return 0, err
	}
	defer func() { _ = scratch.Close() }()
	defer onSignal(scratch)()
	if scratch.InMemory() && !o.quick {
		return 0, fmt.Errorf("%s is in memory; -dir takes a folder on the disk to measure", scratch.Path(""))
	}
	keep, done, err := keeper(o.out, errs)
	if err != nil {
		return 0, err
	}
	defer done()
	result, err := p.measure(o, rows, scratch, keep, errs)
	if err != nil {
		return 0, err
	}
	return write(out, result, rows, o.skipMissing)
}

// measure prepares the steps, runs them, and ends what was prepared.
func (p Program) measure(
	o options, rows []row.Row, scratch *measure.Scratch, keep func(report.Sample) error, errs io.Writer,
) (row.Outcome, error) {
	b := &row.Bench{Scratch: scratch, For: o.span, Quick: o.quick, Stuck: func(step string) {
		fmt.Fprintf(errs, "%s: step %s does not end; its goroutines:\n", p.Name, step)
		_ = pprof.Lookup("goroutine").WriteTo(errs, 2)
		abandon(scratch)
	}}
	steps, end, err := p.Prepare(b, rows)
	if err != nil {
		return row.Outcome{}, err
	}
	result, err := row.Run(b, steps, rows, o.rounds, keep)
	if failed := end(); failed != nil {
		fmt.Fprintf(errs, "%s: end of the run: %v\n", p.Name, failed)
	}
	return result, err
}

// onSignal deletes the stores, which may be large, when the program is
// interrupted; the func that it returns ends that.
func onSignal(scratch *measure.Scratch) (end func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; ok {
			abandon(scratch)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// abandon ends the program at once. Its children end with it.
func abandon(scratch *measure.Scratch) {
	_ = scratch.Close()
	os.Exit(2)
}

// keeper tells of every sample, and appends it to the file of that name.
func keeper(name string, errs io.Writer) (keep func(report.Sample) error, done func(), err error) {
	raw, done := io.Discard, func() {}
	if name != "" {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("open file for raw results: %w", err)
		}
		raw, done = f, func() { _ = f.Close() }
	}
	return func(s report.Sample) error {
		fmt.Fprintf(errs, "round %d %s %s\n", s.Round+1, s.Step, s.Error)
		return s.Write(raw)
	}, done, nil
}

// write writes a line a ratio, then the tables.
func write(out io.Writer, o row.Outcome, rows []row.Row, skipMissing bool) (short int, err error) {
	ratios := o.Ratios(rows, skipMissing)
	for _, r := range ratios {
		fmt.Fprintln(out, r.Line())
	}
	fmt.Fprintln(out)
	for _, r := range rows {
		fmt.Fprintf(out, "%3s  %s\n", r.Name, r.What)
	}
	fmt.Fprintln(out)
	if err := report.Ratios(out, ratios); err != nil {
		return 0, err
	}
	fmt.Fprintln(out, "\nmeasured: medians, and the ranges of several rounds")
	if err := report.Medians(out, o.Samples); err != nil {
		return 0, err
	}
	text, short := report.Summary(ratios)
	fmt.Fprintln(out, "\n"+text)
	return short, nil
}
