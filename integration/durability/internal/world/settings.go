package world

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/history"
	"github.com/sluicemq/sluice/broker/embedded"
)

// Names of what settings are about.
func ofTopic(name string) string { return "topic " + name }
func ofGroup(name string) string { return "group " + name }

// keep lets the store keep settings of a topic, which it makes if need be, and
// of a group that consumes nothing. With some x they end.
func (w *World) keep(t *topic, x int) {
	s, err := w.broker.Store(w.ctx())
	if !w.answered("store", err) {
		return
	}
	value, group := fmt.Sprintf("{%0*d}", x%300, x), fmt.Sprint("settled-", x%2)
	if x%4 == 0 {
		value = ""
	}
	made := embedded.Topic{Name: t.name, Queues: 1, Settings: []byte(value)}
	o := w.outcome("keep settings of "+t.name, s.PutTopic(w.ctx(), made))
	t.used(o)
	w.set(ofTopic(t.name), value, o)
	o = w.outcome("keep settings of "+group, s.PutGroup(w.ctx(), embedded.Group{Name: group, Settings: []byte(value)}))
	w.set(ofGroup(group), value, o)
}

// set notes what the store may keep from now on.
func (w *World) set(of, value string, o history.Outcome) {
	switch o {
	case history.OK:
		w.acks++
		w.settings[of] = []string{value}
	case history.Unknown:
		if len(w.settings[of]) == 0 {
			w.settings[of] = []string{""}
		}
		w.settings[of] = append(w.settings[of], value)
	}
}

// forget deletes the group of all topics, or one that has settings only.
func (w *World) forget(x int) {
	for _, t := range w.living() {
		w.leave(t)
	}
	s, err := w.broker.Store(w.ctx())
	if !w.answered("store", err) {
		return
	}
	group := fmt.Sprint("settled-", x%2)
	w.set(ofGroup(group), "", w.outcome("forget "+group, s.DeleteGroup(w.ctx(), group, true)))
	if x%3 != 0 {
		return
	}
	err = s.DeleteGroup(w.ctx(), Group, true)
	if o := w.outcome("forget "+Group, err, driver.FailedPrecondition); o == history.Failed {
		return
	}
	for _, t := range w.living() {
		t.h.Reset(Group)
		t.sealed, t.open = map[string]bool{}, map[string]bool{}
	}
}

// verifySettings compares what is kept with what was promised, and learns what
// became of it without a certain answer.
func (w *World) verifySettings() bool {
	w.Helper()
	s, err := w.broker.Store(w.ctx())
	if !w.answered("store", err) {
		return false
	}
	got := map[string]string{}
	for _, t := range s.Topics() {
		got[ofTopic(t.Name)] = string(t.Settings)
	}
	for _, g := range s.Groups() {
		got[ofGroup(g.Name)] = string(g.Settings)
	}
	for of, value := range got {
		if len(w.settings[of]) == 0 && value != "" {
			w.Failf("settings of %s are %q, though nobody has set them", of, value)
		}
	}
	for of, may := range w.settings {
		if !slices.Contains(may, got[of]) {
			w.Failf("settings of %s are %q, want one of %q", of, got[of], may)
		}
		w.settings[of] = []string{got[of]}
	}
	return true
}

// Settings lists what a store keeps of topics and groups, as text.
func Settings(ctx context.Context, b *embedded.Broker) ([]string, error) {
	s, err := b.Store(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, t := range s.Topics() {
		all[ofTopic(t.Name)] = string(t.Settings)
	}
	for _, g := range s.Groups() {
		all[ofGroup(g.Name)] = string(g.Settings)
	}
	var out []string
	for _, of := range slices.Sorted(maps.Keys(all)) {
		if v := all[of]; v != "" {
			out = append(out, fmt.Sprintf("settings of %s: %q", of, strings.ToValidUTF8(v, "?")))
		}
	}
	return out, nil
}

// Kept is [Settings] of the present life.
func (w *World) Kept() ([]string, error) { return Settings(w.ctx(), w.broker) }
