package processes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
	// probeDelay is how long the role "clock" delays a probe.
	probeDelay = 300 * time.Millisecond
)

// clockArgs configure the role "clock": it sends and consumes as a worker does,
// and measures delays by monotonic time, until it is told "close" or killed.
// Beyond those of the worker its lines are
//
//	now UNIX               the wall clock at the start
//	delayed HOW MS         a delayed message came after so long
//	closed
type clockArgs struct {
	store
	Seed uint64
	Next [producers]int
}

func playClock(s *stage) error {
	var args clockArgs
	if err := s.parse(&args); err != nil {
		return err
	}
	b, err := args.open()
	if err != nil {
		return err
	}
	s.say("now %d", time.Now().Unix())
	gate := make(chan struct{})
	c := newConsumer(s, b.Connect("consumer"), "consumer", liveGroup, gate)
	if err := c.join(); err != nil {
		return err
	}
	if err := sayPositions(s, b.Connect("admin"), liveGroup); err != nil {
		return err
	}
	close(gate)
	s.say("ready")
	errs := make(chan error, 4)
	p := &producer{
		stage: s, conn: b.Connect("producer"), process: "p0", next: args.Next[0],
		rand: rand.New(rand.NewPCG(args.Seed, 0)), pace: 2 * time.Millisecond,
	}
	go func() { errs <- p.run() }()
	go func() { errs <- <-c.failed }()
	go func() { errs <- probe(s, b.Connect("probe")) }()
	select {
	case err := <-errs:
		return err
	case <-s.commands:
	}
	if err := b.Close(context.Background()); err != nil {
		return err
	}
	s.say("closed")
	return nil
}

// prober sends delayed messages, one after the other, and waits for each.
type prober struct {
	conn driver.Conn
	came chan arrived
}

type arrived struct {
	lane driver.Lane
	d    *driver.Delivery
}

const probeTopic = "probes"

func probe(s *stage, c driver.Conn) error {
	p := &prober{conn: c, came: make(chan arrived)}
	sub, err := c.Subscribe(context.Background(), driver.SubscribeSpec{Group: "probers", Topic: probeTopic}, p)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close(context.Background()) }()
	life := strconv.FormatInt(time.Now().UnixNano(), 36)
	for i := 0; ; i++ {
		if err := p.round(s, life+"-"+strconv.Itoa(i)); driver.CodeOf(err) == driver.Closed || driver.CodeOf(err) == driver.LaneLost {
			return <-make(chan error) // the store is being closed
		} else if err != nil {
			return err
		}
	}
}

// round measures one message that is sent with a due time, and the same when it
// is retried with a delay.
func (p *prober) round(s *stage, name string) error {
	// The time of the broker is known from a message that is not delayed: the
	// broker had it no sooner than this.
	began := time.Now()
	a, err := p.exchange(name, time.Time{})
	if err != nil {
		return err
	}
	if err := a.settle(driver.Ack); err != nil {
		return err
	}
	if a, err = p.exchange(name+"-due", a.d.StoredAt.Add(probeDelay)); err != nil {
		return err
	}
	s.say("delayed due %d", time.Since(began).Milliseconds())
	began = time.Now()
	if err := a.settle(driver.Retry); err != nil {
		return err
	}
	if a, err = p.await(name + "-due"); err != nil {
		return err
	}
	s.say("delayed retry %d", time.Since(began).Milliseconds())
	return a.settle(driver.Ack)
}

// exchange sends a message and waits for it.
func (p *prober) exchange(name string, due time.Time) (arrived, error) {
	m := &driver.Message{Topic: probeTopic, Body: []byte(name), DeliverAt: due}
	if r := p.conn.Send(context.Background(), driver.SendRequest{Messages: []*driver.Message{m}}); r[0].Err != nil {
		return arrived{}, r[0].Err
	}
	return p.await(name)
}

// await waits for a message and acknowledges those of earlier lives.
func (p *prober) await(name string) (arrived, error) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case a := <-p.came:
			if string(a.d.Body) == name {
				return a, nil
			}
			if err := a.settle(driver.Ack); err != nil {
				return a, err
			}
		case <-limit.C:
			return arrived{}, fmt.Errorf("message %s did not come within %v", name, patience)
		}
	}
}

func (a arrived) settle(o driver.Outcome) error {
	return a.lane.Settle(context.Background(), []driver.Settlement{{Delivery: a.d, Outcome: o, Delay: probeDelay}})
}

// Assigned implements [driver.LaneEvents].
func (p *prober) Assigned(l driver.Lane) {
	go func() {
		for {
			ds, err := l.Fetch(context.Background(), 1)
			if err != nil {
				return
			}
			for _, d := range ds {
				p.came <- arrived{l, d}
			}
		}
	}()
}

// Revoked implements [driver.LaneEvents].
func (p *prober) Revoked(context.Context, driver.Lane) {}

// Lost implements [driver.LaneEvents].
func (p *prober) Lost(driver.Lane) {}

