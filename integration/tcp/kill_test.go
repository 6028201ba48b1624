package tcp

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/drivertest/history"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

const (
	producers = 4
	// calmEvery: so many lives, one is long enough for positions to become durable.
	calmEvery = 12
	calm      = durableAfter + 500*time.Millisecond
	// stalled is how long the end may make no progress: everything that is still
	// to come is due within two seconds.
	stalled = 15 * time.Second
	// ciBudget bounds the kills of each mode; both run side by side.
	ciBudget = 50 * time.Second
)

// TestKill kills a server that is being used again and again. Some of the kills
// come before it is ready, in the middle of its recovery. Without a sync nothing
// is lost either: what the process has written, the kernel has.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, sync := range []string{"always", "never"} {
		t.Run(sync, func(t *testing.T) {
			t.Parallel()
			killLoop(t, sync)
		})
	}
}

// run is a server over many lives, with its clients.
type run struct {
	t    *testing.T
	l    *ledger
	at   place
	args []string
	r    *rand.Rand

	work, all       context.Context // the two ends of the clients
	rest, leave     context.CancelFunc
	clients         sync.WaitGroup
	kills, early    int
	aims            []answer // behind which kills come, each as often
	aimed           int      // of the kills
	slowest, starts time.Duration
}

// newRun makes a run whose clients end with the test at the latest.
func newRun(t *testing.T, r *rand.Rand, at place, args ...string) *run {
	u := &run{t: t, l: newLedger(), r: r, at: at, args: append(args,
		"-delay-levels", strings.Trim(fmt.Sprint(delays), "[]"), "-check-after", "150ms", "-check-every", "200ms", "-check-max", "1000")}
	u.all, u.leave = context.WithCancel(t.Context())
	u.work, u.rest = context.WithCancel(u.all)
	t.Cleanup(func() {
		u.leave()
		u.clients.Wait()
	})
	return u
}

func killLoop(t *testing.T, sync string) {
	kills := count(t, "TCPKILLS", 12, 120, 1000)
	r := seeded(t)
	u := newRun(t, r, place{dir: storeDir(t), addr: freeAddr(t, r)}, "-sync", sync)
	u.aims = aims(t)
	s := u.first(time.Millisecond*time.Duration(1+kills/100), producers)
	began := time.Now()
	for u.kills < kills && (!inCI() || torture() || time.Since(began) < ciBudget) {
		u.crash(s)
		s = u.start()
	}
	took := time.Since(began)
	s.ready()
	u.rest()
	u.drain()
	u.leave()
	u.clients.Wait()
	s.stop()
	u.last()
	if err := u.l.check(); err != nil {
		t.Error(err)
	}
	u.report(took)
}

// first starts the first life: the topic is made, then everybody comes.
func (u *run) first(pace time.Duration, producers int) *server {
	u.t.Helper()
	s := u.start()
	s.ready()
	u.admin(func(ctx context.Context, conn *rpc.Conn) {
		make := request(remoting.ReqCreateTopic, remoting.CreateTopic{
			Topic: topic, DefaultTopic: message.AutoCreateTopic, ReadQueues: queues, WriteQueues: queues, Perm: remoting.PermRead | remoting.PermWrite,
		})
		if _, err := done(ctx, conn, make); err != nil {
			u.t.Fatal(err)
		}
	})
	for i := range producers {
		p := newProducer(u.l, fmt.Sprintf("p%d", i), u.at.addr, fork(u.r), pace)
		u.clients.Go(func() { p.run(u.work, u.all) })
	}
	for i, lanes := range [][]*lane{
		{{topic: topic, queue: 0}, {topic: topic, queue: 1}, {topic: retryTopic}},
		{{topic: topic, queue: 2}, {topic: topic, queue: 3}},
	} {
		c := &consumer{l: u.l, name: fmt.Sprintf("c%d", i), addr: u.at.addr, r: fork(u.r), lanes: lanes}
		u.clients.Go(func() { c.run(u.all) })
	}
	return s
}

func (u *run) start() *server {
	u.t.Helper()
	return start(u.t, u.at, u.args...)
}

// crash lets a server work for a while, and kills it: at any time, or as soon as
// it has given an answer. What is answered too early is lost by a kill within
// milliseconds of the answer, which kills at any time seldom hit.
func (u *run) crash(s *server) {
	u.t.Helper()
	u.kills++
	began := time.Now()
	switch {
	case u.r.IntN(8) == 0:
		u.early++
		pause(u.all, between(u.r, 5*time.Millisecond, 60*time.Millisecond))
	case u.kills%calmEvery == 0:
		s.ready()
		pause(u.all, calm)
	default:
		s.ready()
		u.slowest = max(u.slowest, time.Since(began))
		u.starts += time.Since(began)
		pause(u.all, between(u.r, 20*time.Millisecond, 400*time.Millisecond))
		if aim := u.aims[u.r.IntN(len(u.aims))]; aim != toNothing {
			u.aimed++
			u.await(s, aim)
		}
	}
	killed := time.Now()
	s.kill()
	u.l.fault(killed)
}

