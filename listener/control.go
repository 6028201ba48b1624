package listener

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Selector chooses listeners for an operation.
type Selector struct {
	text  string
	match func(u *unit) bool
	names []string
}

// All chooses every listener.
func All() Selector {
	return Selector{text: "all", match: func(*unit) bool { return true }}
}

// Named chooses listeners by name. Listeners that share a subscription can only
// be controlled together.
func Named(names ...string) Selector {
	return Selector{
		text: "named " + strings.Join(names, ", "), names: names,
		match: func(u *unit) bool { return slices.Contains(names, u.name) },
	}
}

// InGroup chooses the listeners of a consumer group.
func InGroup(group string) Selector {
	return Selector{text: "in group " + group, match: func(u *unit) bool { return u.group == group }}
}

// Labelled chooses the listeners with a [Label].
func Labelled(key, value string) Selector {
	return Selector{text: "labelled " + key + "=" + value, match: func(u *unit) bool { return u.spec.Labels[key] == value }}
}

// Status is a snapshot of one listener.
type Status struct {
	Name, Group, Topic string
	State              State
	// Mode of a pause.
	Mode Mode
	// Reason for the state, such as a red gate; empty if there is none.
	Reason string
	// Since is when the state was entered.
	Since time.Time
	// Verified: the gates have been green, or there was nothing to verify.
	Verified bool
	Gates    []GateStatus
	// HoldUntil is set while a handler's [Hold] keeps the listener from
	// fetching, for HoldCause.
	HoldUntil time.Time
	HoldCause error
	// Lanes that are owned now, sorted.
	Lanes []string
	// Blocked are lanes on which an ordered message spent its attempts.
	Blocked []string
	// InFlight handlers of this listener, of at most Concurrency.
	InFlight, Concurrency int
	// Held is how many deliveries the subscription holds, in handlers and
	// before and after them.
	Held int
	// Shared names the listeners of the same subscription, this one included.
	Shared []string
}

// Pause stops the chosen listeners and returns when nothing of them is under
// way: no handler, no delivery, no settlement. What was fetched and had not
// begun is given back. With [HoldLanes] the lanes stay here and nobody serves
// them; with [ReleaseLanes] the group is left and its other members take over.
// A pause survives rebalancing and is idempotent; a hold can be turned into a
// release. When ctx ends first the listeners are paused all the same, and
// pausing again waits again.
func (c *Container) Pause(ctx context.Context, s Selector, mode Mode) error {
	if mode != HoldLanes && mode != ReleaseLanes {
		return errors.New("pause listeners: the mode must be HoldLanes or ReleaseLanes")
	}
	return c.control("pause", s, func(p *pump) error { return p.pause(ctx, mode) })
}

// Resume ends a pause, and a [Hold] of a handler. A start-paused listener that
// was never verified asks its gates once; if one is red Resume says which, and
// the listener stays paused.
func (c *Container) Resume(ctx context.Context, s Selector) error {
	return c.control("resume", s, func(p *pump) error { return p.resume(ctx, false) })
}

// ForceResume is [Resume] whatever the gates say.
func (c *Container) ForceResume(ctx context.Context, s Selector) error {
	return c.control("resume", s, func(p *pump) error { return p.resume(ctx, true) })
}

// Drain stops the chosen listeners for good, as [Container.Stop] does.
func (c *Container) Drain(ctx context.Context, s Selector) error {
	return c.control("drain", s, func(p *pump) error { return p.drain(ctx) })
}

