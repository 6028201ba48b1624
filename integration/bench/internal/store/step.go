package store

import (
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/integration/bench/internal/limit"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/ours"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/jetstream"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/pebble"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/redis"
	"github.com/sluicemq/sluice/integration/bench/internal/report"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// producers are the numbers of producers of rows 1 and 2.
var producers = [...]int{1, 8, 64}

// publishers of the end-to-end rows; together they keep window messages under way.
const (
	publishers = 8
	window     = 4096
	paced      = 2000 // a second
)

// Steps are all steps in the order in which a round runs them.
func Steps() []row.Step {
	var all []row.Step
	for _, w := range producers {
		all = append(all, publishSteps(w)...)
		all = append(all,
			publish("window/ours", w, func(dir string) (measure.Publisher, error) {
				return ours.NewPublisher(dir, ours.Written, w, ours.Window)
			}),
			publish("window/jetstream", w, func(dir string) (measure.Publisher, error) { return jetstream.NewWindow(dir, jetstream.Config{}, w) }),
		)
	}
	all = append(all, syncSteps()...)
	all = append(all, flowSteps()...)
	all = append(all, bulkSteps()...)
	all = append(all, featureSteps()...)
	all = append(all, storeSteps()...)
	return all
}

// publish is a closed loop of workers.
func publish(name string, workers int, open func(dir string) (measure.Publisher, error)) row.Step {
	return row.Do(fmt.Sprintf("%s/%d", name, workers), func(b *row.Bench, dir string) (measure.Figures, error) {
		p, err := open(dir)
		if err != nil {
			return nil, err
		}
		r, err := b.Loop(workers).Run(p.Publish)
		if err = errors.Join(err, p.Close()); err != nil {
			return nil, err
		}
		return r.Figures(), nil
	})
}

func publishSteps(w int) []row.Step {
	return []row.Step{
		publish("publish/ours", w, func(dir string) (measure.Publisher, error) { return ours.NewPublisher(dir, ours.Written, w, 1) }),
		publish("publish/jetstream", w, func(dir string) (measure.Publisher, error) {
			return jetstream.NewWait(dir, jetstream.Config{Clients: w})
		}),
		publish("publish/pebble", w, func(dir string) (measure.Publisher, error) { return pebble.Open(dir, false) }),
		publish("publish/mmap-append-prefault", w, func(dir string) (measure.Publisher, error) { return limit.NewMapping(dir) }),
		publish("publish/write-per-message", w, func(dir string) (measure.Publisher, error) { return limit.NewWrites(dir) }),
	}
}

func syncSteps() []row.Step {
	sluice := func(w int) row.Step {
		return publish("sync/ours", w, func(dir string) (measure.Publisher, error) { return ours.NewPublisher(dir, ours.Durable, w, 1) })
	}
	group := func(w int) row.Step {
		return publish("sync/group-commit", w, func(dir string) (measure.Publisher, error) { return limit.NewGroup(dir) })
	}
	return []row.Step{
		sluice(64),
		group(64),
		publish("sync/pebble", 64, func(dir string) (measure.Publisher, error) { return pebble.Open(dir, true) }),
		publish("sync/redis", 64, func(dir string) (measure.Publisher, error) { return redis.Start(dir, "always", 64) }),
		publish("sync/jetstream", 64, func(dir string) (measure.Publisher, error) {
			return jetstream.NewWait(dir, jetstream.Config{SyncAlways: true, Clients: 64})
		}),
		sluice(8),
		group(8),
		sluice(1),
		publish("sync/fdatasync", 1, func(dir string) (measure.Publisher, error) { return limit.NewFdatasync(dir) }),
	}
}

// flow is messages from publishers to a consumer; a paced one is measured
// three times as long, as it has few messages for a p99.
func flow(name string, rate float64, open func(dir string, f *measure.Flow) (measure.Pipeline, error)) row.Step {
	return row.Do(name, func(b *row.Bench, dir string) (measure.Figures, error) {
		span := b.For
		if rate > 0 {
			span *= 3
		}
		f := measure.NewFlow(publishers, window, rate, b.For/4, span)
		p, err := open(dir, f)
		if err != nil {
			return nil, err
		}
		r, err := f.Run(p)
		if err = errors.Join(err, p.Close()); err != nil {
			return nil, err
		}
		return r.Figures(), nil
	})
}

func flowSteps() []row.Step {
	var all []row.Step
	for _, c := range []struct {
		name string
		rate float64
	}{{"flow-max/", 0}, {"flow-paced/", paced}} {
		all = append(all,
			flow(c.name+"ours", c.rate, func(dir string, f *measure.Flow) (measure.Pipeline, error) {
				return ours.NewPipeline(dir, publishers, f)
			}),
			flow(c.name+"jetstream", c.rate, func(dir string, f *measure.Flow) (measure.Pipeline, error) {
				return jetstream.NewPipeline(dir, jetstream.Config{}, f, c.rate > 0)
			}),
			flow(c.name+"limit", c.rate, func(dir string, f *measure.Flow) (measure.Pipeline, error) { return limit.NewPipeline(dir, f) }),
		)
	}
	return all
}

func bulkSteps() []row.Step {
	bulk := func(b *row.Bench) int { return b.Size(3<<20, 32<<10) } // messages of 1 KiB
	return []row.Step{
		row.Do("sustained/ours", func(b *row.Bench, dir string) (measure.Figures, error) { return ours.Sustained(dir, bulk(b)) }),
		row.Do("sustained/limit", func(b *row.Bench, dir string) (measure.Figures, error) { return limit.Sustained(dir, bulk(b)) }),
		row.Do("scan", func(b *row.Bench, dir string) (measure.Figures, error) { return limit.Scan(dir, b.Size(1<<20, 32<<10)) }),
		row.Do("backlog/ours", oursBacklog),
		row.Do("backlog/jetstream", jetStreamBacklog),
	}
}

func oursBacklog(b *row.Bench, _ string) (measure.Figures, error) {
	few, err := b.Keep("ours-few", b.Size(20_000, 2_000), ours.Fill)
	if err != nil {
		return nil, err
	}
	many, err := b.Keep("ours-many", b.Size(1_000_000, 20_000), ours.Fill)
	if err != nil {
		return nil, err
	}
	const drains = 10 // of few, which are over soon
	all := make([]float64, drains)
	for i := range all {
		if all[i], err = ours.Drain(few.Dir, fmt.Sprintf("few-%d-%d", b.Round, i), few.Messages); err != nil {
			return nil, err
		}
	}
	us, err := ours.Drain(many.Dir, fmt.Sprintf("many-%d", b.Round), b.Size(200_000, 10_000))
	return measure.Figures{"few_us": report.Median(all), "many_us": us}, err
}

func jetStreamBacklog(b *row.Bench, _ string) (measure.Figures, error) {
	many, err := b.Keep("jetstream-many", b.Size(1_000_000, 20_000), jetstream.Fill)
	if err != nil {
		return nil, err
	}
	us, err := jetstream.Drain(many.Dir, fmt.Sprintf("many-%d", b.Round), b.Size(200_000, 10_000))
	return measure.Figures{"many_us": us}, err
}

func featureSteps() []row.Step {
	const workers = 8
	pending := func(b *row.Bench) int { return b.Size(1_000_000, 20_000) }
	fire := func(b *row.Bench) int { return b.Size(200_000, 5_000) }
	return []row.Step{
		row.Do("topics/one", func(b *row.Bench, dir string) (measure.Figures, error) { return ours.Topics(dir, 1, b.Loop(workers)) }),
		row.Do("topics/many", func(b *row.Bench, dir string) (measure.Figures, error) {
			return ours.Topics(dir, b.Size(10_000, 500), b.Loop(workers))
		}),
		row.Do("delayed/plain", func(b *row.Bench, dir string) (measure.Figures, error) {
			return ours.Plain(dir, pending(b), b.Loop(workers))
		}),
		row.Do("delayed/ours", func(b *row.Bench, dir string) (measure.Figures, error) {
			return ours.Delayed(dir, pending(b), fire(b), b.Loop(workers))
		}),
		row.Do("delayed/redis", func(b *row.Bench, dir string) (measure.Figures, error) {
			r, err := redis.Start(dir, "everysec", 1)
			if err != nil {
				return nil, err
			}
			f, err := r.Delayed(pending(b), fire(b))
			return f, errors.Join(err, r.Close())
		}),
		row.Do("halves/ours", func(b *row.Bench, dir string) (measure.Figures, error) {
			return ours.Halves(dir, b.Size(100_000, 2_000), b.Loop(workers))
		}),
		row.Do("allocations", func(b *row.Bench, dir string) (measure.Figures, error) {
			return ours.Allocations(dir, b.Size(100_000, 10_000))
		}),
		row.Do("start", startStep),
	}
}
