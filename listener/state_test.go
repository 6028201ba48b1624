package listener

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
)

// The whole table once more, written down as a person would read it.
func TestTransitions(t *testing.T) {
	t.Parallel()
	want := `
registered: start→paused(release) drain→draining
paused(release): verify→verifying run→running hold→paused(release) release→paused(release) drain→draining
verifying: red→paused(release) green→paused(release) run→running hold→paused(release) release→paused(release) drain→draining
running: hold→paused(hold) release→paused(release) drain→draining
paused(hold): run→running hold→paused(hold) release→paused(release) drain→draining
draining: drain→draining drained→stopped
stopped: drain→stopped drained→stopped
`
	var b strings.Builder
	b.WriteString("\n")
	for _, p := range []place{registered, released, verifying, running, held, draining, stopped} {
		b.WriteString(p.String() + ":")
		for s := range stepCount {
			if to, err := p.next(s); err == nil {
				b.WriteString(" " + s.String() + "→" + to.String())
			} else if to != p {
				t.Errorf("%s: a refused %s moved to %s", p, s, to)
			}
		}
		b.WriteString("\n")
	}
	if got := b.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if len(transitions) != 7 {
		t.Errorf("%d places in the table", len(transitions))
	}
	if _, err := running.next(stepStart); err == nil || err.Error() != "a listener that is running cannot start; it can hold, release, drain" {
		t.Errorf("error %v", err)
	}
}

func TestTransitions_EveryWalkCanEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := registered
		for _, s := range rapid.SliceOf(rapid.IntRange(0, int(stepCount)-1)).Draw(t, "steps") {
			to, err := at.next(step(s))
			if err == nil && at == stopped && to != stopped {
				t.Fatalf("%s leaves stopped", step(s))
			}
			if at == draining && err == nil && to != draining && to != stopped {
				t.Fatalf("%s leaves draining for %s", step(s), to)
			}
			at = to
		}
		for _, s := range []step{stepDrain, stepDrained} {
			to, err := at.next(s)
			if err != nil && at != stopped {
				t.Fatalf("%s cannot %s", at, s)
			}
			at = to
		}
		if at != stopped {
			t.Fatalf("ended %s", at)
		}
	})
}

func TestQueue_IsAFIFO(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := &lane{}, &lane{}
		var q queue
		var model []*item
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				it := &item{lane: rapid.SampledFrom([]*lane{a, b}).Draw(t, "lane")}
				q.push(it)
				model = append(model, it)
			},
			"pop": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("empty")
				}
				if got := q.pop(); got != model[0] {
					t.Fatal("not the oldest")
				}
				model = model[1:]
			},
			"drop": func(t *rapid.T) {
				l := rapid.SampledFrom([]*lane{a, b}).Draw(t, "lane")
				q.drop(l)
				model = slices.DeleteFunc(slices.Clone(model), func(it *item) bool { return it.lane == l })
			},
			"": func(t *rapid.T) {
				if q.len() != len(model) {
					t.Fatalf("length %d, want %d", q.len(), len(model))
				}
			},
		})
	})
}

