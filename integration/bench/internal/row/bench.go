package row

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// Bench is what the steps of one run share.
type Bench struct {
	Scratch *measure.Scratch
	// For is how long a loop is measured.
	For time.Duration
	// Quick takes small sizes: to try the benchmark, not to measure.
	Quick bool
	// Stuck is called when a step does not end in time.
	Stuck func(step string)
	// Round counts from 0; [Run] sets it.
	Round int

	kept map[string]*Kept
}

// Kept is a store that lives as long as the run.
type Kept struct {
	Dir      string
	Messages int // in it
}

// Loop is the closed loop of a step.
func (b *Bench) Loop(workers int) measure.Loop {
	return measure.Loop{Workers: workers, Warm: b.For / 5, For: b.For}
}

// Settle lets a process come to rest.
func (b *Bench) Settle() {
	if b.Quick {
		time.Sleep(100 * time.Millisecond)
		return
	}
	time.Sleep(time.Second)
}

// Size is a number of messages.
func (b *Bench) Size(full, quick int) int {
	if b.Quick {
		return quick
	}
	return full
}

// Keep answers a store that the first call builds.
func (b *Bench) Keep(name string, messages int, build func(dir string, messages int) error) (*Kept, error) {
	if k := b.kept[name]; k != nil {
		return k, nil
	}
	if err := b.room(messages); err != nil {
		return nil, err
	}
	k := &Kept{Dir: b.Scratch.Path(name), Messages: messages}
	if err := build(k.Dir, messages); err != nil {
		return nil, errors.Join(fmt.Errorf("build store %s: %w", name, err), b.Scratch.Remove(k.Dir))
	}
	if b.kept == nil {
		b.kept = map[string]*Kept{}
	}
	b.kept[name] = k
	b.Scratch.Calm()
	return k, nil
}

// room refuses a store that could fill the disk.
func (b *Bench) room(messages int) error {
	free, err := b.Scratch.Free()
	if need := 2 * int64(messages) * measure.BodySize; err == nil && free < need {
		err = fmt.Errorf("%d MiB are free, a store of %d messages wants %d", free>>20, messages, need>>20)
	}
	return err
}
