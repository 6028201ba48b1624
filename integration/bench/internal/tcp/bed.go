package tcp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/client/apache"
	"github.com/sluicemq/sluice/integration/bench/internal/client/raw"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/rocketmq"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
	"github.com/sluicemq/sluice/integration/bench/java"
)

// The two sides of every comparison.
const (
	ours = "ours"
	peer = "apache"
)

// oursWarm is enough warm-up for a program that was compiled before.
const oursWarm = 2 * time.Second

// javaDrains is how many times the Java consumer drains a topic to get warm.
const javaDrains = 5

// refusedPause follows a send that was refused while a server warms up.
const refusedPause = 10 * time.Millisecond

// Bed has the servers of a run and the clients that outlive a step.
type Bed struct {
	// Program is the name of the benchmark, for what it tells.
	Program string
	// Warm is how long each of Apache's servers is under load before the
	// first round. Its virtual machine needs more than a minute.
	Warm time.Duration
	// Sluice is a command that was built before; if it is empty, it is built
	// from this checkout.
	Sluice string

	bench    *row.Bench
	packages string // of RocketMQ
	names    *rocketmq.Server
	targets  map[string]*target // by side and class
	java     *java.Driver
	// problems say why a side is not there; its steps fail with them.
	problems map[string]error
	ends     []func() error
}

// Open starts what the rows need, warms it up, and lets it stand still.
func (d *Bed) Open(b *row.Bench, rows []row.Row) error {
	d.bench, d.targets, d.problems = b, map[string]*target{}, map[string]error{}
	if b.Quick {
		d.Warm = min(d.Warm, time.Second)
	}
	if d.Sluice == "" {
		d.Sluice = b.Scratch.Path("sluice")
		d.problems[ours] = build(context.Background(), d.Sluice)
	}
	d.packages, d.problems[peer] = java.Packages(context.Background())
	needed := row.Needed(rows)
	for _, c := range []class{async, durable} {
		for _, side := range []string{ours, peer} {
			if uses(needed, side, c) {
				if err := d.start(side, c); err != nil {
					return err
				}
			}
		}
	}
	if (uses(needed, javaSend, async) || uses(needed, backlog, async) && uses(needed, peer, async)) && !d.missing(peer) {
		driver, err := java.StartDriver(context.Background(), b.Scratch.Path("java"), d.packages)
		if err != nil {
			return err
		}
		d.java, d.ends = driver, append(d.ends, driver.Close)
	}
	return d.warm()
}

// uses reports whether one of the steps needs a server of the class and has
// the word, a side or a client, in its name.
func uses(needed map[string]bool, word string, c class) bool {
	for name := range needed {
		parts := strings.Split(name, "/")
		if len(parts) > 2 && parts[1] == string(c) && (parts[0] == word || parts[2] == word) {
			return true
		}
	}
	return false
}

// start starts a server, unless its side is known to be missing.
func (d *Bed) start(side string, c class) error {
	if d.missing(side) {
		return nil
	}
	begin := d.startOurs
	if side == peer {
		begin = d.startPeer
	}
	t, err := begin(c)
	if err == nil {
		err = t.prepare()
	}
	if err == nil {
		d.targets[side+string(c)] = t
	} else if side == ours { // the others can be looked at all the same
		d.problems[ours], err = err, nil
	}
	return err
}

// missing reports whether a side is known not to be there.
func (d *Bed) missing(side string) bool { return d.problems[side] != nil }

func (d *Bed) startOurs(c class) (*target, error) {
	s, addr, err := serve(d.Sluice, d.bench.Scratch.Path("ours-"+string(c)), c)
	if err != nil {
		return nil, err
	}
	d.ends = append(d.ends, func() error { return s.Stop(stopLimit) })
	return &target{c, addr, addr, []*child.Server{s}}, nil
}

