package tcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/limit"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// relayPackage is the command of the limit that has a process of its own.
const relayPackage = "github.com/sluicemq/sluice/integration/bench/internal/limit/relay"

// relayApartFlow is the limit of a paced flow through a server that is another
// process than its clients, as ours is and every broker of row R8: on a machine
// whose processors sleep between two messages, waking them is most of it.
func relayApartFlow(rate int) row.Step {
	return row.Do(beside10(relayApart, rate), func(b *row.Bench, dir string) (measure.Figures, error) {
		built, err := b.Keep(relayApart, 0, func(dir string, _ int) error {
			out, err := exec.CommandContext(context.Background(), "go", "build", "-o", filepath.Join(dir, relayApart), relayPackage).CombinedOutput()
			if err != nil {
				return fmt.Errorf("build the relay: %w\n%s", err, out)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		store := filepath.Join(dir, "relay")
		if err := os.Mkdir(store, 0o700); err != nil {
			return nil, fmt.Errorf("make a folder for the relay: %w", err)
		}
		started, err := child.Serve(exec.CommandContext(context.Background(), filepath.Join(built.Dir, relayApart), store))
		if err != nil {
			return nil, err
		}
		s, addr, err := address(started, limit.RelayReady)
		if err != nil {
			return nil, err
		}
		f, err := passRelay(b, s, addr, rate)
		return f, errors.Join(err, s.Kill())
	})
}

// passRelay passes messages through a relay.
func passRelay(b *row.Bench, s *child.Server, addr string, rate int) (measure.Figures, error) {
	f := measure.NewFlow(publishers, window, float64(rate), b.For/2, 2*b.For)
	f.Servers = []int{s.PID()}
	p, err := limit.DialRelay(addr, publishers, f, true)
	if err != nil {
		return nil, err
	}
	r, err := f.Run(p)
	if err = errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	return r.Figures(), nil
}
