// Package world drives a broker through lives, crashes and faults, keeps what
// was promised on the way, and checks what comes back. It runs in a bubble of
// testing/synctest: time passes only when the world lets it.
package world

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/history"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const (
	// Group is the consumer group of every topic.
	Group = "group"
	// producers is the group of all half messages.
	producers = "producers"
	// tick is how early, lateness how late a delayed message may be.
	tick, lateness = time.Millisecond, 2 * time.Second
	maxBody        = 16 << 10
	segmentBytes   = maxBody + 64<<10
	// patience is how long a fetch waits. It is no whole number of
	// milliseconds, so that the world never acts at the very instant when
	// something is due.
	patience = 10*time.Millisecond + 300*time.Nanosecond
)

// Config is a broker with the smallest segments that are legal.
func Config() embedded.Config {
	return embedded.Config{MaxBody: maxBody, MaxBatch: 128, Queues: 2, SegmentBytes: segmentBytes}
}

// World is a store through all its lives. It is for one goroutine.
type World struct {
	testing.TB
	// About says what the test is doing, for whoever reads a failure.
	About func() string
	// Lenient: operations may fail, with a typed error, because the test
	// injects faults.
	Lenient bool
	// Plain leaves out what may differ between runs that are otherwise equal:
	// queues that are chosen in turn, deliveries that are left open, and
	// redeliveries in place.
	Plain bool
	// Split sends each message of a batch by itself.
	Split bool
	// Dir is a directory to use in place of the disk, for runs without crashes.
	Dir    string
	cfg    embedded.Config
	disk   *Disk
	broker *embedded.Broker
	conn   driver.Conn

	topics     map[string]*topic
	halves     []*half
	settings   map[string][]string // what may be kept, see keep; the last one is sure if it is alone
	consumers  map[string]*consumer
	internal   map[string][]string // what was seen in a topic of the broker's own, by lane
	counter    int
	reads      int
	generation int
	acks       int
	trace      []string
	results    []string
	failed     bool // the store was seen to have failed
}

// topic is one life of a topic, from its creation to its deletion.
type topic struct {
	name   string
	gen    int
	queues int  // 0 if not known yet
	sure   bool // else it may not exist
	dying  bool // its deletion has no certain answer
	h      *history.History
	values map[string]history.Value // by id
	keys   map[history.Value]string
	due    time.Time       // the last one of a delayed message
	sealed map[string]bool // places whose settlement is durable
	open   map[string]bool // settled, perhaps not durable yet
}

type half struct {
	id, topic string
	key       string
	value     history.Value
	handle    driver.Half
	prepared  bool // its Prepare was answered
	state     halfState
	tried     driver.Decision // the last one without an answer, if unsure
	in        *topic          // where it was committed to
}

type halfState uint8

const (
	undecided halfState = iota
	committed
	rolledBack
	unsure
)

// New makes a world with an empty disk.
func New(tb testing.TB, cfg embedded.Config) *World {
	w := &World{
		TB: tb, cfg: cfg, disk: NewDisk(vfs.NewMem()), topics: map[string]*topic{}, consumers: map[string]*consumer{},
		internal: map[string][]string{}, settings: map[string][]string{}, About: func() string { return "" },
	}
	tb.Cleanup(w.End) // a test that failed leaves a broker
	return w
}

// Disk is the disk of the present life.
func (w *World) Disk() *Disk { return w.disk }

// Conn is the client of the present life.
func (w *World) Conn() driver.Conn { return w.conn }

// Acknowledged is how many operations that have to be durable were answered
// with success.
func (w *World) Acknowledged() int { return w.acks }

// Results lists what operations answered, for runs that must be equal.
func (w *World) Results() []string { return w.results }

// Failf ends the test, with all that is needed to see why.
func (w *World) Failf(format string, args ...any) {
	w.Helper()
	where, dead := w.disk.Dead()
	if !dead {
		where = "no"
	}
	w.Fatalf("%s\n%s\npower cut: %s\n%s", fmt.Sprintf(format, args...), w.About(), where, strings.Join(w.trace, "\n"))
}

func (w *World) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// Open starts a life. It reports false if the power went meanwhile.
func (w *World) Open() bool {
	w.Helper()
	err := w.TryOpen()
	if err == nil {
		return true
	}
	_ = w.typed("open", err)
	if _, dead := w.disk.Dead(); dead || w.Lenient {
		return false
	}
	w.Failf("open: %v", err)
	return false
}

// TryOpen is Open for tests that expect it to fail.
func (w *World) TryOpen() error {
	cfg := w.cfg
	if w.Dir == "" {
		cfg.FS = w.disk.FS()
	}
	w.failed = false
	b, err := embedded.Open(w.Dir, cfg)
	if err != nil {
		w.note("open: %v", err)
		return err
	}
	w.note("open")
	w.broker, w.conn = b, b.Connect("client")
	return nil
}

