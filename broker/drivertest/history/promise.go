package history

import (
	"fmt"
	"time"
)

// place is one offset of one lane.
type place struct {
	group, lane string
	offset      int64
}

// position is what somebody saw, or caused, of the position of a group.
type position struct {
	group, lane    string
	committed, end int64
	durable, reset bool
	at             int
}

// Stored notes where the broker said that v lies, with its OK: every delivery by
// that lane and offset must be v from then on.
func (h *History) Stored(v Value, lane string, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sends[v]; s != nil && offset >= 0 {
		s.lane, s.offset, s.placed = lane, offset, true
	}
}

// Due notes that v is a delayed message: it must not arrive before due, and
// before due nothing counts it as lost.
func (h *History) Due(v Value, due time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sends[v]; s != nil {
		s.due = due
	}
}

// Prepare notes that v is a half message. It is as if it had been refused until
// [History.Decide] says otherwise: a delivery before is a phantom.
func (h *History) Prepare(v Value) {
	h.Invoke(v, "")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sends[v].half, h.sends[v].outcome = true, Failed
}

// Decide notes an attempt to decide the half message v, and its outcome. A
// rollback that is OK is final; so is a commit.
func (h *History) Decide(v Value, commit bool, o Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sends[v]
	switch {
	case s == nil || s.rolledBack || s.outcome == OK || o == Failed:
	case commit:
		s.outcome = o
	case o == OK:
		s.rolledBack, s.outcome = true, Failed
	}
}

// Position notes that the stored position of group on lane was seen, and the
// end of the lane. With durable the broker had promised by then that no crash
// takes it back: the group had left the lane, or the time for that was over.
func (h *History) Position(group, lane string, committed, end int64, durable bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.positions = append(h.positions, position{group: group, lane: lane, committed: committed, end: end, durable: durable, at: h.tick()})
}

// Reset notes that the positions of group were moved on purpose: what was
// delivered may come again, and positions may go back.
func (h *History) Reset(group string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.positions = append(h.positions, position{group: group, reset: true, at: h.tick()})
	h.faults = append(h.faults, fault{at: h.tick(), what: "reset of " + group, group: group})
}

// expected reports whether s had to be delivered by now.
func (s *send) expected(now time.Time, r Rules) bool {
	return s.outcome == OK && (s.due.IsZero() || now.After(s.due.Add(r.Late)))
}

// checkFinal compares the groups that have read everything at the end with all
// that was seen before, and requires their offsets to be dense.
func (h *History) checkFinal(r Rules, byGroup map[string]map[Value][]*Delivery, v *Verdict) {
	seen := map[Value]*Delivery{}
	for _, d := range h.arrivals {
		if seen[d.value] == nil {
			seen[d.value] = d
		}
	}
	for _, g := range r.Final {
		got := byGroup[g]
		lanes := map[string]map[int64]bool{}
		for _, ds := range got {
			for _, d := range ds {
				if lanes[d.lane] == nil {
					lanes[d.lane] = map[int64]bool{}
				}
				lanes[d.lane][d.offset] = true
			}
		}
		for _, val := range h.order {
			if d := seen[val]; d != nil && len(got[val]) == 0 {
				v.Vanished = append(v.Vanished, fmt.Sprintf("%v, and group %s did not find it", d, g))
			}
		}
		checkDense(g, lanes, v)
	}
}

// checkDense requires the offsets of each lane to follow each other.
func checkDense(group string, lanes map[string]map[int64]bool, v *Verdict) {
	for lane, offsets := range lanes {
		first, last := int64(-1), int64(-1)
		for o := range offsets {
			if first < 0 || o < first {
				first = o
			}
			last = max(last, o)
		}
		if n := last - first + 1; first >= 0 && n != int64(len(offsets)) {
			v.Gaps = append(v.Gaps, fmt.Sprintf("group %s found %d of the %d offsets from %d to %d on %s", group, len(offsets), n, first, last, lane))
		}
	}
}

// checkPositions: a position is never beyond the end, never goes back without a
// reset or a fault, and never behind one that was durable.
func (h *History) checkPositions(v *Verdict) {
	type key struct{ group, lane string }
	last, durable := map[key]position{}, map[key]position{}
	for _, p := range h.positions {
		if p.reset {
			for k := range last {
				if k.group == p.group {
					delete(last, k)
					delete(durable, k)
				}
			}
			continue
		}
		k := key{p.group, p.lane}
		if p.committed > p.end {
			v.Positions = append(v.Positions, fmt.Sprintf("group %s is at %d of %s, which ends at %d", p.group, p.committed, p.lane, p.end))
		}
		if d, ok := durable[k]; ok && p.committed < d.committed {
			v.Positions = append(v.Positions, fmt.Sprintf("group %s went back from %d to %d on %s, though that was durable", p.group, d.committed, p.committed, p.lane))
		} else if l, ok := last[k]; ok && p.committed < l.committed && !h.faultBetween(l.at, p.at, p.group) {
			v.Positions = append(v.Positions, fmt.Sprintf("group %s went back from %d to %d on %s without a reason", p.group, l.committed, p.committed, p.lane))
		}
		last[k] = p
		if p.durable {
			durable[k] = p
		}
	}
}

// checkTimes: nothing comes before it is due, by more than a tick.
func (h *History) checkTimes(r Rules, v *Verdict) {
	for _, d := range h.arrivals {
		s := h.sends[d.value]
		if s == nil || s.due.IsZero() {
			continue
		}
		if early := s.due.Sub(d.when); early > r.Tick {
			v.Times = append(v.Times, fmt.Sprintf("%v came %v early", d, early))
		}
	}
}

// checkEndings: what was given back comes again, and what a group gave up lies
// in its dead letters.
func (h *History) checkEndings(group string, got map[Value][]*Delivery, dead map[Value][]*Delivery, r Rules, v *Verdict) {
	for _, val := range h.order {
		ds := got[val]
		if len(ds) == 0 {
			continue
		}
		if ds[len(ds)-1].ending == Again && !r.Incomplete {
			v.Lost = append(v.Lost, fmt.Sprintf("%v was given back and never came again", ds[len(ds)-1]))
		}
		for _, d := range ds {
			if d.ending == Dead && dead != nil && len(dead[val]) == 0 {
				v.Lost = append(v.Lost, fmt.Sprintf("%v was given up and is not in the dead letters of group %s", d, group))
				break
			}
		}
	}
}

func (h *History) faultBetween(from, to int, group string) bool {
	for _, f := range h.faults {
		if f.at > from && f.at < to && (f.group == "" || f.group == group) {
			return true
		}
	}
	return false
}
