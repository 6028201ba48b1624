package tcp

import (
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/integration/bench/internal/client/apache"
	"github.com/sluicemq/sluice/integration/bench/internal/client/raw"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// consumerStep is the name of a step that consumes.
func consumerStep(what, side string) string { return fmt.Sprintf("%s/%s/%s", what, async, side) }

// consumers drain a backlog, and pass messages from end to end.
func (d *Bed) consumers() []row.Step {
	var all []row.Step
	for _, side := range []string{ours, peer} {
		all = append(all, row.Do(consumerStep(drain, side), func(b *row.Bench, _ string) (measure.Figures, error) {
			return d.on(side, async, func(t *target) (measure.Figures, error) {
				return d.drain(t, async.once(drain, b.Round), b.Size(100_000, 5_000))
			})
		}))
	}
	for _, side := range []string{ours, peer} {
		all = append(all, row.Do(consumerStep(flow, side), func(b *row.Bench, _ string) (measure.Figures, error) {
			return d.on(side, async, func(t *target) (measure.Figures, error) { return pass(b, t, async.once(flow, b.Round)) })
		}))
	}
	return all
}

// drain fills a new topic and takes everything out of it, by raw pulls and
// then by Apache's Go client as a new group.
func (d *Bed) drain(t *target, topic string, messages int) (measure.Figures, error) {
	if err := t.makeTopic(topic); err != nil {
		return nil, err
	}
	if err := raw.Fill(t.broker, topic, messages); err != nil {
		return nil, err
	}
	if err := raw.AwaitStored(t.broker, topic, int64(messages)); err != nil {
		return nil, err
	}
	d.bench.Scratch.Calm()
	begin := measure.Read(t.pids()...)
	n, err := raw.Drain(t.broker, topic)
	pulled := measure.Result{Messages: int64(n), Latency: &measure.Histogram{}, Spent: begin.Spent()}
	if err == nil && n != messages {
		err = fmt.Errorf("%d messages were pulled, %d are there", n, messages)
	}
	if err != nil {
		return nil, err
	}
	pushed, err := apache.Drain(t.nameServer, topic, messages, t.pids())
	if err != nil {
		return nil, err
	}
	f := measure.Figures{}
	for name, r := range map[string]measure.Result{"raw_": pulled, "go_": pushed} {
		all := r.Figures()
		for _, figure := range []string{"rate", "cpu_us", "server_us", "others"} {
			f[name+figure] = all[figure]
		}
	}
	return f, nil
}

// pass sends with Apache's Go client and takes with its push consumer, twice
// as long as a loop: at first messages only pile up.
func pass(b *row.Bench, t *target, topic string) (measure.Figures, error) {
	if err := t.makeTopic(topic); err != nil {
		return nil, err
	}
	f := measure.NewFlow(publishers, window, 0, b.For/2, 2*b.For)
	f.Servers = t.pids()
	p, err := apache.NewPipeline(t.nameServer, topic, f)
	if err != nil {
		return nil, err
	}
	r, err := f.Run(p)
	if err = errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	return r.Figures(), nil
}
