package store

import (
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/limit"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/ours"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// stores are the sizes of rows 15 and 16, in messages of 1 KiB.
var stores = [...]struct {
	name        string
	full, quick int
}{{smallest, 1 << 20 / 10, 8 << 10}, {rescanned, 1 << 20, 16 << 10}, {largest, 10 << 20, 32 << 10}}

const (
	smallest  = "0.1GiB"
	rescanned = "1GiB" // the one that is read from its log alone as well
	largest   = "10GiB"
)

func storeSteps() []row.Step {
	var all []row.Step
	for _, s := range stores {
		all = append(all, row.Do("store/"+s.name, func(b *row.Bench, _ string) (measure.Figures, error) {
			k, err := b.Keep("store-"+s.name, b.Size(s.full, s.quick), fillChild)
			if err != nil {
				return nil, err
			}
			f := measure.Figures{}
			err = openings(b, k, f)
			if err == nil {
				err = working(b, k, f)
			}
			if err == nil && s.name == rescanned {
				err = rescan(k, f)
			}
			return f, err
		}))
	}
	return all
}

// fillChild fills a store in a process of its own, so that the heap of this
// one stays as it is.
func fillChild(dir string, messages int) error {
	p, err := child.Start(child.Fill, dir, messages, "")
	if err != nil {
		return err
	}
	return p.Stop()
}

// added is how many messages a process adds before it is killed, and how many
// one adds and consumes before its memory is read.
func added(b *row.Bench) int { return b.Size(20_000, 2_000) }

// openings opens the store after a clean close, and after a process that was
// adding to it was killed.
func openings(b *row.Bench, k *row.Kept, f measure.Figures) error {
	took, err := ours.OpenTime(k.Dir)
	if err != nil {
		return err
	}
	f["clean_s"] = took.Seconds()
	if err := interrupt(k, added(b)); err != nil {
		return err
	}
	took, err = ours.OpenTime(k.Dir)
	f["crash_s"] = took.Seconds()
	return err
}

// interrupt adds messages in a process that is killed.
func interrupt(k *row.Kept, messages int) error {
	p, err := child.Start(child.Interrupt, k.Dir, messages, "")
	if err != nil {
		return err
	}
	k.Messages += messages
	return p.Kill()
}

// working reads the anonymous memory of a process that has added and consumed
// some messages, and now idles with the rest waiting.
func working(b *row.Bench, k *row.Kept, f measure.Figures) error {
	p, err := child.Start(child.Work, k.Dir, added(b), fmt.Sprintf("work-%d", b.Round))
	if err != nil {
		return err
	}
	k.Messages += added(b)
	b.Settle()
	anon, err := p.Memory("RssAnon")
	f["anon_mib"] = anon / (1 << 20)
	return errors.Join(err, p.Stop())
}

// rescan opens the store from its log alone, as after a crash that has taken
// everything derived: seconds for one GiB of records as the scan limit has them.
func rescan(k *row.Kept, f measure.Figures) error {
	if err := errors.Join(interrupt(k, 0), ours.Forget(k.Dir)); err != nil {
		return err
	}
	took, err := ours.OpenTime(k.Dir)
	f["rescan_s_per_gib"] = took.Seconds() / (float64(k.Messages) * limit.RecordSize / (1 << 30))
	return err
}