// TestClock sets the wall clock wrong, while the process runs and between two
// lives of it, by up to ten years in both directions.
func TestClock(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	binary, clock := buildSkewed(t), newWrongClock(t)
	jumps := []time.Duration{0, time.Second, -time.Second, time.Hour, -time.Hour, day, -day, year, -year, 10 * year, -10 * year}
	args := clockArgs{store: store{Dir: storeDir(t)}}
	l := newLedger(t)
	how := command{binary: binary, env: []string{skewVariable + "=" + clock.path}}
	delays := map[string][]int{}
	note := func(line string) {
		var kind string
		var ms int
		if n, _ := fmt.Sscanf(line, "delayed %s %d", &kind, &ms); n == 2 {
			delays[kind] = append(delays[kind], ms)
			return
		}
		l.note(line)
	}
	for life := range count(t, "CLOCKLIVES", 4, 15, 100) {
		by := jumps[r.IntN(len(jumps))]
		clock.set(by)
		args.Seed, args.Next = r.Uint64(), l.next
		c := start(t, how, "clock", args)
		wantSkew(t, c, by, note)
		c.await("ready", note)
		for range 4 {
			if !c.work(between(r, 100*time.Millisecond, 500*time.Millisecond), note) {
				break
			}
			clock.set(jumps[r.IntN(len(jumps))])
		}
		if life%2 == 0 {
			c.crash(note)
		} else {
			c.tell("close")
			c.await("closed", note)
			c.end()
		}
		l.fault("restart with another clock")
	}
	clock.set(0)
	for _, role := range []string{"drain", "reader"} {
		for _, line := range start(t, how, role, workerArgs{store: args.store}).end() {
			note(line)
		}
	}
	if err := l.check(); err != nil {
		t.Error(err)
	}
	for _, kind := range []string{"due", "retry"} {
		judgeDelays(t, kind, delays[kind])
	}
}

// wantSkew makes sure that the clock of the child is wrong by so much.
func wantSkew(t *testing.T, c *child, by time.Duration, note func(string)) {
	t.Helper()
	sec, err := strconv.ParseInt(c.await("now", note)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Unix(sec, 0).Sub(time.Now().Add(by)).Abs(); off > time.Minute {
		t.Fatalf("the clock of the child should be wrong by %v, it is %v off that: the overlay does not work", by, off)
	}
}

// judgeDelays: none early, and none late by more than a loaded machine explains.
func judgeDelays(t *testing.T, kind string, ms []int) {
	t.Helper()
	if len(ms) == 0 {
		t.Errorf("no delay of kind %s was measured", kind)
		return
	}
	const late = 5 * time.Second
	for _, got := range ms {
		// Times are stored in milliseconds, cut off.
		if d := time.Duration(got) * time.Millisecond; d < probeDelay-time.Millisecond || d > probeDelay+late {
			t.Errorf("a delay (%s) of %v took %v of monotonic time while the wall clock jumped", kind, probeDelay, d)
		}
	}
	t.Logf("%d delays (%s) of %v took %v ms", len(ms), kind, probeDelay, ms)
}

// playHolder opens a store, says "ready" and holds it until it is killed.
func playHolder(s *stage) error {
	var args store
	if err := s.parse(&args); err != nil {
		return err
	}
	if _, err := args.open(); err != nil {
		return err
	}
	s.say("ready")
	return s.expect("end")
}

// TestClock_Retention starts a store ten years later, where everything in it
// is too old: one pass removes no more than it may, so there is time to notice.
func TestClock_Retention(t *testing.T) {
	t.Parallel()
	const (
		segments = 12
		perPass  = 3
		passes   = 10 * time.Second // from one to the next, as documented
	)
	binary, clock := buildSkewed(t), newWrongClock(t)
	args := store{Dir: storeDir(t), Keep: time.Hour, PerPass: perPass}
	fillSegments(t, args, segments)
	before := logFiles(t, args.Dir)
	if before < segments {
		t.Fatalf("the store has %d files of the log, want %d", before, segments)
	}
	clock.set(10 * year)
	how := command{binary: binary, env: []string{skewVariable + "=" + clock.path}}
	c := start(t, how, "holder", args)
	began := time.Now()
	c.await("ready", nil)
	// A pass comes at once and the second one after a while; what is left
	// between them is what one pass has spared.
	least, removed := before, time.Time{}
	for time.Since(began) < passes-time.Second {
		if n := logFiles(t, args.Dir); n < least {
			least, removed = n, time.Now()
		}
		if !removed.IsZero() && time.Since(removed) > 3*time.Second {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.crash(func(string) {})
	switch gone := before - least; {
	case gone == 0:
		t.Errorf("nothing was removed of a store that is ten years too old: the test proves nothing")
	case gone > perPass:
		t.Errorf("one pass has removed %d files of the log, at most %d are allowed", gone, perPass)
	default:
		t.Logf("of %d files one pass has removed %d", before, gone)
	}
}

// fillSegments sends until the log has so many files, and closes the store.
func fillSegments(t *testing.T, args store, n int) {
	t.Helper()
	b, err := args.open()
	if err != nil {
		t.Fatal(err)
	}
	c := b.Connect("filler")
	body := make([]byte, 60<<10)
	for logFiles(t, args.Dir) < n {
		if r := c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: topic, Body: body}}}); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// logFiles counts the files of the log, whose names are numbers.
func logFiles(t *testing.T, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "[0-9]*.log"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