// End stops the broker, however it is.
func (w *World) End() {
	if w.broker == nil {
		return
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.broker.Close(gone)
	w.broker, w.conn = nil, nil
	w.consumers = map[string]*consumer{}
	for _, t := range w.topics {
		t.h.Fault("end of a life")
		t.open = map[string]bool{}
	}
}

// Crash ends the life as a power cut does, and puts what is left on a new disk.
func (w *World) Crash(mode Survival, rng *rand.Rand) *vfs.Mem {
	m := w.disk.Crash(mode, rng)
	w.End()
	where, _ := w.disk.Dead()
	w.note("power cut: %s; %s survives", where, mode.Name)
	w.disk = NewDisk(m)
	return m
}

// Replug puts the same content on a new disk, as if the program had been
// started again.
func (w *World) Replug() {
	w.End()
	w.disk = NewDisk(w.disk.Mem)
}

// Close ends the life in order.
func (w *World) Close() {
	w.Helper()
	if err := w.broker.Close(context.Background()); err != nil {
		if _, dead := w.disk.Dead(); !dead && !w.Lenient {
			w.Failf("close: %v", err)
		}
		w.End()
		return
	}
	w.note("close")
	w.broker, w.conn = nil, nil
	w.consumers = map[string]*consumer{}
	w.sealAll()
}

// Shut is Close, if the store is open.
func (w *World) Shut() {
	if w.broker != nil {
		w.Close()
	}
}

// alive reports whether the life goes on.
func (w *World) alive() bool {
	_, dead := w.disk.Dead()
	return !dead && !w.failed
}

// Alive reports whether the power is on and the store takes writes.
func (w *World) Alive() bool { return w.alive() }

// idle lets everything in the background come to rest.
func (w *World) idle() { synctest.Wait() }

// pass lets time pass.
func (w *World) pass(d time.Duration) {
	time.Sleep(d + 300*time.Nanosecond)
	w.idle()
}

// typed requires the one error type of the seam.
func (w *World) typed(what string, err error) *driver.Error {
	w.Helper()
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		w.Failf("%s: the error %v (%T) is no *driver.Error", what, err, err)
	}
	return e
}

// outcome is what an error says about the work. Errors that are not among the
// allowed codes are failures while nothing is broken.
func (w *World) outcome(what string, err error, allowed ...driver.Code) history.Outcome {
	w.Helper()
	w.note("  %s: %v", what, errText(err))
	if err == nil {
		return history.OK
	}
	e := w.typed(what, err)
	w.idle()
	if slices.Contains(allowed, e.Code) {
		return history.Failed
	}
	if _, dead := w.disk.Dead(); !dead && !w.Lenient {
		w.Failf("%s: %v", what, err)
	}
	if e.MaybeDone {
		return history.Unknown
	}
	return history.Failed
}

func errText(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// topicFor answers the model of a topic that is about to be used, made if need
// be; nil if its state cannot be known now.
func (w *World) topicFor(name string) *topic {
	t := w.topics[name]
	if t == nil {
		w.generation++
		t = &topic{
			name: name, gen: w.generation, h: &history.History{}, values: map[string]history.Value{}, keys: map[history.Value]string{},
			sealed: map[string]bool{}, open: map[string]bool{},
		}
		w.topics[name] = t
	}
	if t.dying {
		return nil
	}
	return t
}

// used notes that something was done to a topic that may have made it.
func (t *topic) used(o history.Outcome) {
	if o == history.OK {
		t.sure = true
	}
}

// sealAll notes that what was settled so far is durable. Where faults are
// injected nobody can know.
func (w *World) sealAll() {
	for _, t := range w.topics {
		w.seal(t)
	}
}

func (w *World) seal(t *topic) {
	if w.Lenient {
		t.h.Fault("perhaps not stored")
		return
	}
	for at := range t.open {
		t.sealed[at] = true
	}
	t.open = map[string]bool{}
}

func (w *World) value(t *topic) history.Value {
	w.counter++
	return history.Value{Process: fmt.Sprintf("%s.%d", t.name, t.gen), Counter: w.counter}
}

func (w *World) ctx() context.Context { return context.Background() }

// LogTrace logs what happened.
func (w *World) LogTrace() { w.Log(strings.Join(w.trace, "\n")) }

// Wait lets time pass.
func (w *World) Wait(d time.Duration) { w.pass(d) }

// Undecided answers the half messages that nobody has decided.
func (w *World) Undecided() []driver.Half {
	var out []driver.Half
	for _, h := range w.halves {
		if h.state == undecided {
			out = append(out, h.handle)
		}
	}
	return out
}
