package processes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

const (
	// tick is how exactly the broker keeps times.
	tick = time.Millisecond
	// lateness is how late 99 of 100 messages may be on a machine that keeps up.
	lateness = tick + 200*time.Millisecond
)

// TestDelays sends messages with random delays on a virtual clock: none comes
// early, and each comes once.
func TestDelays(t *testing.T) {
	n := count(t, "DELAYS", 10_000, 10_000, 1_000_000)
	r := seeded(t)
	synctest.Test(t, func(t *testing.T) { delaysInMemory(t, r, n) })
}

func delaysInMemory(t *testing.T, r *rand.Rand, n int) {
	b, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	due := make([]time.Time, n)
	late := make(chan time.Duration, 2*n)
	m := &delayedMember{due: func(body string) time.Time {
		i, err := strconv.Atoi(body)
		if err != nil || i >= n || due[i].IsZero() {
			t.Errorf("message %q came twice, or was never sent", body)
			return time.Now()
		}
		was := due[i]
		due[i] = time.Time{}
		return was
	}, came: func(d time.Duration) { late <- d }}
	c := b.Connect("delays")
	// All of it is sent before the member joins, so that due needs no lock.
	for i := 0; i < n; {
		var batch []*driver.Message
		for ; i < n && len(batch) < 500; i++ {
			due[i] = time.Now().Add(time.Duration(r.Int64N(int64(time.Hour))))
			batch = append(batch, &driver.Message{Topic: topic, Body: []byte(strconv.Itoa(i)), DeliverAt: due[i]})
		}
		for _, res := range c.Send(t.Context(), driver.SendRequest{Messages: batch}) {
			if res.Err != nil {
				t.Fatal(res.Err)
			}
		}
	}
	if _, err := c.Subscribe(t.Context(), driver.SubscribeSpec{Group: "delays", Topic: topic}, m); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour + 2*time.Second)
	synctest.Wait()
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(late)
	judgeLateness(t, n, slices.Collect(func(yield func(time.Duration) bool) {
		for d := range late {
			if !yield(d) {
				return
			}
		}
	}), lateness)
}

// judgeLateness requires n messages, none early, and 99 of 100 within most.
func judgeLateness(t *testing.T, n int, late []time.Duration, most time.Duration) {
	t.Helper()
	if len(late) != n {
		t.Fatalf("%d delayed messages came, want %d", len(late), n)
	}
	slices.Sort(late)
	p99 := late[min(n-1, n*99/100)]
	if late[0] < -tick {
		t.Errorf("a message came %v early", -late[0])
	}
	if p99 > most {
		t.Errorf("99 of 100 messages came up to %v late, want %v", p99, most)
	}
	t.Logf("%d delayed messages: earliest %v, median %v, 99 of 100 within %v, latest %v", n, late[0], late[n/2], p99, late[n-1])
}

// delayedMember reads delayed messages, one lane after the other.
type delayedMember struct {
	due  func(body string) time.Time
	came func(late time.Duration)
}

// Assigned implements [driver.LaneEvents].
func (m *delayedMember) Assigned(l driver.Lane) {
	go func() {
		for {
			ds, err := l.Fetch(context.Background(), 64)
			if err != nil {
				return
			}
			now := time.Now()
			settlements := make([]driver.Settlement, len(ds))
			for i, d := range ds {
				settlements[i] = driver.Settlement{Delivery: d, Outcome: driver.Ack}
				m.came(now.Sub(m.due(string(d.Body))))
			}
			if err := l.Settle(context.Background(), settlements); err != nil {
				return
			}
		}
	}()
}

// Revoked implements [driver.LaneEvents].
func (m *delayedMember) Revoked(context.Context, driver.Lane) {}

// Lost implements [driver.LaneEvents].
func (m *delayedMember) Lost(driver.Lane) {}

// delayArgs configure the role "delay": it sends messages with delays up to
// Span and consumes what becomes due. Its lines are
//
//	ready UNIXNANO
//	sent N DUE             stored, due at a time in nanoseconds
//	came N NOW
type delayArgs struct {
	store
	Seed uint64
	From int           // number of the first message
	Send int           // how many
	Span time.Duration // of the delays
}

