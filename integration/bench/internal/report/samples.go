package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// Sample is what one step has measured in one round.
type Sample struct {
	Round   int             `json:"round"`
	Step    string          `json:"step"`
	Figures measure.Figures `json:"figures,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// Write writes the sample as a line of JSON.
func (s Sample) Write(w io.Writer) error {
	line, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode sample of %s: %w", s.Step, err)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write sample of %s: %w", s.Step, err)
	}
	return nil
}

// Samples are those of a run, by step and figure.
type Samples map[string]map[string][]float64

// Add keeps a sample; one with an error has no figures.
func (ss Samples) Add(s Sample) {
	if ss[s.Step] == nil {
		ss[s.Step] = map[string][]float64{}
	}
	for name, v := range s.Figures {
		ss[s.Step][name] = append(ss[s.Step][name], v)
	}
}

// Median is the median of a figure over the rounds.
func (ss Samples) Median(step, figure string) (float64, bool) {
	values := ss[step][figure]
	return Median(values), len(values) > 0
}

// Steps are the names of all steps, sorted.
func (ss Samples) Steps() []string { return slices.Sorted(maps.Keys(ss)) }

// Median is the middle of values, of an even number the mean of the middle
// two, of none not a number.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
