package world

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/history"
)

// Verify reads the whole store after an opening and compares it with what was
// promised. What it finds is a promise from then on.
func (w *World) Verify() {
	w.Helper()
	w.idle()
	if !w.verifyTopics() {
		return
	}
	w.note("verify")
	if !w.readInternal() || !w.verifySettings() {
		return
	}
	for _, t := range w.living() {
		label, ok := w.read(t, "read")
		if !ok {
			return
		}
		w.settleHalves(t)
		w.judge(t, history.Rules{Groups: []string{}, Final: []string{label}})
	}
	w.seeLag(false)
}

// living lists the topics of the model in the order of their names.
func (w *World) living() []*topic {
	var out []*topic
	for _, t := range w.topics {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *topic) int { return strings.Compare(a.name, b.name) })
	return out
}

// judge asks the checker.
func (w *World) judge(t *topic, r history.Rules) {
	w.Helper()
	r.SharedLanes, r.Tick, r.Late = true, tick, lateness
	if !w.healthy() {
		r.Late = 1000 * time.Hour // what is due cannot be made visible any more
	}
	if err := t.h.Check(r).Err(); err != nil {
		w.Failf("topic %s: %v", t.name, err)
	}
}

// answered reports whether err is nil. While nothing is broken it has to be.
func (w *World) answered(what string, err error) bool {
	w.Helper()
	return w.outcome(what, err) == history.OK
}

// verifyTopics compares the list of topics, and learns what became of those
// without a certain answer.
func (w *World) verifyTopics() bool {
	w.Helper()
	infos, err := w.conn.Extensions().Topics.Topics(w.ctx())
	if !w.answered("list topics", err) {
		return false
	}
	found := map[string]int{}
	for _, i := range infos {
		found[i.Name] = i.Queues
		if w.topics[i.Name] == nil && !isInternal(i.Name) {
			w.Failf("topic %s exists, which nobody made, or which was deleted", i.Name)
		}
	}
	for _, t := range w.living() {
		queues, ok := found[t.name]
		switch {
		case !ok && t.sure && !t.dying:
			w.Failf("topic %s is lost", t.name)
		case !ok:
			delete(w.topics, t.name)
			delete(w.settings, ofTopic(t.name))
			continue
		case t.queues != 0 && t.queues != queues && t.sure:
			w.Failf("topic %s has %d queues, it was made with %d", t.name, queues, t.queues)
		}
		t.sure, t.dying, t.queues = true, false, queues
	}
	return true
}

func isInternal(name string) bool {
	return strings.HasPrefix(name, "%RETRY%") || strings.HasPrefix(name, "%DLQ%")
}

// read reads all queues of a topic as a group of its own.
func (w *World) read(t *topic, what string) (label string, ok bool) {
	w.Helper()
	w.reads++
	label = fmt.Sprintf("%s-%d", what, w.reads)
	for q := range t.queues {
		ok := w.browse(t.name, q, func(d *driver.Delivery) {
			noted := t.h.Deliver(label, d.Body, laneName(t.name, q), d.Offset)
			t.h.Settle(noted, history.Acked)
			v, err := history.Parse(d.Body)
			if err == nil && t.keys[v] != "" && (d.ID != fmt.Sprintf("id-%d", v.Counter) || !slices.Equal(d.Keys, []string{t.keys[v]})) {
				w.Failf("%v has id %q and keys %q", v, d.ID, d.Keys)
			}
			if err == nil && t.values[d.ID] != v {
				w.adopt(t, v, d.ID)
			}
		})
		if !ok {
			return label, false
		}
	}
	return label, true
}

// adopt finds a half message that was committed without an answer.
func (w *World) adopt(t *topic, v history.Value, id string) {
	for _, h := range w.halves {
		if h.value == v && h.in == t {
			t.values[id] = v
		}
	}
}

// browse reads a queue in pages.
func (w *World) browse(name string, queue int, each func(d *driver.Delivery)) bool {
	w.Helper()
	const page = 64
	for next := int64(0); ; {
		ds, err := w.conn.Extensions().Query.Browse(w.ctx(), name, queue, next, page)
		if !w.answered(fmt.Sprintf("browse %s/%d from %d", name, queue, next), err) {
			return false
		}
		for _, d := range ds {
			if d.Offset != next {
				w.Failf("%s/%d goes on with offset %d, want %d", name, queue, d.Offset, next)
			}
			next++
			each(d)
		}
		if len(ds) < page {
			return true
		}
	}
}

