package tcp

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/sluicemq/sluice/integration/bench/internal/client/apache"
	"github.com/sluicemq/sluice/integration/bench/internal/client/raw"
	"github.com/sluicemq/sluice/integration/bench/internal/client/sluice"
	"github.com/sluicemq/sluice/integration/bench/internal/limit"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/jetstream"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// What a step does, the first word of its name; the class, the side and for
// some the callers follow.
const (
	goSend    = "go-send"
	javaSend  = "java-send"
	rawWait   = "raw-wait"
	rawShared = "raw-shared"
	rawWindow = "raw-window"
	goTx      = "go-tx"
	drain     = "drain"
	flow      = "flow"
	start     = "start"
)

// stepName is the name of a step for one number of callers.
func stepName(what string, c class, side string, workers int) string {
	return fmt.Sprintf("%s/%s/%s/%d", what, c, side, workers)
}

// steps are all steps in the order in which a round runs them: ours and
// Apache's in turn.
func (d *Bed) steps() []row.Step {
	var all []row.Step
	for _, w := range callers {
		all = append(all, d.sends(goSend, async, w)...)
	}
	for _, w := range callers {
		all = append(all, d.javaSends(w)...)
	}
	all = append(all, d.sends(rawWait, async, many)...)
	all = append(all, d.sends(rawShared, async, many)...)
	all = append(all, beside()...)
	all = append(all, d.sends(rawWindow, async, pipes)...)
	all = append(all, d.sends(goTx, async, many)...)
	all = append(all, d.consumers()...)
	for _, w := range []int{1, many} {
		all = append(all, d.sends(goSend, durable, w)...)
		all = append(all, d.sends(rawWait, durable, w)...)
	}
	return append(all, d.starts()...)
}

// open makes a publisher of a kind; its instance is a name of its own.
func open(what string, t *target, workers int, instance string) (measure.Publisher, error) {
	switch what {
	case goSend:
		return apache.NewSender(t.nameServer, instance, t.class.topic())
	case goTx:
		return apache.NewTransactions(t.nameServer, instance, t.class.transactions())
	case ownClient:
		return sluice.NewSender(t.nameServer, instance, t.class.topic(), workers, 1)
	case ownBatch:
		return sluice.NewSender(t.nameServer, instance, t.class.topic(), workers, batch)
	case rawWait:
		return raw.NewWait(t.broker, t.class.topic(), workers)
	case rawShared:
		return raw.NewShared(t.broker, t.class.topic(), workers)
	default:
		return raw.NewWindow(t.broker, t.class.topic(), workers)
	}
}

// sends is one kind of sending to both sides.
func (d *Bed) sends(what string, c class, workers int) []row.Step {
	var both []row.Step
	for _, side := range []string{ours, peer} {
		name := stepName(what, c, side, workers)
		both = append(both, row.Do(name, func(b *row.Bench, _ string) (measure.Figures, error) {
			return d.on(side, c, func(t *target) (measure.Figures, error) {
				p, err := open(what, t, workers, fmt.Sprintf("%s/%d", name, b.Round))
				if err != nil {
					return nil, err
				}
				topic := c.topic()
				if what == goTx {
					topic = c.transactions()
				}
				return publish(b, t, topic, workers, p)
			})
		}))
	}
	return both
}

// publish is a closed loop, of which the server must have kept all that it
// acknowledged.
func publish(b *row.Bench, t *target, topic string, workers int, p measure.Publisher) (measure.Figures, error) {
	before, err := raw.Stored(t.broker, topic)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	loop, sent := b.Loop(workers), atomic.Int64{}
	loop.Servers = t.pids()
	r, err := loop.Run(func(worker int) (int, error) {
		n, err := p.Publish(worker)
		sent.Add(int64(n))
		return n, err
	})
	if err == nil { // while there is still somebody to be asked about a transaction
		err = raw.AwaitStored(t.broker, topic, before+sent.Load())
	}
	return r.Figures(), errors.Join(err, p.Close())
}

// javaSends is Apache's Java client sending to both sides. It warms up as long
// as other loops do.
func (d *Bed) javaSends(workers int) []row.Step {
	var both []row.Step
	for _, side := range []string{ours, peer} {
		both = append(both, row.Do(stepName(javaSend, async, side, workers), func(b *row.Bench, _ string) (measure.Figures, error) {
			if err := d.problems[peer]; err != nil {
				return nil, err // the client comes with the servers
			}
			return d.on(side, async, func(t *target) (measure.Figures, error) {
				f, err := d.javaSend(b, t, workers)
				return f, errors.Join(err, d.java.Pause())
			})
		}))
	}
	return both
}

func (d *Bed) javaSend(b *row.Bench, t *target, workers int) (measure.Figures, error) {
	if err := d.java.Resume(); err != nil {
		return nil, err
	}
	loop, topic := b.Loop(workers), t.class.topic()
	before, err := raw.Stored(t.broker, topic)
	if err != nil {
		return nil, err
	}
	warm, err := d.java.Send(t.nameServer, topic, workers, loop.Warm)
	if err != nil {
		return nil, err
	}
	begin := measure.Read(append(t.pids(), d.java.PID())...)
	sent, err := d.java.Send(t.nameServer, topic, workers, loop.For)
	if err != nil {
		return nil, err
	}
	spent := begin.Spent()
	client := spent.Served[len(spent.Served)-1]
	f := sent.Figures(spent.Serving() - client)
	f["others"] = spent.Others
	return f, raw.AwaitStored(t.broker, topic, before+warm.Messages+sent.Messages)
}

// beside are the limit and the peer of row 8, both in this process.
func beside() []row.Step {
	return []row.Step{
		loop("loopback", func(string) (measure.Publisher, error) { return limit.NewLoopback(many) }),
		loop("jetstream", func(dir string) (measure.Publisher, error) {
			return jetstream.NewWait(dir, jetstream.Config{Loopback: true, Clients: many})
		}),
	}
}

// loop is a step of many callers that needs no server of the bed.
func loop(name string, open func(dir string) (measure.Publisher, error)) row.Step {
	return row.Do(name, func(b *row.Bench, dir string) (measure.Figures, error) {
		p, err := open(dir)
		if err != nil {
			return nil, err
		}
		r, err := b.Loop(many).Run(p.Publish)
		if err = errors.Join(err, p.Close()); err != nil {
			return nil, err
		}
		return r.Figures(), nil
	})
}
