package history

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
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
	// Final are groups that have read everything there is, each by itself and
	// as the last thing of the run. What anybody saw before must be among it,
	// and their offsets must be dense. They count as Groups.
	Final []string
	// Dead names, for a group, the group that has read its dead letters.
	Dead map[string]string
	// SharedLanes: a lane of one name is the same queue for every group, so
	// its offsets mean the same for all, and for [History.Stored].
	SharedLanes bool
	// Tick is how early, Late how late a delayed message may be.
	Tick, Late time.Duration
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
	// Vanished: delivered to somebody, and not found by a final group.
	Vanished []string
	// Gaps: offsets that a final group did not find between two that it did.
	Gaps []string
	// Positions beyond the end, or that went back without a reason.
	Positions []string
	// Times: delayed messages that came early.
	Times []string
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
		{"lost", v.Lost},
		{"phantom", v.Phantom},
		{"duplicate", v.Duplicates},
		{"out of order", v.Disorder},
		{"place with two values", v.Places},
		{"vanished", v.Vanished},
		{"gap", v.Gaps},
		{"wrong position", v.Positions},
		{"wrong time", v.Times},
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
	for _, g := range r.Final {
		if !slices.Contains(groups, g) {
			groups = append(slices.Clip(groups), g)
		}
	}
	byGroup := map[string]map[Value][]*Delivery{}
	for _, g := range groups {
		byGroup[g] = map[Value][]*Delivery{}
	}
	for _, g := range r.Dead {
		if byGroup[g] == nil {
			byGroup[g] = map[Value][]*Delivery{}
		}
	}
	for _, d := range h.arrivals {
		s := h.sends[d.value]
		if s == nil {
			v.Phantom = append(v.Phantom, fmt.Sprintf("%v was never sent", d))
			continue
		}
		switch {
		case s.rolledBack:
			v.Phantom = append(v.Phantom, fmt.Sprintf("%v was rolled back", d))
		case s.half && s.outcome == Failed:
			v.Phantom = append(v.Phantom, fmt.Sprintf("%v was not committed", d))
		case s.outcome == Failed:
			v.Phantom = append(v.Phantom, fmt.Sprintf("%v was refused for certain", d))
		}
		if m := byGroup[d.group]; m != nil {
			m[d.value] = append(m[d.value], d)
		}
	}
	for _, g := range groups {
		h.checkGroup(g, byGroup[g], r, &v)
		h.checkEndings(g, byGroup[g], byGroup[r.Dead[g]], r, &v)
	}
	h.checkPlaces(r, &v)
	h.checkFinal(r, byGroup, &v)
	h.checkPositions(&v)
	h.checkTimes(r, &v)
	return v
}

// String names the value and where it came by.
func (d *Delivery) String() string {
	return fmt.Sprintf("%v in group %s at %s/%d", d.value, d.group, d.lane, d.offset)
}

func (h *History) checkGroup(group string, got map[Value][]*Delivery, r Rules, v *Verdict) {
	now := time.Now()
	for _, val := range h.order {
		s, ds := h.sends[val], got[val]
		if s.expected(now, r) && len(ds) == 0 && !r.Incomplete {
			v.Lost = append(v.Lost, fmt.Sprintf("%v in group %s", val, group))
		}
		spare := s.tries - 1 // copies that repeated sends may have stored
		for i := 1; i < len(ds); i++ {
			switch cause := h.causeAmong(ds[:i], ds[i]); {
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

// causeAmong explains why next may come after all of before: because of the one
// just before it, of an earlier one at the same place, or as a copy that was
// stored when one of them was given back.
func (h *History) causeAmong(before []*Delivery, next *Delivery) string {
	if c := h.cause(before[len(before)-1], next); c != "" {
		return c
	}
	places, copies := map[place]bool{}, 0
	for _, d := range before {
		places[place{lane: d.lane, offset: d.offset}] = true
		if d.ending == Again || d.ending == Unsure {
			copies++
		}
	}
	at := place{lane: next.lane, offset: next.offset}
	if !places[at] {
		if len(places) <= copies {
			return causeAgain
		}
		return ""
	}
	for _, d := range slices.Backward(before) {
		if d.lane == next.lane && d.offset == next.offset {
			return h.cause(d, next)
		}
	}
	return ""
}

// cause explains why next may follow prev.
func (h *History) cause(prev, next *Delivery) string {
	if h.faultBetween(prev.at, next.at, next.group) {
		return causeFault
	}
	switch prev.ending {
	case Again:
		return causeAgain
	case Open, Unsure:
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

// checkPlaces: a place names one value, the one that the broker put there.
func (h *History) checkPlaces(r Rules, v *Verdict) {
	first := map[place]Value{}
	meet := func(at place, val Value) {
		if r.SharedLanes {
			at.group = ""
		}
		if before, ok := first[at]; ok && before != val {
			v.Places = append(v.Places, fmt.Sprintf("%s/%d was %v and then %v", at.lane, at.offset, before, val))
		}
		first[at] = val
	}
	if r.SharedLanes {
		for _, val := range h.order {
			if s := h.sends[val]; s.placed {
				meet(place{lane: s.lane, offset: s.offset}, val)
			}
		}
	}
	for _, d := range h.arrivals {
		if d.offset >= 0 && d.lane != "" {
			meet(place{d.group, d.lane, d.offset}, d.value)
		}
	}
}