func (c *Container) control(verb string, s Selector, f func(p *pump) error) error {
	pumps, err := c.choose(s)
	if err == nil {
		err = eachPump(pumps, f)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// choose finds the subscriptions of the chosen listeners. A subscription is
// chosen whole or not at all: its lanes carry the messages of all.
func (c *Container) choose(s Selector) ([]*pump, error) {
	if s.match == nil {
		return nil, errors.New("the selector is empty; take All, Named, InGroup or Labelled")
	}
	var errs []error
	for _, n := range s.names {
		if c.byName[n] == nil {
			errs = append(errs, c.unknown(n))
		}
	}
	var chosen []*pump
	for _, p := range c.pumps {
		var in, out []string
		for _, u := range p.units {
			if s.match(u) {
				in = append(in, u.name)
			} else {
				out = append(out, u.name)
			}
		}
		switch {
		case len(in) > 0 && len(out) > 0:
			errs = append(errs, fmt.Errorf("listener %s shares the subscription of group %s to %s with %s; choose all of them or none",
				strings.Join(in, ", "), p.spec.Group, p.spec.Topic, strings.Join(out, ", ")))
		case len(in) > 0:
			chosen = append(chosen, p)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(chosen) == 0 && s.text != "all" {
		return nil, fmt.Errorf("no listener is %s", s.text)
	}
	return chosen, nil
}

func (c *Container) unknown(name string) error {
	for _, u := range c.units {
		if u.name == name {
			return fmt.Errorf("listener %q is disabled by configuration", name)
		}
	}
	return fmt.Errorf("no listener is named %q%s", name, suggestion(name, c.Names()))
}

// SetConcurrency changes how many handlers of a listener run at a time. Running
// ones are not touched.
func (c *Container) SetConcurrency(name string, n int) error {
	p := c.byName[name]
	if p == nil {
		return fmt.Errorf("set concurrency: %w", c.unknown(name))
	}
	if n < 1 || n > maxConcurrency {
		return fmt.Errorf("set concurrency of listener %s: %d is out of range; it takes 1 to %d", name, n, maxConcurrency)
	}
	for _, u := range p.units {
		if u.name == name {
			p.resize(u, n)
		}
	}
	return nil
}

// State returns the state of a listener; false for an unknown or disabled name.
func (c *Container) State(name string) (State, bool) {
	p := c.byName[name]
	if p == nil {
		return StateRegistered, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.place.state, true
}

// States returns a snapshot of every listener that is not disabled, by name.
func (c *Container) States() []Status {
	var all []Status
	for _, u := range c.units {
		if p := c.byName[u.name]; p != nil {
			all = append(all, p.status(u))
		}
	}
	return all
}

// Status returns a snapshot of one listener; false for an unknown or disabled
// name.
func (c *Container) Status(name string) (Status, bool) {
	for _, u := range c.units {
		if p := c.byName[name]; p != nil && u.name == name {
			return p.status(u), true
		}
	}
	return Status{}, false
}

// Events hands over what happens from now on until ctx ends or the container
// has stopped, when the channel is closed. A receiver that is behind by more
// than buffer events loses some; the next one says how many.
func (c *Container) Events(ctx context.Context, buffer int) <-chan Event {
	return c.events.receive(ctx, buffer)
}

// Ready reports whether the listeners do what they are meant to: nil once the
// container has started and until it stops. A listener that is paused on
// purpose is ready; one that waits for a red gate is not.
func (c *Container) Ready() error {
	c.mu.Lock()
	started, stopping := c.started, c.stopping
	c.mu.Unlock()
	switch {
	case stopping:
		return ErrDraining
	case !started:
		return errors.New("listeners have not started")
	}
	var errs []error
	for _, p := range c.pumps {
		p.mu.Lock()
		if p.place == registered || p.startPaused && !p.verified && p.place != stopped {
			errs = append(errs, fmt.Errorf("listener %s is not verified: %s", strings.Join(p.names, ", "), p.reason))
		}
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (p *pump) status(u *unit) Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{
		Name: u.name, Group: u.group, Topic: u.topic,
		State: p.place.state, Mode: p.place.mode, Reason: p.reason, Since: p.since, Verified: p.verified,
		HoldUntil: p.holdUntil, HoldCause: p.holdCause,
		InFlight: u.inFlight(), Concurrency: u.limit, Held: p.held[fresh] + p.held[again],
		Shared: slices.Clone(p.names),
	}
	for _, g := range p.gates {
		s.Gates = append(s.Gates, g.status)
	}
	for name := range p.lanes {
		s.Lanes = append(s.Lanes, name)
	}
	slices.Sort(s.Lanes)
	for it := range p.blocked {
		if !slices.Contains(s.Blocked, it.lane.name) {
			s.Blocked = append(s.Blocked, it.lane.name)
		}
	}
	slices.Sort(s.Blocked)
	return s
}
