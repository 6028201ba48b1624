package row

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/peer"
	"github.com/sluicemq/sluice/integration/bench/internal/report"
)

// longest is how long a step may take; filling the largest store is part of one.
const longest = 15 * time.Minute

// Outcome is what a run has measured.
type Outcome struct {
	Samples report.Samples
	// Problems are the first errors, by step.
	Problems map[string]error
}

// Run does what the rows need, so many times; each hears of every sample.
func Run(b *Bench, steps []Step, rows []Row, rounds int, each func(report.Sample) error) (Outcome, error) {
	needed := Needed(rows)
	o := Outcome{report.Samples{}, map[string]error{}}
	for b.Round = range rounds {
		for _, s := range steps {
			if !needed[s.Name] || errors.Is(o.Problems[s.Name], peer.ErrMissing) {
				continue
			}
			sample := report.Sample{Round: b.Round, Step: s.Name}
			if err := b.do(s, &sample); err != nil {
				sample.Figures, sample.Error = nil, err.Error()
				if o.Problems[s.Name] == nil {
					o.Problems[s.Name] = err
				}
			}
			o.Samples.Add(sample)
			if err := each(sample); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

// do runs one step in a fresh folder.
func (b *Bench) do(s Step, sample *report.Sample) error {
	b.Scratch.Calm()
	dir, err := b.Scratch.Fresh()
	if err != nil {
		return fmt.Errorf("step %s: %w", s.Name, err)
	}
	alarm := time.AfterFunc(longest, func() { b.Stuck(s.Name) })
	defer alarm.Stop()
	sample.Figures, err = s.Run(b, dir)
	if err = errors.Join(err, b.Scratch.Remove(dir)); err != nil {
		return fmt.Errorf("step %s: %w", s.Name, err)
	}
	return nil
}

// Ratios judges the goals of rows. With excuse a missing peer is no shortfall.
func (o Outcome) Ratios(rows []Row, excuse bool) []report.Ratio {
	var all []report.Ratio
	for _, r := range rows {
		for _, g := range r.Goals {
			all = append(all, o.ratio(r.Name, g, excuse))
		}
	}
	return all
}

func (o Outcome) ratio(name string, g Goal, excuse bool) report.Ratio {
	r := report.Ratio{Row: name, Case: g.Case, HasRef: g.Ref != "", Must: g.Must, Target: g.Target}
	r.Ours = o.figure(g.Ours, excuse, &r)
	if r.HasRef {
		r.Ref = o.figure(g.Ref, excuse, &r)
	}
	return r
}

// figure is a median; a problem of its step becomes that of the ratio.
func (o Outcome) figure(key string, excuse bool, r *report.Ratio) float64 {
	step, name, _ := strings.Cut(key, ":")
	v, ok := o.Samples.Median(step, name)
	switch err := o.Problems[step]; {
	case err != nil:
		r.Problem, r.Excused = err.Error(), excuse && errors.Is(err, peer.ErrMissing)
	case !ok:
		r.Problem = "there is no figure " + key
	}
	return v
}
