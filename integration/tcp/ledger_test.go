package tcp

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/drivertest/history"
)

const (
	topic      = "work"
	queues     = 4
	liveGroup  = "live"
	freshGroup = "fresh"
	retryTopic = "%RETRY%" + liveGroup
)

// durableAfter is when a committed position must have become durable: the server
// promises a second, and answers late on a busy machine.
const durableAfter = 2500 * time.Millisecond

// ledger notes what clients learn over all lives of a server. Beyond the history
// it knows the decisions of half messages, and the positions that were committed.
type ledger struct {
	h history.History

	mu       sync.Mutex
	life     int
	stage    string // of the life
	wrong    []error
	halves   map[history.Value]*half
	decided  map[history.Value]int               // the life in which that was certain
	last     map[history.Value]*history.Delivery // to the live group
	again    map[history.Value]*history.Delivery // the last one that was given back
	lanes    map[string]*positions
	placed   map[string]int64         // offset behind the last message that was answered, by lane
	replays  int                      // consumers that began where the server said
	checked  int                      // halves that were decided because the server asked
	opposite int                      // decisions that were refused, as they had to be
	dials    int                      // connections of clients that stay
	awaited  map[answer]chan struct{} // closed by the next answer of the kind

	sends, fresh []time.Duration // how long sends and new clients have waited
}

// half is a half message whose decision is not certain yet.
type half struct {
	pos   int64
	tx    string
	tried bool // somebody decided it and heard no answer
}

// answer is a kind of what a server promises.
type answer int

const (
	toNothing answer = iota
	toSend
	toDecision
)

// positions are those of the live group on one lane.
type positions struct {
	tried     int64 // the highest that was ever sent
	durable   int64 // what must have survived
	committed []commit
}

// commit is a position that was confirmed in this life.
type commit struct {
	offset int64
	at     time.Time
}

func newLedger() *ledger {
	return &ledger{
		halves: map[history.Value]*half{}, decided: map[history.Value]int{},
		last: map[history.Value]*history.Delivery{}, again: map[history.Value]*history.Delivery{},
		lanes: map[string]*positions{}, placed: map[string]int64{}, awaited: map[answer]chan struct{}{},
	}
}

func laneOf(topic string, queue int) string { return fmt.Sprintf("%s/%d", topic, queue) }

// bad notes what no check of the history would find.
func (l *ledger) bad(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) < 20 {
		l.wrong = append(l.wrong, fmt.Errorf("life %d%s: "+format, append([]any{l.life, l.stage}, args...)...))
	}
}

// enter names what happens from now on.
func (l *ledger) enter(stage string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stage = ", " + stage
}

// now is the number of this life.
func (l *ledger) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life
}

// fault ends a life: killed is when the signal was sent.
func (l *ledger) fault(killed time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.h.Fault("kill -9")
	l.life++
	for _, p := range l.lanes {
		for _, c := range p.committed {
			if killed.Sub(c.at) >= durableAfter {
				p.durable = max(p.durable, c.offset)
			}
		}
		p.committed = nil
	}
}

// took notes how long something has taken.
func (l *ledger) took(what *[]time.Duration, began time.Time) {
	d := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	*what = append(*what, d)
}

// times answers the times that were noted since the last call.
func (l *ledger) times() (sends, fresh []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sends, fresh = l.sends, l.fresh
	l.sends, l.fresh = nil, nil
	return sends, fresh
}

// next is closed when the next answer of a kind has come.
func (l *ledger) next(a answer) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.awaited[a] == nil {
		l.awaited[a] = make(chan struct{})
	}
	return l.awaited[a]
}

// came wakes who waits for an answer of a kind.
func (l *ledger) came(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.awaited[a]; c != nil {
		close(c)
		delete(l.awaited, a)
	}
}

// connected counts a connection of a client that stays.
func (l *ledger) connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dials++
}

// stored notes where the broker said that a message lies.
func (l *ledger) stored(v history.Value, queue int, offset int64) {
	defer l.came(toSend)
	lane := laneOf(topic, queue)
	l.h.Answer(v, history.OK)
	l.h.Stored(v, lane, offset)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.placed[lane] = max(l.placed[lane], offset+1)
}

