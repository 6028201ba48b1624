package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// noisy is how many cores others may use before a median is marked.
const noisy = 0.35

// Ratios writes the ratios as a table, rows by their numbers.
func Ratios(w io.Writer, rs []Ratio) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tcase\tours\tref\tvalue\tmust\ttarget\tmet")
	for _, r := range rs {
		met := string(r.Met())
		if !r.Judged() {
			met = ""
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%v\t%v\t%s\n",
			r.Row, r.Case, r.number(r.Ours), r.ref(), r.number(r.Value()), r.Must, r.Target, met)
	}
	return t.Flush()
}

// Medians writes what was measured: a line a step, each figure as its median
// and, of several rounds, its range. A step during which others used much of
// the machine is marked.
func Medians(w io.Writer, ss Samples) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, step := range ss.Steps() {
		var cells []string
		mark := ""
		for _, name := range slices.Sorted(maps.Keys(ss[step])) {
			values := ss[step][name]
			if strings.HasSuffix(name, "others") {
				if Median(values) > noisy {
					mark = "  (others were busy)"
				}
				continue
			}
			cell := name + "=" + Number(Median(values))
			if len(values) > 1 {
				cell += fmt.Sprintf("(%s..%s)", Number(slices.Min(values)), Number(slices.Max(values)))
			}
			cells = append(cells, cell)
		}
		fmt.Fprintf(t, "%s\t%s%s\n", step, strings.Join(cells, " "), mark)
	}
	return t.Flush()
}

// Summary tells how many ratios met what, and how many are short.
func Summary(rs []Ratio) (text string, short int) {
	count := map[Verdict]int{}
	for _, r := range rs {
		if r.Judged() {
			count[r.Met()]++
		}
	}
	text = fmt.Sprintf("%d met the target, %d the must, %d short", count[Target], count[Must], count[Short])
	if n := count[Skipped]; n > 0 {
		text += fmt.Sprintf(", %d skipped", n)
	}
	return text, count[Short]
}
