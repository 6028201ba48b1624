package tcp

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/client/raw"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/rocketmq"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// startTopic is made by its first message.
const startTopic = "bench-start"

// firstLimit is how long a server that is ready may refuse the first message.
const firstLimit = 30 * time.Second

// startStep is the name of a step that starts a server.
func startStep(side string) string { return start + "/" + side }

// starts are a start on an empty folder to the first synced message, and the
// rest after it.
func (d *Bed) starts() []row.Step {
	return []row.Step{
		row.Do(startStep(ours), func(b *row.Bench, dir string) (measure.Figures, error) {
			if err := d.problems[ours]; err != nil {
				return nil, err
			}
			begin := time.Now()
			s, addr, err := serve(d.Sluice, filepath.Join(dir, "store"), durable)
			if err != nil {
				return nil, err
			}
			f, err := first(b, begin, addr, s)
			return f, errors.Join(err, s.Stop(stopLimit))
		}),
		row.Do(startStep(peer), func(b *row.Bench, dir string) (measure.Figures, error) {
			if err := d.problems[peer]; err != nil {
				return nil, err
			}
			begin := time.Now()
			names, err := rocketmq.StartName(filepath.Join(dir, "names"), d.packages)
			if err != nil {
				return nil, err
			}
			broker, err := rocketmq.StartBroker(filepath.Join(dir, "broker"), d.packages, rocketmq.Small, names.Addr, rocketmq.Sync)
			if err != nil {
				return nil, errors.Join(err, names.Close())
			}
			f, err := first(b, begin, broker.Addr, names.Server, broker.Server)
			return f, errors.Join(err, broker.Close(), names.Close())
		}),
	}
}

// first sends the first message to a server that is ready, on a connection of
// its own, and lets the server idle before it reads its accounts.
func first(b *row.Bench, begin time.Time, addr string, processes ...*child.Server) (measure.Figures, error) {
	f := measure.Figures{"ready_ms": measure.Micros(time.Since(begin)) / 1e3}
	for end := time.Now().Add(firstLimit); ; time.Sleep(time.Millisecond) {
		err := raw.First(addr, startTopic)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("send the first message: %w", err)
		}
	}
	f["first_ms"] = measure.Micros(time.Since(begin)) / 1e3
	pause, span := 5*time.Second, 10*time.Second
	if b.Quick {
		pause, span = 100*time.Millisecond, 500*time.Millisecond
	}
	time.Sleep(pause)
	var pids []int
	for _, p := range processes {
		resident, err := p.Memory("VmRSS")
		if err != nil {
			return nil, err
		}
		f["resident_mib"] += resident / (1 << 20)
		pids = append(pids, p.PID())
	}
	idle := measure.Read(pids...)
	time.Sleep(span)
	spent := idle.Spent()
	f["idle_percent"] = 100 * spent.Serving().Seconds() / spent.Elapsed.Seconds()
	f["others"] = spent.Others
	return f, nil
}
