// Command bench-store measures the bundled broker beside its peers and the
// limits of the machine, in interleaved rounds, and prints how it stands to its
// goals. It exits with 1 if one is short.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/report"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == child.Argument {
		os.Exit(child.Main(os.Args[2:]))
	}
	short, err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench-store:", err)
		os.Exit(2)
	case short > 0:
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rows        []int
	rounds      int
	span        time.Duration
	quick       bool
	skipMissing bool
	out, dir    string
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench-store", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Func("rows", "rows to measure, such as 1,4,5 (default all)", func(list string) error {
		for text := range strings.SplitSeq(list, ",") {
			n, err := strconv.Atoi(text)
			if err != nil {
				return fmt.Errorf("%q is no number of a row", text)
			}
			o.rows = append(o.rows, n)
		}
		return nil
	})
	flags.IntVar(&o.rounds, "rounds", 5, "rounds; the medians are taken over them")
	flags.DurationVar(&o.span, "dur", 600*time.Millisecond, "measured time of a loop")
	flags.BoolVar(&o.quick, "quick", false, "one round of 200ms and small sizes: tries the benchmark, measures nothing")
	flags.BoolVar(&o.skipMissing, "skip-missing", false, "a peer that is not installed is no shortfall")
	flags.StringVar(&o.out, "out", "", "file that raw results are appended to as JSON lines")
	flags.StringVar(&o.dir, "dir", "", "existing folder for stores, on the disk to measure (default the system's temporary folder)")
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

// run measures and prints; it answers how many ratios are short.
func run(args []string, out, errs io.Writer) (short int, err error) {
	o, err := parse(args, errs)
	if err != nil {
		return 0, err
	}
	rows, err := row.Select(o.rows)
	if err != nil {
		return 0, err
	}
	patience := 2 * time.Minute
	if o.quick {
		patience = 0
	}
	scratch, err := measure.NewScratch(o.dir, patience)
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
	b := &row.Bench{Scratch: scratch, For: o.span, Quick: o.quick, Stuck: func(step string) {
		fmt.Fprintf(errs, "bench-store: step %s does not end; its goroutines:\n", step)
		_ = pprof.Lookup("goroutine").WriteTo(errs, 2)
		abandon(scratch)
	}}
	result, err := row.Run(b, rows, o.rounds, keep)
	if err != nil {
		return 0, err
	}
	return write(out, result, rows, o.skipMissing)
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
		fmt.Fprintf(out, "%2d  %s\n", r.Number, r.What)
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