func playDelays(s *stage) error {
	var args delayArgs
	if err := s.parse(&args); err != nil {
		return err
	}
	b, err := args.open()
	if err != nil {
		return err
	}
	c := b.Connect("delays")
	m := &delayedMember{due: func(body string) time.Time {
		s.say("came %s %d", body, time.Now().UnixNano())
		return time.Time{}
	}, came: func(time.Duration) {}}
	if _, err := c.Subscribe(context.Background(), driver.SubscribeSpec{Group: "delays", Topic: topic}, m); err != nil {
		return err
	}
	s.say("ready %d", time.Now().UnixNano())
	r := rand.New(rand.NewPCG(args.Seed, 0))
	for i := range args.Send {
		due := time.Now().Add(time.Duration(r.Int64N(int64(args.Span))))
		msg := &driver.Message{Topic: topic, Body: []byte(strconv.Itoa(args.From + i)), DeliverAt: due}
		if res := c.Send(context.Background(), driver.SendRequest{Messages: []*driver.Message{msg}}); res[0].Err != nil {
			return res[0].Err
		}
		s.say("sent %d %d", args.From+i, due.UnixNano())
		time.Sleep(time.Millisecond)
	}
	<-s.commands
	return nil
}

// delayLog is what lives of the role "delay" have said.
type delayLog struct {
	t     *testing.T
	due   map[int]int64
	came  map[int]int64 // first arrival
	ups   [][2]int64    // from ready to the kill, in nanoseconds
	extra int
}

func (l *delayLog) note(line string) {
	var word string
	var n int
	var at int64
	if k, err := fmt.Sscanf(line, "%s %d %d", &word, &n, &at); k != 3 {
		l.t.Fatalf("line %q: %v", line, err)
	}
	if word == "sent" {
		l.due[n] = at
		return
	}
	if _, ok := l.came[n]; ok {
		l.extra++ // its acknowledgement was less than a second old
		return
	}
	l.came[n] = at
}

// run starts a life that sends so many messages.
func (l *delayLog) run(args delayArgs) *child {
	c := start(l.t, command{}, "delay", args)
	at, err := strconv.ParseInt(c.await("ready", l.note)[0], 10, 64)
	if err != nil {
		l.t.Fatal(err)
	}
	l.ups = append(l.ups, [2]int64{at, 1<<63 - 1})
	return c
}

// late is how late message n came, not counting the time in which no process
// was up to deliver it.
func (l *delayLog) late(n int) time.Duration {
	due := l.due[n]
	for _, up := range l.ups {
		if up[1] < due || up[1] < l.came[n] {
			continue // this life ended without it
		}
		return time.Duration(l.came[n] - max(due, up[0]))
	}
	return 0
}

// TestDelaysKill kills a process with delayed messages again and again: each
// one that was answered comes, and none comes early.
func TestDelaysKill(t *testing.T) {
	t.Parallel()
	kills := count(t, "DELAYKILLS", 4, 20, 200)
	r := seeded(t)
	l := &delayLog{t: t, due: map[int]int64{}, came: map[int]int64{}}
	args := delayArgs{store: store{Dir: storeDir(t)}, Send: 1000, Span: 2 * time.Second}
	for i := range kills {
		args.Seed, args.From = r.Uint64(), i*args.Send
		c := l.run(args)
		c.work(between(r, 50*time.Millisecond, 800*time.Millisecond), l.note)
		c.crash(l.note)
		l.ups[i][1] = time.Now().UnixNano()
	}
	args.Send = 0
	c := l.run(args)
	for deadline := time.Now().Add(args.Span + patience); l.missing() > 0 && time.Now().Before(deadline); {
		c.work(50*time.Millisecond, l.note)
	}
	c.crash(l.note)
	var late []time.Duration
	for n := range l.due {
		if l.came[n] != 0 {
			late = append(late, l.late(n))
			if early := time.Duration(l.due[n] - l.came[n]); early > tick {
				t.Errorf("message %d came %v early", n, early)
			}
		}
	}
	t.Logf("%d kills, %d messages came more than once", kills, l.extra)
	// The processors are shared, and this clock is the real one.
	judgeLateness(t, len(l.due), late, 10*lateness)
}

// missing counts the messages that were answered and have not come.
func (l *delayLog) missing() int {
	n := 0
	for i := range l.due {
		if l.came[i] == 0 {
			n++
		}
	}
	return n
}