// settleHalves learns what became of decisions without a certain answer: a
// commit is visible now or it was never made.
func (w *World) settleHalves(t *topic) {
	for _, h := range w.halves {
		if h.state != unsure {
			continue
		}
		if h.tried == driver.Rollback { // its answer tells
			w.retell(h)
			continue
		}
		if h.in != t {
			continue
		}
		h.state = undecided
		if t.h.Seen(h.value) {
			h.state = committed
		}
	}
	for _, h := range w.halves { // topics that are gone took their half messages along
		if h.state == unsure && h.tried == driver.Commit && w.topics[h.in.name] != h.in {
			h.state = undecided
		}
	}
}

// retell repeats a rollback without a certain answer, which always succeeds.
func (w *World) retell(h *half) {
	if w.outcome("rollback again", w.conn.Extensions().Tx.Resolve(w.ctx(), h.handle, driver.Rollback)) == history.OK {
		h.state = rolledBack
	}
}

// readInternal reads the topics that the broker makes by itself. What was seen
// there once has to stay.
func (w *World) readInternal() bool {
	w.Helper()
	infos, err := w.conn.Extensions().Topics.Topics(w.ctx())
	if !w.answered("list topics", err) {
		return false
	}
	w.reads++
	for _, info := range infos {
		if !isInternal(info.Name) {
			continue
		}
		for q := range info.Queues {
			lane := laneName(info.Name, q)
			var bodies []string
			ok := w.browse(info.Name, q, func(d *driver.Delivery) {
				v, err := history.Parse(d.Body)
				if err != nil {
					w.Failf("%s/%d: %v", lane, d.Offset, err)
				}
				bodies = append(bodies, v.String())
				if t := w.owner(v); t != nil && strings.HasPrefix(info.Name, "%DLQ%") {
					t.h.Deliver(w.deadLabel(), d.Body, lane, d.Offset)
				}
			})
			if !ok {
				return false
			}
			if was := w.internal[lane]; len(was) > len(bodies) || !slices.Equal(was, bodies[:len(was)]) {
				w.Failf("%s held %q and now %q", lane, was, bodies)
			}
			w.internal[lane] = bodies
		}
	}
	return true
}

func (w *World) deadLabel() string { return fmt.Sprintf("dead-%d", w.reads) }

// owner is the living topic that v was sent to.
func (w *World) owner(v history.Value) *topic {
	name, _, _ := strings.Cut(v.Process, ".")
	if t := w.topics[name]; t != nil && v.Process == fmt.Sprintf("%s.%d", t.name, t.gen) {
		return t
	}
	// A half message is named after the topic as it was when it was prepared.
	for _, h := range w.halves {
		if h.value == v && h.in != nil && w.topics[h.in.name] == h.in {
			return h.in
		}
	}
	return nil
}

// Observe reads what a store that is dying or has failed still serves: who has
// seen a message may rely on it.
func (w *World) Observe() {
	w.Helper()
	if w.conn == nil {
		return
	}
	w.note("observe")
	for _, t := range w.living() {
		queues := t.queues
		if queues == 0 || t.dying {
			infos, err := w.conn.Extensions().Topics.Topics(w.ctx())
			if err != nil {
				_ = w.typed("list topics", err)
				return
			}
			i := slices.IndexFunc(infos, func(i driver.TopicInfo) bool { return i.Name == t.name })
			if i < 0 {
				continue
			}
			queues = infos[i].Queues
		}
		w.reads++
		for q := range queues {
			ok := w.browse(t.name, q, func(d *driver.Delivery) {
				t.h.Deliver(fmt.Sprintf("observer-%d", w.reads), d.Body, laneName(t.name, q), d.Offset)
			})
			if !ok && !w.Lenient {
				w.Failf("a store that takes no writes does not serve %s/%d any more", t.name, q)
			}
		}
	}
}

// VerifyAll checks everything once more and to the end: what is delayed comes,
// what is undecided is decided, every group gets everything, queries find what
// is there, and a clean stop and start changes nothing. The power must stay on.
func (w *World) VerifyAll() {
	w.Helper()
	w.Verify()
	w.note("verify all")
	for i, h := range w.halves {
		if h.state == undecided {
			w.Resolve(h, []driver.Decision{driver.Commit, driver.Rollback}[i%2])
		}
		if h.state != undecided && h.state != unsure { // repeat and contradict
			w.Resolve(h, driver.Commit)
			w.Resolve(h, driver.Rollback)
		}
	}
	if !w.verifyTopics() {
		return
	}
	var due time.Time
	for _, t := range w.topics {
		due = later(due, t.due)
	}
	w.pass(max(time.Until(due), 2*time.Second) + 2*lateness)
	for _, t := range w.living() {
		w.drain(t, Group)
		w.drain(t, "fresh")
	}
	if !w.readInternal() {
		return
	}
	dead := w.deadLabel()
	for _, t := range w.living() {
		label, ok := w.read(t, "last")
		if !ok {
			return
		}
		w.judge(t, history.Rules{Groups: []string{Group, "fresh"}, Final: []string{label}, Dead: map[string]string{Group: dead}})
		w.verifyQueries(t)
	}
	w.verifyDrained()
	w.Close()
	w.Replug()
	if !w.Open() {
		return
	}
	w.verifyDrained()
	w.Verify()
}

