package tcp

import (
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/integration/bench/internal/client/apache"
	"github.com/sluicemq/sluice/integration/bench/internal/client/sluice"
	"github.com/sluicemq/sluice/integration/bench/internal/limit"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/jetstream"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/kfake"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// What a step of bench-client does; see the constants of bench-tcp.
const (
	ownClient   = "sluice-send"
	ownBatch    = "sluice-batch"
	ownFlowMost = "sluice-flow"
	backlog     = "backlog"

	ownBatchHere    = "sluice-batch-here"
	ownFlowHere     = "sluice-flow-here"
	jetstreamWindow = "jetstream-window"
	kfakeWindow     = "kfake-window"
	jetstreamFlow   = "jetstream-flow"
	kfakeFlow       = "kfake-flow"
	relayFlow       = "relay-flow"
	relayApart      = "relay-apart"
)

const (
	// slow and fast are paced flows in messages a second.
	slow = 500
	fast = 2000
	// batch is how many messages a call of row 9 has.
	batch = 32
)

// ClientSuite is the table of bench-client. Its steps work when a bed was made
// for them.
func ClientSuite(d *Bed) row.Suite { return row.Suite{Rows: ClientTable(), Steps: d.clientSteps()} }

// paced is the name of a flow at a rate.
func paced(rate int, side string) string { return consumerStep(fmt.Sprintf("%s-%d", flow, rate), side) }

// beside10 is the name of a flow of row 10 beside ours; a rate of 0 is most.
func beside10(what string, rate int) string { return fmt.Sprintf("%s/%d", what, rate) }

// clientSteps are the steps of bench-client in the order in which a round runs
// them: ours and theirs in turn.
func (d *Bed) clientSteps() []row.Step {
	sends := d.sends(goSend, async, many)
	own := d.sends(ownClient, async, many)
	steps := []row.Step{sends[0], own[0], sends[1], own[1]}
	steps = append(steps, d.backlogs()...)
	steps = append(steps,
		d.flow(consumerStep(flow, peer), peer, 0, apacheFlow), d.flow(consumerStep(ownFlowMost, ours), ours, 0, ownPipeline))
	steps = append(steps, besideFlows(0)...)
	steps = append(steps,
		d.flow(paced(slow, peer), peer, slow, apacheFlow), d.flow(paced(slow, ours), ours, slow, ownPipeline),
		relayApartFlow(slow),
		d.flow(paced(fast, ours), ours, fast, ownPipeline))
	steps = append(steps, besideFlows(fast)...)
	steps = append(steps, d.sends(ownBatch, async, many)[0])
	return append(steps, windows()...)
}

// backlogs drain waiting messages: by Apache's consumers on RocketMQ, and by
// ours on both.
func (d *Bed) backlogs() []row.Step {
	java := func(t *target, topic string, messages int) (measure.Figures, error) {
		if err := d.java.Resume(); err != nil {
			return nil, err
		}
		begin := measure.Read(append(t.pids(), d.java.PID())...)
		taken, err := d.java.Drain(t.nameServer, topic, messages)
		spent := begin.Spent()
		if err = errors.Join(err, d.java.Pause()); err != nil {
			return nil, err
		}
		f := taken.Figures(spent.Serving() - spent.Served[len(spent.Served)-1])
		f["others"] = spent.Others
		return f, nil
	}
	own := func(t *target, topic string, messages int) (measure.Figures, error) {
		r, err := sluice.Drain(t.nameServer, topic, messages, t.pids())
		if err != nil {
			return nil, err
		}
		return r.Figures(), nil
	}
	step := func(side string, ways ...way) row.Step {
		return row.Do(consumerStep(backlog, side), func(b *row.Bench, _ string) (measure.Figures, error) {
			return d.on(side, async, func(t *target) (measure.Figures, error) {
				return d.drainBy(t, async.once(backlog, b.Round), b.Size(100_000, 5_000), ways...)
			})
		})
	}
	return []row.Step{step(peer, way{"go_", pushed}, way{"java_", java}, way{"sluice_", own}), step(ours, way{"sluice_", own})}
}

// opener makes the pipeline of a flow.
type opener func(t *target, topic string, f *measure.Flow, rate int) (measure.Pipeline, error)

func apacheFlow(t *target, topic string, f *measure.Flow, _ int) (measure.Pipeline, error) {
	return apache.NewPipeline(t.nameServer, topic, f)
}

func ownPipeline(t *target, topic string, f *measure.Flow, rate int) (measure.Pipeline, error) {
	return sluice.NewPipeline(t.nameServer, topic, publishers, f, rate > 0)
}

// flow is a step that passes messages through a new topic of a side.
func (d *Bed) flow(name, side string, rate int, open opener) row.Step {
	return row.Do(name, func(b *row.Bench, _ string) (measure.Figures, error) {
		return d.on(side, async, func(t *target) (measure.Figures, error) {
			topic := async.once(fmt.Sprintf("%s-%d", flow, rate), b.Round)
			return passBy(b, t, topic, float64(rate), func(f *measure.Flow) (measure.Pipeline, error) { return open(t, topic, f, rate) })
		})
	})
}

// besideFlows are ours, the limit and the peers of row 10, all in this process.
func besideFlows(rate int) []row.Step {
	loop := func(what string, open func(dir string, f *measure.Flow, wait bool) (measure.Pipeline, error)) row.Step {
		return row.Do(beside10(what, rate), func(b *row.Bench, dir string) (measure.Figures, error) {
			return passFlow(b, float64(rate), nil, func(f *measure.Flow) (measure.Pipeline, error) { return open(dir, f, rate > 0) })
		})
	}
	return []row.Step{
		loop(ownFlowHere, newHereFlow),
		loop(kfakeFlow, func(dir string, f *measure.Flow, wait bool) (measure.Pipeline, error) {
			return kfake.NewPipeline(dir, f, wait)
		}),
		loop(jetstreamFlow, func(dir string, f *measure.Flow, wait bool) (measure.Pipeline, error) {
			return jetstream.NewPipeline(dir, jetstream.Config{Loopback: true}, f, wait)
		}),
		loop(relayFlow, func(dir string, f *measure.Flow, wait bool) (measure.Pipeline, error) {
			return limit.NewRelay(dir, publishers, f, wait)
		}),
	}
}

// windows are ours and the peers of row 9, all in this process.
func windows() []row.Step {
	return []row.Step{
		hereBatch(),
		loop(jetstreamWindow, func(dir string) (measure.Publisher, error) {
			return jetstream.NewWindow(dir, jetstream.Config{Loopback: true}, many)
		}),
		loop(kfakeWindow, func(dir string) (measure.Publisher, error) { return kfake.NewWindow(dir, many, batch) }),
	}
}