// await waits for the next answer of a kind; while everybody sends it comes soon.
func (u *run) await(s *server, a answer) {
	u.t.Helper()
	select {
	case <-u.l.next(a):
	case <-s.done: // which its kill finds
	case <-time.After(patience):
		u.t.Fatalf("no answer within %v", patience)
	}
}

// admin uses a connection of its own.
func (u *run) admin(f func(ctx context.Context, conn *rpc.Conn)) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	conn := dialAgain(ctx, u.at.addr, nil)
	if conn == nil {
		u.t.Fatal("the server cannot be reached")
	}
	defer conn.Close()
	f(ctx, conn)
}

// drain waits until everything has come to its end: all messages and
// redeliveries have come, all half messages are decided, and the group stands at
// the ends of all lanes.
func (u *run) drain() {
	u.t.Helper()
	var pending, again, halves, behind int
	u.admin(func(ctx context.Context, conn *rpc.Conn) {
		before, since := 0, time.Now()
		for time.Since(since) < stalled {
			behind = 0
			for _, l := range lanes() {
				at, end, err := standing(ctx, conn, &l)
				if err != nil && ctx.Err() == nil {
					u.t.Fatal(err)
				}
				if max(at, 0) != end {
					behind++
				}
			}
			pending, again, halves = u.l.open()
			left := pending + again + halves + behind
			if left == 0 || !pause(ctx, 50*time.Millisecond) {
				return
			}
			if left != before {
				before, since = left, time.Now()
			}
		}
	})
	if pending+again+halves+behind > 0 {
		u.l.bad("at the end %d messages and %d redeliveries have not come, %d half messages are not decided, %d lanes are not at their ends",
			pending, again, halves, behind)
	}
}

// lanes are all lanes of the live group.
func lanes() []lane {
	all := []lane{{topic: retryTopic}}
	for q := range queues {
		all = append(all, lane{topic: topic, queue: q})
	}
	return all
}

// last looks at what is there after an end in order: every position, and every
// message from the first one on.
func (u *run) last() {
	u.t.Helper()
	s := u.start()
	s.ready()
	u.admin(func(ctx context.Context, conn *rpc.Conn) {
		for _, l := range lanes() {
			at, end, err := standing(ctx, conn, &l)
			if err != nil {
				u.t.Fatal(err)
			}
			u.l.found(u.l.now(), l.name(), at, end, u.l.reached(l.name()))
			if max(at, 0) != end {
				u.l.bad("%s was at its end and is at %d of %d after an end in order", l.name(), at, end)
			}
			if l.topic == topic {
				u.read(ctx, conn, l, end)
			}
		}
	})
	s.stop()
}

// read reads a queue from its beginning to its end, as a group of its own.
func (u *run) read(ctx context.Context, conn *rpc.Conn, l lane, end int64) {
	u.t.Helper()
	for l.next < end {
		a, err := done(ctx, conn, request(remoting.ReqPullMessage, remoting.PullMessage{
			Group: freshGroup, Topic: l.topic, QueueID: int32(l.queue), QueueOffset: l.next, MaxMessages: 256,
			SysFlag: remoting.PullSubscription, Subscription: "*",
		}))
		if err != nil {
			u.l.bad("read %s at %d: %v", l.name(), l.next, err)
			return
		}
		for rest := a.Body; len(rest) > 0; l.next++ {
			m, n, err := message.Decode(rest)
			if err != nil {
				u.l.bad("read %s at %d: %v", l.name(), l.next, err)
				return
			}
			rest = rest[n:]
			u.l.h.Settle(u.l.h.Deliver(freshGroup, m.Body, l.name(), m.QueueOffset), history.Acked)
		}
	}
}

// report tells what was done, and requires that it was enough.
func (u *run) report(took time.Duration) {
	sent, stored, delivered := u.l.h.Counts()
	l := u.l
	u.t.Logf("%d kills, %d of them early and %d behind an answer, %v each; a start takes %v, %v at the most; %d sent, %d answered, %d deliveries; "+
		"consumers went on where the server said %d times; %d half messages were decided because the server asked, %d contradictions were refused",
		u.kills, u.early, u.aimed, (took / time.Duration(u.kills)).Round(time.Millisecond),
		(u.starts / time.Duration(max(1, u.kills-u.early))).Round(time.Millisecond), u.slowest.Round(time.Millisecond),
		sent, stored, delivered, l.replays, l.checked, l.opposite)
	if stored < u.kills*4 || delivered < 2*stored || l.checked == 0 || l.opposite == 0 {
		u.t.Error("the run has tried too little")
	}
}
