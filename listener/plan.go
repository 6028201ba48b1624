package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/internal/lease"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// plan turns registrations into units and pumps.
func (c *Container) plan(cfg *config.Config, regs []Registration, gates []GateSpec) error {
	binds := map[*unit]invoker{}
	var errs []error
	for _, r := range regs {
		s, err := r.spec.resolve(cfg)
		if err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", r.spec.Type, err))
		}
		if s.name != "" {
			u := &unit{settings: *s, spec: r.spec, limit: s.concurrency}
			u.log = c.log.With(slog.String("listener", s.name))
			c.units = append(c.units, u)
			binds[u] = r.bind
		}
	}
	slices.SortStableFunc(c.units, func(a, b *unit) int { return strings.Compare(a.name+"\x00"+a.spec.Type, b.name+"\x00"+b.spec.Type) })
	errs = append(errs, c.checkNames(), c.checkConfig(cfg))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := c.merge(); err != nil {
		return err
	}
	errs = []error{c.assignGates(gates)}
	for _, p := range c.pumps {
		for _, u := range p.units {
			errs = append(errs, c.chain(p, u, binds[u]))
		}
	}
	return errors.Join(errs...)
}

func (c *Container) checkNames() error {
	var errs []error
	for i := 1; i < len(c.units); i++ {
		if a, b := c.units[i-1], c.units[i]; a.name == b.name {
			errs = append(errs, fmt.Errorf("two listeners are named %q: %s and %s; give one of them another name by name:\"…\" in the tag of listener.On or by listener.Name",
				a.name, a.spec.Type, b.spec.Type))
		}
	}
	return errors.Join(errs...)
}

// checkConfig refuses keys below listeners that no listener has.
func (c *Container) checkConfig(cfg *config.Config) error {
	var all []string
	for _, u := range c.units {
		for _, d := range settingTable {
			if d.key != keyName {
				all = append(all, "listeners."+u.name+"."+d.key)
			}
		}
	}
	return cfg.CheckKnown("listeners", func(key string) bool { return slices.Contains(all, key) }, all)
}

// merge makes one pump of the listeners of a group to a topic.
func (c *Container) merge() error {
	type key struct{ group, topic string }
	sets := map[key][]*unit{}
	for _, u := range c.units {
		if u.enabled {
			k := key{u.group, u.topic}
			sets[k] = append(sets[k], u)
		}
	}
	keys := slices.SortedFunc(maps.Keys(sets), func(a, b key) int { return strings.Compare(a.group+"\x00"+a.topic, b.group+"\x00"+b.topic) })
	errs := []error{c.checkGroups()}
	for _, k := range keys {
		err := compatible(sets[k])
		errs = append(errs, err)
		if err == nil {
			c.addPump(sets[k])
		}
	}
	return errors.Join(errs...)
}

// checkGroups refuses a group that is broadcast for one topic and not for
// another: brokers know one or the other for a group. The same goes for order:
// RocketMQ makes dead letters of all redeliveries of a group that is ordered for
// another topic.
func (c *Container) checkGroups() error {
	first := map[string]*unit{}
	var errs []error
	for _, u := range c.units {
		f := first[u.group]
		var only string
		switch {
		case f == nil:
			first[u.group] = u
		case f.topic == u.topic: // see compatible
		case f.broadcast != u.broadcast:
			only = keyBroadcast
		case f.ordered != u.ordered:
			only = keyOrdered
		}
		if only != "" {
			errs = append(errs, fmt.Errorf("listeners %s and %s share group %s, but only one of them is %s; give one another group",
				f.label(), u.label(), u.group, only))
		}
	}
	return errors.Join(errs...)
}

func (u *unit) label() string { return fmt.Sprintf("%q (%s)", u.name, u.spec.Type) }