// startPeer starts a broker, and before the first one the name server.
func (d *Bed) startPeer(c class) (*target, error) {
	if d.names == nil {
		names, err := rocketmq.StartName(d.bench.Scratch.Path("apache-names"), d.packages)
		if err != nil {
			return nil, err
		}
		d.names, d.ends = names, append(d.ends, names.Close)
	}
	if err := d.names.Resume(); err != nil {
		return nil, err
	}
	broker, err := rocketmq.StartBroker(d.bench.Scratch.Path("apache-"+string(c)), d.packages, rocketmq.Large, d.names.Addr, flush(c))
	if err != nil {
		return nil, err
	}
	d.ends = append(d.ends, broker.Close)
	return &target{c, d.names.Addr, broker.Addr, []*child.Server{d.names.Server, broker.Server}}, nil
}

// flush is RocketMQ's word for a class.
func flush(c class) rocketmq.Flush {
	if c == durable {
		return rocketmq.Sync
	}
	return rocketmq.Async
}

// Close ends all servers, the last one first.
func (d *Bed) Close() error {
	var err error
	for i := len(d.ends) - 1; i >= 0; i-- {
		err = errors.Join(err, d.ends[i]())
	}
	return err
}

// on runs a case with the server of a side, which stands still before and after.
func (d *Bed) on(side string, c class, do func(t *target) (measure.Figures, error)) (measure.Figures, error) {
	if err := d.problems[side]; err != nil {
		return nil, err
	}
	t := d.targets[side+string(c)]
	if err := t.resume(); err != nil {
		return nil, errors.Join(err, t.pause())
	}
	f, err := do(t)
	return f, errors.Join(err, t.pause())
}

// warm puts each server under the load of all clients.
func (d *Bed) warm() error {
	for _, name := range slices.Sorted(maps.Keys(d.targets)) {
		t, span := d.targets[name], d.Warm
		if strings.HasPrefix(name, ours) {
			span = min(span, oursWarm)
		}
		fmt.Fprintf(os.Stderr, "%s: warming up %s for %v\n", d.Program, name, span)
		err := t.resume()
		if err == nil {
			err = d.load(t, name, span)
		}
		if err != nil { // what it cannot do shows in the rounds
			fmt.Fprintf(os.Stderr, "%s: warming up %s: %v\n", d.Program, name, err)
		}
		if err := t.pause(); err != nil {
			return err
		}
	}
	if d.java != nil {
		return d.java.Pause()
	}
	return nil
}

// load sends in every way for so long, then consumes in every way. A broker that
// is not warm may refuse some.
func (d *Bed) load(t *target, name string, span time.Duration) error {
	topic := t.class.topic()
	var ways []func() error
	for _, open := range []func() (measure.Publisher, error){
		func() (measure.Publisher, error) { return apache.NewSender(t.nameServer, "warm-"+name, topic) },
		func() (measure.Publisher, error) {
			return apache.NewTransactions(t.nameServer, "warm-tx-"+name, t.class.transactions())
		},
		func() (measure.Publisher, error) { return raw.NewWait(t.broker, topic, pipes) },
	} {
		ways = append(ways, func() error {
			p, err := open()
			if err != nil {
				return err
			}
			_, err = measure.Loop{Workers: pipes, For: span}.Run(func(worker int) (int, error) {
				n, err := p.Publish(worker)
				if err != nil {
					time.Sleep(refusedPause)
				}
				return n, nil
			})
			return errors.Join(err, p.Close())
		})
	}
	if d.java != nil && t.class == async {
		ways = append(ways, func() error {
			for end := time.Now().Add(span); time.Now().Before(end); {
				if _, err := d.java.Send(t.nameServer, topic, pipes, time.Until(end)); err != nil {
					time.Sleep(refusedPause)
				}
			}
			return nil
		})
	}
	errs := make([]error, len(ways))
	var all sync.WaitGroup
	for i, way := range ways {
		all.Go(func() { errs[i] = way() })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	warm, messages := t.class.topic()+"-warm", d.bench.Size(20_000, 2_000)
	_, err := d.drain(t, warm, messages)
	if d.java != nil && t.class == async && err == nil {
		err = d.warmJava(t, warm, messages)
	}
	return err
}

// warmJava lets the Java consumer drain a topic again and again.
func (d *Bed) warmJava(t *target, topic string, messages int) error {
	for range javaDrains {
		if _, err := d.java.Drain(t.nameServer, topic, messages); err != nil {
			return err
		}
	}
	return nil
}
