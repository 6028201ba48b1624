package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// programs are what startStep starts, in this order.
var programs = [...]string{"bare", "ours", "jetstream"}

// startPackages holds a program for each.
const startPackages = "github.com/sluicemq/sluice/integration/bench/internal/start/"

// startStep starts a program that does nothing, the broker and JetStream, each
// in a process of its own, and lets them idle before it reads their memory.
func startStep(b *row.Bench, dir string) (measure.Figures, error) {
	built, err := b.Keep("programs", 0, buildPrograms)
	if err != nil {
		return nil, err
	}
	f := measure.Figures{}
	for _, name := range programs {
		p, err := child.Program(filepath.Join(built.Dir, name), filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		b.Settle()
		resident, err := p.Memory("VmRSS")
		if err = errors.Join(err, p.Stop()); err != nil {
			return nil, fmt.Errorf("program %s: %w", name, err)
		}
		f[name+"_ms"] = measure.Micros(p.Took) / 1e3
		f[name+"_mib"] = resident / (1 << 20)
		f[name+"_over_bare_mib"] = f[name+"_mib"] - f[programs[0]+"_mib"]
	}
	return f, nil
}

// buildPrograms compiles the programs, and starts each once so that they lie
// in the page cache.
func buildPrograms(dir string, _ int) error {
	for _, name := range programs {
		path := filepath.Join(dir, name)
		if err := child.Build(path, startPackages+name); err != nil {
			return err
		}
		p, err := child.Program(path, filepath.Join(dir, "warm-"+name))
		if err != nil {
			return err
		}
		if err := p.Stop(); err != nil {
			return fmt.Errorf("program %s: %w", name, err)
		}
	}
	return nil
}