// compatible checks listeners that are to share a subscription.
func compatible(units []*unit) error {
	var errs []error
	for i, b := range units {
		for _, a := range units[:i] {
			if err := a.compatible(b); err != nil {
				errs = append(errs, fmt.Errorf("listeners %s and %s share group %s and topic %s, but %w",
					a.label(), b.label(), a.group, a.topic, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (u *unit) compatible(v *unit) error {
	var errs []error
	differ := func(what string, a, b any) {
		if a != b {
			errs = append(errs, fmt.Errorf("differ in %s: %v and %v", what, a, b))
		}
	}
	differ(keyOrdered, u.ordered, v.ordered)
	differ(keyBroadcast, u.broadcast, v.broadcast)
	if u.ordered && v.ordered {
		differ(keyBy, word2(u.byKey), word2(v.byKey))
	}
	differ(keyFrom, u.from.String(), v.from.String())
	differ(keyStart, u.start(), v.start())
	if u.startPaused && v.startPaused {
		differ(keyResume, u.auto, v.auto)
	}
	switch {
	case u.filter.SQL != "" || v.filter.SQL != "":
		errs = append(errs, fmt.Errorf("a listener with sql needs a group of its own: %s and %s", u.filter, v.filter))
	default:
		if tag, ok := overlap(u.filter, v.filter); ok {
			errs = append(errs, fmt.Errorf("both want the tag %s: %s and %s; give one of them another group, or other tags", tag, u.filter, v.filter))
		}
	}
	return join(errs)
}

func word2(key bool) string {
	if key {
		return byKey
	}
	return byQueue
}

func (u *unit) start() string {
	if u.startPaused {
		return startPaused
	}
	return startAuto
}

// overlap finds a tag that both filters select.
func overlap(a, b driver.Filter) (string, bool) {
	switch {
	case len(a.Tags) == 0 && len(b.Tags) == 0:
		return "*", true
	case len(a.Tags) == 0:
		return b.Tags[0], true
	}
	for _, tag := range a.Tags {
		if b.MatchTag(tag) {
			return tag, true
		}
	}
	return "", false
}

func (c *Container) addPump(units []*unit) {
	u := units[0]
	p := &pump{
		c: c, client: c.client, renewer: c.renewer, units: units,
		log:     c.log.With(slog.String("group", u.group), slog.String("topic", u.topic)),
		ordered: u.ordered, byKey: u.byKey, inPlace: u.inPlace(), startPaused: u.startPaused,
		want: u.auto, verified: !u.startPaused,
		spec: driver.SubscribeSpec{
			Group: u.group, Topic: u.topic, Broadcast: u.broadcast, Ordered: u.ordered,
			From: u.from, AckTimeout: ackTimeout,
		},
		op: make(chan struct{}, 1), changed: make(chan struct{}),
		byTag: map[string]*unit{}, lanes: map[string]*lane{}, orphans: map[string]int{},
		carried: map[string]int{}, blocked: map[*item]struct{}{},
	}
	for _, u := range units {
		p.names = append(p.names, u.name)
		p.spec.MaxInFlight += u.limit + u.waits()
		p.spec.Filter.SQL = u.filter.SQL
		for _, tag := range u.filter.Tags {
			p.byTag[tag] = u
			p.spec.Filter.Tags = append(p.spec.Filter.Tags, tag)
		}
		if len(u.filter.Tags) == 0 {
			p.all = u // compatible saw to it that it is the only one
		}
		c.byName[u.name] = p
	}
	slices.Sort(p.spec.Filter.Tags)
	// The one root of handlers: it ends with the pump, not with a ctx of fx.
	root := lease.With(context.Background(), c.renewer) //nolint:forbidigo // a root that owns a lifecycle
	p.root, p.end = context.WithCancelCause(root)
	p.life, p.endLife = context.WithCancelCause(p.root)
	c.pumps = append(c.pumps, p)
}

// chain wraps the handler of a listener.
func (c *Container) chain(p *pump, u *unit, bind invoker) error {
	attempts := u.retry.Attempts
	if u.ordered && u.exhausted == exhaustedBlock {
		attempts = 0 // never given up
	}
	u.info = sdk.ListenerInfo{
		Name: u.name, Group: u.group, Topic: u.topic, Ordered: u.ordered, Broadcast: u.broadcast,
		MaxAttempts: attempts, RetryHorizon: u.retry.Horizon(), Annotations: u.spec.Annotations, Logger: u.log,
	}
	h := &host{
		call: bind(c.client.Codecs()), timeout: u.timeout,
		stuck: func(d *sdk.Delivery, since time.Time) { p.stuck(u, d, since) },
	}
	chain, err := c.client.ConsumeChain(u.info, h.consume)
	u.chain = chain
	return err
}

// assignGates gives every start-paused pump its gates.
func (c *Container) assignGates(gates []GateSpec) error {
	var errs []error
	seen := map[string]bool{}
	for _, g := range gates {
		if seen[g.name] {
			errs = append(errs, fmt.Errorf("two listener gates are named %q", g.name))
		}
		seen[g.name] = true
		for _, target := range g.targets {
			p := c.byName[target]
			switch {
			case p == nil:
				errs = append(errs, fmt.Errorf("listener gate %q: %w", g.name, c.unknown(target)))
			case !p.startPaused:
				errs = append(errs, fmt.Errorf("listener gate %q is for listener %q, which does not start paused; add listener.StartPaused to it", g.name, target))
			}
		}
	}
	for _, p := range c.pumps {
		if p.startPaused {
			p.gates = gatesFor(gates, p.names)
		}
	}
	return errors.Join(errs...)
}