func TestJudge(t *testing.T) {
	t.Parallel()
	fail := errors.New("x")
	policy := RetryPolicy{Attempts: 3, Delays: []time.Duration{time.Second, time.Minute}}
	plain := settings{retry: policy}
	ordered := func(exhausted string) settings { return settings{retry: policy, ordered: true, exhausted: exhausted} }
	broadcast := settings{retry: policy, broadcast: true}
	cases := map[string]struct {
		s           settings
		attempt     int
		err         error
		interrupted bool
		want        verdict
	}{
		"ok":                    {plain, 1, nil, false, verdict{outcome: driver.Ack}},
		"ok though interrupted": {plain, 1, nil, true, verdict{outcome: driver.Ack}},
		"first":                 {plain, 1, fail, false, verdict{outcome: driver.Retry, delay: time.Second, failed: true}},
		"second":                {plain, 2, fail, false, verdict{outcome: driver.Retry, delay: time.Minute, failed: true}},
		"third":                 {plain, 3, fail, false, verdict{outcome: driver.DeadLetter, reason: ReasonExhausted, failed: true}},
		"beyond":                {plain, 9, fail, false, verdict{outcome: driver.DeadLetter, reason: ReasonExhausted, failed: true}},
		"interrupted":           {plain, 3, fail, true, verdict{outcome: driver.Return}},
		"interrupted reject":    {plain, 1, Reject(fail), true, verdict{outcome: driver.DeadLetter, reason: ReasonRejected}},
		"interrupted panic":     {plain, 1, &PanicError{}, true, verdict{outcome: driver.Retry, delay: time.Second, failed: true}},
		"defer":                 {plain, 3, Defer(time.Hour), false, verdict{outcome: driver.Return, delay: time.Hour}},
		"hold":                  {plain, 3, Hold(time.Hour, fail), false, verdict{outcome: driver.Return, hold: time.Hour}},
		"undecodable":           {plain, 1, &undecodable{fail}, false, verdict{outcome: driver.DeadLetter, reason: ReasonUndecodable}},
		"ordered first":         {ordered(exhaustedBlock), 1, fail, false, verdict{delay: time.Second, failed: true}},
		"ordered block":         {ordered(exhaustedBlock), 3, fail, false, verdict{delay: time.Minute, failed: true, blocked: true}},
		"ordered dead":          {ordered(exhaustedDeadLetter), 3, fail, false, verdict{outcome: driver.DeadLetter, reason: ReasonExhausted, failed: true}},
		"ordered skip":          {ordered(exhaustedSkip), 3, fail, false, verdict{outcome: driver.Ack, reason: ReasonExhausted, givenUp: true, failed: true}},
		"ordered defer":         {ordered(exhaustedBlock), 1, Defer(time.Hour), false, verdict{delay: time.Hour}},
		"ordered reject":        {ordered(exhaustedBlock), 1, Reject(fail), false, verdict{outcome: driver.DeadLetter, reason: ReasonRejected}},
		"broadcast first":       {broadcast, 1, fail, false, verdict{delay: time.Second, failed: true}},
		"broadcast last":        {broadcast, 3, fail, false, verdict{outcome: driver.Ack, reason: ReasonExhausted, givenUp: true, failed: true}},
		"broadcast reject":      {broadcast, 1, Reject(fail), false, verdict{outcome: driver.Ack, reason: ReasonRejected, givenUp: true}},
	}
	for name, c := range cases {
		u := &unit{settings: c.s}
		if got := u.judge(c.attempt, c.err, c.interrupted); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		got := clean(s, 20)
		if len(got) > 20 {
			t.Fatalf("%q is too long", got)
		}
		if got != "" {
			if err := driver.ValidProperty("x", got); err != nil {
				t.Fatal(err)
			}
		}
	})
	if got := clean(strings.Repeat("é", 20), 5); got != "éé" {
		t.Errorf("cut inside a letter: %q", got)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	levels := []time.Duration{time.Second, 5 * time.Second, 10 * time.Second}
	caps := driver.Capabilities{RetryDelay: driver.Levels, DelayLevels: levels}
	p := RetryPolicy{Attempts: 3, Delays: []time.Duration{2 * time.Second, 10 * time.Second, time.Minute}}
	u := &unit{settings: settings{retry: p}}
	if errs := u.gaps(caps, slog.New(slog.DiscardHandler)); len(errs) != 1 || !strings.Contains(errs[0].Error(), "needs retry delays of 2s, 1m0s; the broker has the levels 1s 5s 10s") {
		t.Errorf("strict: %v", errs)
	}
	u.emulate, u.retry = true, p
	if errs := u.gaps(caps, slog.New(slog.DiscardHandler)); errs != nil || durations(u.retry.Delays) != "5s 10s 10s" {
		t.Errorf("emulate: %v, %v", errs, u.retry.Delays)
	}
}

func TestEvents_SlowReceiverLosesAndIsTold(t *testing.T) {
	t.Parallel()
	var b broadcaster
	ctx, cancel := context.WithCancel(t.Context())
	ch := b.receive(ctx, 1)
	for range 3 {
		b.send(Event{})
	}
	<-ch
	b.send(Event{})
	if e := <-ch; e.Missed != 2 {
		t.Errorf("missed %d", e.Missed)
	}
	cancel()
	if _, open := <-ch; open {
		t.Error("still open")
	}
	b.close()
	if _, open := <-b.receive(t.Context(), 1); open {
		t.Error("a receiver after the end is open")
	}
}
