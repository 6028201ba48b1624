package tcp

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/client/raw"
)

// target is a server as its clients see it.
type target struct {
	class              class
	nameServer, broker string
	processes          []*child.Server
}

// pids are the processes of the target.
func (t *target) pids() []int {
	all := make([]int, 0, len(t.processes))
	for _, p := range t.processes {
		all = append(all, p.PID())
	}
	return all
}

// makeTopic makes a topic that clients can find.
func (t *target) makeTopic(name string) error {
	if err := raw.MakeTopic(t.broker, name); err != nil {
		return err
	}
	return raw.AwaitRoute(t.nameServer, name, t.broker)
}

// prepare makes what the steps share and lets the target stand still.
func (t *target) prepare() error {
	return errors.Join(t.makeTopic(t.class.topic()), t.makeTopic(t.class.transactions()), t.pause())
}

// pause lets the target stand still.
func (t *target) pause() error {
	var err error
	for _, p := range t.processes {
		err = errors.Join(err, p.Pause())
	}
	return err
}

// resume lets the target run, and waits until clients find it: a name server
// that stood still for long forgets its brokers until they tell it again.
func (t *target) resume() error {
	var err error
	for _, p := range t.processes {
		err = errors.Join(err, p.Resume())
	}
	if err != nil {
		return fmt.Errorf("let a server run: %w", err)
	}
	time.Sleep(calm)
	return raw.AwaitRoute(t.nameServer, t.class.topic(), t.broker)
}
