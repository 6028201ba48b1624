// Canary puts a new instance of a service beside the old one without risk: it
// starts paused, is verified, gets a little traffic, then all of it, while the
// old instance steps back. Both share one bundled broker in this process; with
// RocketMQ they would be two pods. It narrates and ends by itself:
//
//	go run ./examples/canary
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

const queues = 4

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "canary:", err)
		os.Exit(1)
	}
}

// run tells the story.
func run(ctx context.Context) (err error) {
	broker, err := embedded.Open("", embedded.Config{Queues: queues})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close(ctx)) }()
	t := &traffic{}
	seen := &sync.Map{}

	say("old", "starts and is the only member of its group")
	old, err := start(ctx, broker.Driver(), "old", seen, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.app.Stop(ctx)) }()
	if err := t.flow(ctx, old, 40, old); err != nil {
		return err
	}

	say("canary", "starts paused: it has joined no group, the old one notices nothing")
	canary, err := start(ctx, broker.Driver(), "canary", seen, false, listener.Paused(false))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, canary.app.Stop(ctx)) }()
	if err := t.flow(ctx, old, 40, old, canary); err != nil {
		return err
	}
	if err := verify(ctx, canary); err != nil {
		return err
	}

	if err := errors.Join(canary.listeners.SetConcurrency("red-packet", 1), canary.listeners.Resume(ctx, listener.All())); err != nil {
		return err
	}
	say("operator", "resume with one handler at a time: the gate is green, a little traffic comes")
	if err := lanes(ctx, old, canary, false); err != nil {
		return err
	}
	if err := t.flow(ctx, old, 40, old, canary); err != nil {
		return err
	}
	if n := canary.most.Load(); n != 1 {
		return fmt.Errorf("the canary ran %d handlers at a time", n)
	}

	say("operator", "it holds: eight handlers for the canary; the old instance is paused and releases its lanes")
	if err := errors.Join(canary.listeners.SetConcurrency("red-packet", 8), old.listeners.Pause(ctx, listener.All(), listener.ReleaseLanes)); err != nil {
		return err
	}
	if err := lanes(ctx, old, canary, true); err != nil {
		return err
	}
	if err := t.flow(ctx, old, 40, old, canary); err != nil {
		return err
	}
	say("result", "%d bills sent, %d handled, %d of them twice", t.sent, old.handled.Load()+canary.handled.Load(), old.twice.Load()+canary.twice.Load())
	return nil
}

// verify shows a gate that is red until the wallet answers.
func verify(ctx context.Context, canary *instance) error {
	err := canary.listeners.Resume(ctx, listener.All())
	if err == nil {
		return errors.New("resumed although a gate was red")
	}
	say("operator", "resume is refused")
	status, _ := canary.listeners.Status("red-packet")
	say("canary", "is %s: %s", status.State, status.Reason)
	canary.wallet.up.Store(true)
	say("wallet", "answers again")
	return nil
}

// traffic sends bills and waits until they are handled.
type traffic struct {
	sent int
}

// flow sends n bills and says which of the instances handled how many.
func (t *traffic) flow(ctx context.Context, from *instance, n int, to ...*instance) error {
	before := make([]int64, len(to))
	for i, x := range to {
		before[i] = x.handled.Load()
	}
	for range n {
		t.sent++
		id := fmt.Sprintf("B-%d", t.sent)
		if _, err := from.producer.Send(ctx, "bill-settled", bill{ID: id}, sdk.OrderingKey(id)); err != nil {
			return err
		}
	}
	handled := func() (sum int64) {
		for i, x := range to {
			sum += x.handled.Load() - before[i]
		}
		return sum
	}
	if err := until(ctx, "every bill is handled", func() bool { return handled() >= int64(n) }); err != nil {
		return err
	}
	for i, x := range to {
		say(x.name, "handled %d of %d bills", x.handled.Load()-before[i], n)
	}
	return nil
}

// lanes waits until both have their share of the queues, or the canary all of
// them: four, and one for redeliveries.
func lanes(ctx context.Context, old, canary *instance, all bool) error {
	count := func(i *instance) int {
		s, _ := i.listeners.Status("red-packet")
		return len(s.Lanes)
	}
	err := until(ctx, "the lanes are shared out", func() bool {
		o, c := count(old), count(canary)
		return o+c == queues+1 && (all && o == 0 || !all && min(o, c) == (queues+1)/2)
	})
	if err != nil {
		return err
	}
	say("broker", "lanes: %d belong to the old one, %d to the canary", count(old), count(canary))
	return nil
}

func until(ctx context.Context, what string, f func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

func say(who, format string, args ...any) {
	fmt.Printf("%-8s | %s\n", who, fmt.Sprintf(format, args...))
}
