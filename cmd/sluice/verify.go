package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/offline"
)

const verifyUsage = `usage: sluice log verify DIR

Reads the store in DIR from end to end: manifests, every frame of the log and
what it holds, index files, checkpoints, and whether they say the same. It
prints a summary, and every damage as: file offset length reason.

Damage that is "derived" loses nothing: delete the file while the store is
closed, the next start makes it anew. A torn tail, and files that are missing
or old and are made anew, are no damage. Ranges that were quarantined are
listed, and are no new damage.

A store that a process has open can be read; the end of it may move meanwhile.

exit codes: 0 all is well, 1 damage was found, 2 wrong usage or DIR cannot be read
`

// runVerify is "sluice log verify".
func runVerify(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	dir, code, done := parse(newFlags("log verify", verifyUsage), args, stdout, stderr)
	if done {
		return code
	}
	fs, err := open(dir)
	if err != nil {
		return failed(stderr, err)
	}
	defer func() { _ = fs.Close() }() // nothing was written
	held := holder(dir)
	report, err := offline.Verify(ctx, fs)
	if err != nil {
		return failed(stderr, explain(dir, err))
	}
	if held == "" {
		held = holder(dir) // it may have come meanwhile
	}
	if err := printReport(stdout, report, held); err != nil {
		return failed(stderr, fmt.Errorf("print the report: %w", err))
	}
	if len(report.Damage) > 0 {
		return exitDamage
	}
	return exitFine
}

// printReport prints the summary, then a line for each damage.
func printReport(w io.Writer, r offline.Report, held string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	if r.FormatVersion > 0 {
		line("store", "%016x, format %d, made %s", r.StoreID, r.FormatVersion, r.Created.UTC().Format(time.RFC3339))
	} else {
		line("store", "%016x, no manifest can be read", r.StoreID)
	}
	line("closed", "%s", closed(r, held))
	line("log", "from %d to %d, %s in %s", r.Start, r.End, plural(r.Frames, "frame"), plural(r.Segments, "segment"))
	for _, k := range r.Kinds {
		line("", "%d %s, %d bytes", k.Frames, k.Kind, k.Bytes)
	}
	line("messages", "%d, with bodies of %s", r.Messages, plural(r.BodyBytes, "byte"))
	line("waiting", "%d for their time, %d for a decision", r.Delayed, r.Undecided)
	if r.TornBytes > 0 {
		line("torn tail", "%s at %d, which the next start cuts off", plural(r.TornBytes, "byte"), r.End)
	}
	for _, n := range r.Notes {
		line("note", "%s %s", text(n.File), n.Text)
	}
	for _, d := range r.Quarantined {
		line("quarantined", "%s", damage(d))
	}
	if held != "" {
		line("note", "%s: the end of the log may have moved, read again before you believe what is said of it", held)
	}
	line("damage", "%s", places(r.Damage))
	if err := t.Flush(); err != nil {
		return err
	}
	for _, d := range r.Damage {
		if _, err := fmt.Fprintln(w, damage(d)); err != nil {
			return err
		}
	}
	return nil
}

func closed(r offline.Report, held string) string {
	switch {
	case r.Clean:
		return "in order"
	case held != "":
		return "no, " + held
	}
	return "no: its process was killed, or has it open still"
}

func places(all []offline.Damage) string {
	if len(all) == 0 {
		return "none"
	}
	derived := 0
	for _, d := range all {
		if d.Derived {
			derived++
		}
	}
	s := plural(len(all), "place")
	if derived > 0 {
		s += fmt.Sprintf(", %d of them in derived files", derived)
	}
	return s
}

// damage is one line: file offset length reason.
func damage(d offline.Damage) string {
	s := fmt.Sprintf("%s %d %d %s", text(d.File), d.Offset, d.Length, strings.Join(strings.Fields(d.Reason), " "))
	if d.Derived {
		s += " (derived)"
	}
	return s
}

func plural[N int | int64](n N, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
