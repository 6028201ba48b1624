package history

import (
	"errors"
	"fmt"
	"strings"
)

// Rules relax the check where a broker or a run promises less.
type Rules struct {
	// Groups that had to receive everything. Defaults to every group that
	// received anything; name them if one may have received nothing.
	Groups []string
	// Unordered: keys are ignored, nothing is expected about order.
	Unordered bool
	// Incomplete: the run ended before everything was consumed; nothing counts
	// as lost.
	Incomplete bool
}

// Verdict is what the check found. Every list is empty for a correct run.
type Verdict struct {
	// Lost: stored, and never delivered to a group that had to get it.
	Lost []string
	// Phantom: delivered, though never sent, refused for certain, or damaged.
	Phantom []string
	// Duplicates that nothing permits.
	Duplicates []string
	// Disorder: first deliveries of one process, key and lane that go backwards.
	Disorder []string
	// Places: one lane and offset that named two values.
	Places []string
	// Permitted counts the duplicates that are explained, by cause.
	Permitted map[string]int
}

// Err returns nil for a correct run, else everything that was found, at most
// ten of each kind.
func (v Verdict) Err() error {
	var errs []error
	for _, kind := range []struct {
		name  string
		items []string
	}{
		{"lost", v.Lost}, {"phantom", v.Phantom}, {"duplicate", v.Duplicates}, {"out of order", v.Disorder}, {"place with two values", v.Places},
	} {
		if n := len(kind.items); n > 0 {
			errs = append(errs, fmt.Errorf("%d × %s: %s", n, kind.name, strings.Join(kind.items[:min(n, 10)], "; ")))
		}
	}
	return errors.Join(errs...)
}

// Causes of duplicates that at-least-once delivery permits.
const (
	causeAgain   = "given back"
	causeOpen    = "never settled"
	causeFault   = "after a fault"
	causeResends = "sent again without a certain answer"
)

// Check compares the deliveries with the sends.
func (h *History) Check(r Rules) Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := Verdict{Phantom: append([]string(nil), h.damaged...), Permitted: map[string]int{}}
	groups := r.Groups
	if groups == nil {
		groups = h.groups()
	}
	byGroup := map[string]map[Value][]*Delivery{}
	for _, g := range groups {
		byGroup[g] = map[Value][]*Delivery{}
	}
	for _, d := range h.arrivals {
		s := h.sends[d.value]
		if s == nil {
			v.Phantom = append(v.Phantom, fmt.Sprintf("%v was never sent", d))
			continue
		}
		if s.outcome == Failed {
			v.Phantom = append(v.Phantom, fmt.Sprintf("%v was refused for certain", d))
		}
		if m := byGroup[d.group]; m != nil {
			m[d.value] = append(m[d.value], d)
		}
	}
	for _, g := range groups {
		h.checkGroup(g, byGroup[g], r, &v)
	}
	h.checkPlaces(&v)
	return v
}

// String names the value and where it came by.
func (d *Delivery) String() string {
	return fmt.Sprintf("%v in group %s at %s/%d", d.value, d.group, d.lane, d.offset)
}

func (h *History) checkGroup(group string, got map[Value][]*Delivery, r Rules, v *Verdict) {
	for _, val := range h.order {
		s, ds := h.sends[val], got[val]
		if s.outcome == OK && len(ds) == 0 && !r.Incomplete {
			v.Lost = append(v.Lost, fmt.Sprintf("%v in group %s", val, group))
		}
		spare := s.tries - 1 // copies that repeated sends may have stored
		for i := 1; i < len(ds); i++ {
			switch cause := h.cause(ds[i-1], ds[i]); {
			case cause != "":
				v.Permitted[cause]++
			case spare > 0:
				spare--
				v.Permitted[causeResends]++
			default:
				v.Duplicates = append(v.Duplicates, fmt.Sprintf("%v came again after it was acknowledged", ds[i]))
			}
		}
	}
	if !r.Unordered {
		h.checkOrder(group, got, v)
	}
}

// cause explains why next may follow prev.
func (h *History) cause(prev, next *Delivery) string {
	for _, f := range h.faults {
		if f.at > prev.at && f.at < next.at {
			return causeFault
		}
	}
	switch prev.ending {
	case Again:
		return causeAgain
	case Open:
		return causeOpen
	default:
		return ""
	}
}

// checkOrder looks at the first delivery of each value, per process, key and lane.
func (h *History) checkOrder(group string, got map[Value][]*Delivery, v *Verdict) {
	type stream struct{ process, key, lane string }
	last := map[stream]*Delivery{}
	for _, val := range h.order {
		s, ds := h.sends[val], got[val]
		if s.key == "" || len(ds) == 0 {
			continue
		}
		st := stream{val.Process, s.key, ds[0].lane}
		if prev := last[st]; prev != nil && ds[0].at < prev.at {
			v.Disorder = append(v.Disorder, fmt.Sprintf("%v came before %v in group %s", val, prev.value, group))
			continue
		}
		last[st] = ds[0]
	}
}

func (h *History) checkPlaces(v *Verdict) {
	type place struct {
		group, lane string
		offset      int64
	}
	first := map[place]Value{}
	for _, d := range h.arrivals {
		if d.offset < 0 || d.lane == "" {
			continue
		}
		at := place{d.group, d.lane, d.offset}
		if before, ok := first[at]; ok && before != d.value {
			v.Places = append(v.Places, fmt.Sprintf("%s/%d was %v and then %v", d.lane, d.offset, before, d.value))
		}
		first[at] = d.value
	}
}
