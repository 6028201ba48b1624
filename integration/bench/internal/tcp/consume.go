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

// way is one way to take all messages out of a topic.
type way struct {
	name string
	take func(t *target, topic string, messages int) (measure.Figures, error)
}

// drain fills a new topic and takes everything out of it, by raw pulls and
// then by Apache's Go client as a new group.
func (d *Bed) drain(t *target, topic string, messages int) (measure.Figures, error) {
	return d.drainBy(t, topic, messages, way{"raw_", pulled}, way{"go_", pushed})
}

// drainBy fills a new topic and takes everything out of it in each way in turn,
// each of which is a new group.
func (d *Bed) drainBy(t *target, topic string, messages int, ways ...way) (measure.Figures, error) {
	if err := t.makeTopic(topic); err != nil {
		return nil, err
	}
	if err := raw.Fill(t.broker, topic, messages); err != nil {
		return nil, err
	}
	if err := raw.AwaitStored(t.broker, topic, int64(messages)); err != nil {
		return nil, err
	}
	f := measure.Figures{}
	for _, w := range ways {
		d.bench.Scratch.Calm()
		all, err := w.take(t, topic, messages)
		if err != nil {
			return nil, fmt.Errorf("drain %s: %w", w.name, err)
		}
		for _, figure := range []string{"rate", "cpu_us", "server_us", "others"} {
			f[w.name+figure] = all[figure]
		}
	}
	return f, nil
}

func pulled(t *target, topic string, messages int) (measure.Figures, error) {
	begin := measure.Read(t.pids()...)
	n, err := raw.Drain(t.broker, topic)
	r := measure.Result{Messages: int64(n), Latency: &measure.Histogram{}, Spent: begin.Spent()}
	if err == nil && n != messages {
		err = fmt.Errorf("%d messages were pulled, %d are there", n, messages)
	}
	return r.Figures(), err
}

func pushed(t *target, topic string, messages int) (measure.Figures, error) {
	r, err := apache.Drain(t.nameServer, topic, messages, t.pids())
	if err != nil {
		return nil, err
	}
	return r.Figures(), nil
}

// pass sends with Apache's Go client and takes with its push consumer.
func pass(b *row.Bench, t *target, topic string) (measure.Figures, error) {
	return passBy(b, t, topic, 0, func(f *measure.Flow) (measure.Pipeline, error) { return apache.NewPipeline(t.nameServer, topic, f) })
}

// passBy lets messages pass through a new topic.
func passBy(b *row.Bench, t *target, topic string, rate float64, open func(*measure.Flow) (measure.Pipeline, error)) (measure.Figures, error) {
	if err := t.makeTopic(topic); err != nil {
		return nil, err
	}
	return passFlow(b, rate, t.pids(), open)
}

// passFlow lets messages pass, at most or at a rate, twice as long as a loop: at
// first messages only pile up. servers are the processes that do the other half.
func passFlow(b *row.Bench, rate float64, servers []int, open func(*measure.Flow) (measure.Pipeline, error)) (measure.Figures, error) {
	f := measure.NewFlow(publishers, window, rate, b.For/2, 2*b.For)
	f.Servers = servers
	p, err := open(f)
	if err != nil {
		return nil, err
	}
	r, err := f.Run(p)
	if err = errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	return r.Figures(), nil
}
