package listener

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/sdk/config"
)

const (
	// defaultAttempts is the first delivery and RocketMQ's sixteen retries.
	defaultAttempts = 17
	// defaultBackoff is the ladder of RocketMQ's consumers; together 4 h 45 m 40 s.
	defaultBackoff = "10s,30s,1m,2m,3m,4m,5m,6m,7m,8m,9m,10m,20m,30m,1h,2h"
	// maxBackoff keeps a mistyped delay from being a message that never returns.
	maxBackoff = 30 * 24 * time.Hour
)

// RetryPolicy says how often a failed delivery is repeated and when.
//
// Attempts is the number of runs of the handler for one message, the first one
// included: with 1 nothing is repeated, and the default of 17 is one delivery
// and sixteen retries, as RocketMQ counts. Only failed runs count; a message
// that was deferred, held, or interrupted by a shutdown keeps its attempts.
type RetryPolicy struct {
	Attempts int
	// Delays[i] is waited after the failed attempt i+1; the last one repeats.
	// It is not empty.
	Delays []time.Duration
	// Jitter is the share of a delay by which it is spread to both sides, 0 to 1.
	Jitter float64
}

// Delay is how long to wait after so many failed attempts.
func (p RetryPolicy) Delay(failed int) time.Duration {
	d := p.Delays[min(max(failed, 1), len(p.Delays))-1]
	if p.Jitter > 0 {
		d += time.Duration((rand.Float64()*2 - 1) * p.Jitter * float64(d))
	}
	return d
}

// Exhausted reports whether no attempt is left after so many failed ones.
func (p RetryPolicy) Exhausted(failed int) bool { return failed >= p.Attempts }

// Horizon is the longest time between the first and the last attempt, without
// the time that handlers take: whoever remembers messages to recognize a
// repetition must remember them for longer.
func (p RetryPolicy) Horizon() time.Duration {
	var sum time.Duration
	for failed := 1; failed < p.Attempts; failed++ {
		d := p.Delays[min(failed, len(p.Delays))-1]
		sum += d + time.Duration(p.Jitter*float64(d))
	}
	return sum
}

// ParseBackoff reads the delays of a [RetryPolicy]: "10s..2h", "10s,30s,1m" or
// "5s".
func ParseBackoff(expr string) ([]time.Duration, error) {
	if strings.Contains(expr, "..") {
		r, err := config.ParseRange(expr)
		if err != nil {
			return nil, fmt.Errorf("backoff %w", err)
		}
		if r.From <= 0 || r.To > maxBackoff {
			return nil, fmt.Errorf("backoff %q: the first delay must be above zero, the second at most %s", expr, maxBackoff)
		}
		var ds []time.Duration
		for d := r.From; d < r.To; d *= 2 {
			ds = append(ds, d)
		}
		return append(ds, r.To), nil
	}
	var ds []time.Duration
	for part := range strings.SplitSeq(expr, ",") {
		d, err := config.ParseDuration(part)
		if err != nil || d < 0 || d > maxBackoff {
			return nil, fmt.Errorf("backoff %q: %q is not a delay of 0s to %s; the forms are 10s..2h, 10s,30s,1m and 5s",
				expr, strings.TrimSpace(part), maxBackoff)
		}
		ds = append(ds, d)
	}
	return ds, nil
}

// parseJitter reads "10%" or "0.1".
func parseJitter(text string) (float64, error) {
	t := strings.TrimSpace(text)
	percent, isPercent := strings.CutSuffix(t, "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
	if isPercent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) {
		return 0, fmt.Errorf("jitter %q is not a share; it takes 0%% to 100%% or 0 to 1", text)
	}
	return f, nil
}

// levels checks the delays against a broker that only has some, and rounds up
// to the next level where the user asked for it.
func (p RetryPolicy) levels(levels []time.Duration, emulate bool) (RetryPolicy, error) {
	if len(levels) == 0 {
		return p, errors.New("needs delayed retries; the broker offers delay levels but names none")
	}
	rounded := slices.Clone(p.Delays)
	var bad []string
	for i, d := range p.Delays {
		if slices.Contains(levels, d) {
			continue
		}
		bad = append(bad, d.String())
		at, _ := slices.BinarySearch(levels, d)
		rounded[i] = levels[min(at, len(levels)-1)]
	}
	if p.Jitter > 0 && !emulate {
		bad = append(bad, "jitter")
	}
	if len(bad) > 0 && !emulate {
		return p, fmt.Errorf("needs retry delays of %s; the broker has the levels %s (choose among them, or say emulate to round up)",
			strings.Join(bad, ", "), durations(levels))
	}
	p.Delays, p.Jitter = rounded, 0
	return p, nil
}

func durations(ds []time.Duration) string {
	texts := make([]string, len(ds))
	for i, d := range ds {
		texts[i] = d.String()
	}
	return strings.Join(texts, " ")
}
