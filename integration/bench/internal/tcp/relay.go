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
			return child.Build(filepath.Join(dir, relayApart), relayPackage)
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
		f, err := passFlow(b, float64(rate), []int{s.PID()}, func(f *measure.Flow) (measure.Pipeline, error) {
			return limit.DialRelay(addr, publishers, f, true)
		})
		return f, errors.Join(err, s.Kill())
	})
}