// drain lets a group consume all there is.
func (w *World) drain(t *topic, group string) {
	w.Helper()
	c := w.join(t, group)
	if c == nil {
		w.Failf("group %s cannot join %s", group, t.name)
	}
	for {
		n := 0
		w.fetch(t, c, group, 64, func(l driver.Lane, d *driver.Delivery, noted *history.Delivery) {
			n++
			if w.outcome("ack", l.Settle(w.ctx(), []driver.Settlement{{Delivery: d, Outcome: driver.Ack}})) == history.OK {
				t.h.Settle(noted, history.Acked)
			}
		})
		if n == 0 {
			return
		}
	}
}

// verifyDrained requires that the groups are at the end of every lane.
func (w *World) verifyDrained() {
	w.Helper()
	for _, g := range []string{Group, "fresh"} {
		lags, err := w.conn.Extensions().Groups.Lag(w.ctx(), g)
		if w.outcome("lag", err, driver.NotFound) != history.OK {
			continue
		}
		for _, l := range lags {
			if t := w.topics[l.Lane.Topic]; t != nil && l.Committed != l.Max {
				w.Failf("group %s has consumed everything and is at %d of %d on %s", g, l.Committed, l.Max, l.Name)
			}
		}
	}
}

// verifyQueries finds every message that is there by id and by key, and none
// else.
func (w *World) verifyQueries(t *topic) {
	w.Helper()
	q := w.conn.Extensions().Query
	byKey := map[string][]history.Value{}
	for id, v := range t.values {
		d, err := q.ByID(w.ctx(), t.name, id)
		seen := t.h.Seen(v)
		if code := driver.CodeOf(err); err != nil && (code != driver.NotFound || seen) || err == nil && !seen {
			w.Failf("find %s (%v), which is there: %v: got %v, %v", id, v, seen, d, err)
		}
		if !seen {
			continue
		}
		if got, err := history.Parse(d.Body); err != nil || got != v {
			w.Failf("id %s is %v (%v), want %v", id, got, err, v)
		}
		if k := t.keys[v]; k != "" {
			byKey[k] = append(byKey[k], v)
		}
	}
	for n := range 5 {
		k := fmt.Sprintf("key-%d", n)
		ds, err := q.ByKey(w.ctx(), t.name, k, driver.TimeRange{}, 100000)
		if !w.answered("find "+k, err) {
			return
		}
		var got []history.Value
		for i, d := range ds {
			v, err := history.Parse(d.Body)
			if err != nil {
				w.Failf("find %s: %v", k, err)
			}
			got = append(got, v)
			if i > 0 && d.StoredAt.Before(ds[i-1].StoredAt) {
				w.Failf("find %s: %v comes after a younger one", k, v)
			}
		}
		order := func(a, b history.Value) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) }
		slices.SortFunc(got, order)
		slices.SortFunc(byKey[k], order)
		if !slices.Equal(got, byKey[k]) {
			w.Failf("find %s in %s: got %v, want %v", k, t.name, got, byKey[k])
		}
	}
}

// VerifyOn is Verify, and that the store works on: half messages can be decided
// and messages sent.
func (w *World) VerifyOn() {
	w.Helper()
	w.Verify()
	for i, h := range w.halves {
		if h.state == undecided {
			w.Resolve(h, []driver.Decision{driver.Commit, driver.Rollback}[i%2])
		}
	}
	w.Do(Op{Kind: Send})
	w.Verify()
}

// VerifyRead requires that a store that takes no writes still serves all that
// was acknowledged.
func (w *World) VerifyRead() {
	w.Helper()
	for _, t := range w.living() {
		if t.queues == 0 || t.dying {
			continue
		}
		label, ok := w.read(t, "read")
		if !ok {
			w.Failf("topic %s cannot be read", t.name)
		}
		w.judge(t, history.Rules{Groups: []string{label}})
	}
}