// prepared notes a half message, unless it was asked for and decided meanwhile.
func (l *ledger) prepared(v history.Value, h half) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, decided := l.decided[v]; !decided {
		l.halves[v] = &h
	}
}

// asked notes that the server asks for a decision. One that was answered is for
// ever; in the same life the question may have crossed it.
func (l *ledger) asked(v history.Value, life int) {
	l.mu.Lock()
	decided, ok := l.decided[v]
	l.mu.Unlock()
	if ok && decided < life {
		l.bad("half message %v was decided in life %d, and the server asks for it", v, decided)
	}
}

// ended notes that a half message is decided for certain.
func (l *ledger) ended(v history.Value, checked bool) {
	defer l.came(toDecision) // once mu is free
	l.h.Decide(v, commits(v), history.OK)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.halves, v)
	if _, decided := l.decided[v]; !decided {
		l.decided[v] = l.life
	}
	if checked {
		l.checked++
	}
}

// lane answers the positions on a lane; mu is held.
func (l *ledger) lane(name string) *positions {
	p := l.lanes[name]
	if p == nil {
		p = &positions{}
		l.lanes[name] = p
	}
	return p
}

// trying notes that a position is about to be committed.
func (l *ledger) trying(lane string, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.lane(lane)
	p.tried = max(p.tried, offset)
}

// committed notes that the server confirmed a position in a life.
func (l *ledger) committed(life int, lane string, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if life == l.life {
		p := l.lane(lane)
		p.committed = append(p.committed, commit{offset, time.Now()})
	}
}

// reached is the offset behind the last message of a lane that was answered.
func (l *ledger) reached(lane string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.placed[lane]
}

// found notes what the server says in a life of the position of the live
// group, -1 for none, and of the end of a lane, which had reached placed before.
// Of a lane one goroutine may note it at a time.
func (l *ledger) found(life int, lane string, position, end, placed int64) {
	l.mu.Lock()
	p := *l.lane(lane)
	stale := life != l.life // it was said before a kill that is noted already
	if !stale {
		l.h.Position(liveGroup, lane, max(position, 0), end, false)
	}
	l.mu.Unlock()
	if stale {
		return
	}
	if position < 0 && p.durable > 0 {
		l.bad("%s has no position, and %d was durable", lane, p.durable)
	}
	if position > p.tried {
		l.bad("%s is at %d, and nobody ever went beyond %d", lane, position, p.tried)
	}
	if max(position, 0) < p.durable {
		l.bad("%s went back to %d, and %d was durable", lane, position, p.durable)
	}
	if end < placed {
		l.bad("%s ends at %d, and a message was stored at %d", lane, end, placed-1)
	}
}

// arrived notes a delivery to the live group.
func (l *ledger) arrived(body []byte, lane string, offset int64) *history.Delivery {
	d := l.h.Deliver(liveGroup, body, lane, offset)
	if v, err := history.Parse(body); err == nil {
		l.mu.Lock()
		l.last[v] = d
		l.mu.Unlock()
	}
	return d
}

// givenBack notes how sending a message back has ended.
func (l *ledger) givenBack(v history.Value, d *history.Delivery, ending history.Ending) {
	l.h.Settle(d, ending)
	if ending != history.Again {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again[v] = d // it may have come already
}

// open is what is still to come: messages, redeliveries and decisions.
func (l *ledger) open() (pending, again, halves int) {
	pending = len(l.h.Pending(liveGroup))
	l.mu.Lock()
	defer l.mu.Unlock()
	for v, d := range l.again {
		if l.last[v] == d {
			again++
		}
	}
	return pending, again, len(l.halves)
}

// check judges the whole run, once everything was drained and read anew.
func (l *ledger) check() error {
	verdict := l.h.Check(history.Rules{
		Groups: []string{liveGroup}, Final: []string{freshGroup}, SharedLanes: true,
		Tick: 50 * time.Millisecond, // of the clock by which messages become due
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(append(l.wrong, verdict.Err())...)
}
