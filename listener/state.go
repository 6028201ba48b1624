package listener

import (
	"fmt"
	"strings"
)

// State is where a listener is in its life.
type State uint8

const (
	// StateRegistered: the application has not started.
	StateRegistered State = iota
	// StatePaused: nothing is fetched; see [Mode] for what else that means.
	StatePaused
	// StateVerifying: the gates are being asked.
	StateVerifying
	// StateRunning: member of the group, fetching.
	StateRunning
	// StateDraining: finishing what was begun, on the way out.
	StateDraining
	// StateStopped: out of the group, for good.
	StateStopped
)

var stateNames = [...]string{"registered", "paused", "verifying", "running", "draining", "stopped"}

// String returns the name in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", s)
}

// Mode says how a paused listener is paused.
type Mode uint8

const (
	// NotPaused: the listener is not paused.
	NotPaused Mode = iota
	// HoldLanes keeps the membership and its lanes: short, order is not touched,
	// and nobody else handles these lanes meanwhile.
	HoldLanes
	// ReleaseLanes leaves the group, so that its other members take over.
	ReleaseLanes
)

// String returns "", "hold" or "release".
func (m Mode) String() string { return [...]string{"", "hold", "release"}[min(m, ReleaseLanes)] }

// step is what moves a listener from state to state.
type step uint8

const (
	stepStart   step = iota // the application starts
	stepVerify              // gates are asked, or there are none to ask
	stepRed                 // a gate is red, or joining the group failed
	stepGreen               // every gate is green, an operator must say go
	stepRun                 // fetching begins
	stepHold                // pause, keep the lanes
	stepRelease             // pause, leave the group
	stepDrain               // the end begins
	stepDrained             // the end is reached
	stepCount
)

var stepNames = [...]string{"start", "verify", "red", "green", "run", "hold", "release", "drain", "drained"}

func (s step) String() string { return stepNames[s] }

// place is a state with its mode.
type place struct {
	state State
	mode  Mode
}

func (p place) String() string {
	if p.mode == NotPaused {
		return p.state.String()
	}
	return p.state.String() + "(" + p.mode.String() + ")"
}

var (
	registered = place{state: StateRegistered}
	held       = place{state: StatePaused, mode: HoldLanes}
	released   = place{state: StatePaused, mode: ReleaseLanes}
	verifying  = place{state: StateVerifying}
	running    = place{state: StateRunning}
	draining   = place{state: StateDraining}
	stopped    = place{state: StateStopped}
)

// transitions is the whole life of a listener. What is not here does not
// happen. A pause that has no lanes to hold, before the first run and after a
// release, stays a release.
var transitions = map[place]map[step]place{
	registered: {stepStart: released, stepDrain: draining},
	released: {
		stepVerify: verifying, stepRun: running, stepHold: released, stepRelease: released, stepDrain: draining,
	},
	verifying: {
		stepRed: released, stepGreen: released, stepRun: running, stepHold: released, stepRelease: released,
		stepDrain: draining,
	},
	running:  {stepHold: held, stepRelease: released, stepDrain: draining},
	held:     {stepRun: running, stepHold: held, stepRelease: released, stepDrain: draining},
	draining: {stepDrain: draining, stepDrained: stopped},
	stopped:  {stepDrain: stopped, stepDrained: stopped},
}

// next returns where a step leads.
func (p place) next(s step) (place, error) {
	if to, ok := transitions[p][s]; ok {
		return to, nil
	}
	var can []string
	for s := range stepCount {
		if _, ok := transitions[p][s]; ok {
			can = append(can, s.String())
		}
	}
	return p, fmt.Errorf("a listener that is %s cannot %s; it can %s", p, s, strings.Join(can, ", "))
}
