package embedded_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	mixedGroup = "g"
	mixedRetry = "%RETRY%g"
)

// A group with members in this process and clients elsewhere, which divide the
// queues by themselves: whatever they do, nothing is lost, no position goes
// beyond what was consumed, and at rest each lane has one who consumes it. If
// all follow the rules, nothing is consumed twice either.
func TestStore_MixedGroups(t *testing.T) {
	t.Parallel()
	for _, topics := range []int{1, 3} {
		for _, wild := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d topics, wild %v", topics, wild), func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(rt *rapid.T) {
					seed := rapid.Uint64().Draw(rt, "seed")
					steps := rapid.IntRange(1, 40).Draw(rt, "steps")
					synctest.Test(t, func(t *testing.T) {
						m := newMixed(t, seed, topics, wild)
						for range steps {
							m.step()
							m.check()
						}
						m.rest()
						m.drain()
						if t.Failed() {
							t.Logf("SEED=%d steps=%d\n%s", seed, steps, strings.Join(m.trace, "\n"))
						}
					})
				})
			})
		}
	}
}

// mixed is the model of the group.
type mixed struct {
	*kit
	r      *rand.Rand
	wild   bool
	topics []string
	queues map[string]int
	here   []*resident
	there  []*stranger
	// changed: clients elsewhere are to be told. It is set by whoever leaves.
	changed chan struct{}

	sent     int
	settled  map[string]bool          // bodies that are done with
	consumed map[string]map[int64]int // by lane and offset: how often
	open     []open
	trace    []string
}

// open is a delivery to a member here that it has not settled yet.
type open struct {
	id string
	l  driver.Lane
	d  *driver.Delivery
}

// resident is a client in this process.
type resident struct {
	conn driver.Conn
	id   string
	subs []*consumer
}

// stranger is a client elsewhere.
type stranger struct {
	id    string
	lanes map[string]int64 // offsets to go on with, below zero before the first read
	late  time.Time        // when it divides anew; zero for no need
}

func newMixed(t *testing.T, seed uint64, topics int, wild bool) *mixed {
	m := &mixed{
		kit: newKit(t, embedded.Config{Queues: 1, CheckAfter: time.Hour}), r: rand.New(rand.NewPCG(seed, 3)), wild: wild,
		queues: map[string]int{}, settled: map[string]bool{}, consumed: map[string]map[int64]int{}, changed: make(chan struct{}, 1),
	}
	for i := range topics {
		name := fmt.Sprint("t", i)
		m.topics = append(m.topics, name)
		m.grow(name, 1+m.r.IntN(6))
	}
	m.listen()
	return m
}

func (m *mixed) listen() {
	m.must("retry", m.store().EnsureRetry(m.Context(), mixedGroup, m.topics))
	m.queues[mixedRetry] = len(m.topics)
	m.store().OnMembers(func(string) { m.change() })
}

func (m *mixed) change() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func (m *mixed) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%s ", time.Now().Format("04:05.000"))+fmt.Sprintf(format, args...))
}

func (m *mixed) grow(topic string, queues int) {
	m.queues[topic] = max(m.queues[topic], queues)
	m.topic(topic, queues)
	m.change()
}

// step does one thing, and lets clients elsewhere hear of it.
func (m *mixed) step() {
	switch n := m.r.IntN(20); {
	case n < 5:
		m.send(1 + m.r.IntN(8))
	case n < 8:
		m.work(true)
	case n < 11:
		m.poll(true)
	case n < 13:
		m.arrive()
	case n < 14:
		m.part()
	case n < 16:
		m.meet()
	case n < 17:
		m.leave()
	case n < 18:
		if topic := m.topics[m.r.IntN(len(m.topics))]; m.queues[topic] < 9 {
			m.note("%s grows", topic)
			m.grow(topic, m.queues[topic]+1+m.r.IntN(2))
		}
	case n < 19:
		time.Sleep(time.Duration(m.r.IntN(1500)) * time.Millisecond)
	case m.wild:
		m.restart()
	}
	m.tell()
}

func (m *mixed) send(n int) {
	for range n {
		topic := m.topics[m.r.IntN(len(m.topics))]
		m.sent++
		m.put(embedded.Put{Topic: topic, Queue: -1, Body: fmt.Appendf(nil, "m%d", m.sent)})
	}
	m.note("%d sent", m.sent)
}

// mark notes that the message at an offset of a lane was consumed.
func (m *mixed) mark(who, lane string, offset int64, body string, done bool) {
	if m.consumed[lane] == nil {
		m.consumed[lane] = map[int64]int{}
	}
	m.consumed[lane][offset]++
	if done {
		m.settled[body] = true
	}
	m.note("%s consumes %s %s/%d, done %v", who, body, lane, offset, done)
	if n := m.consumed[lane][offset]; n > 1 && !m.wild {
		m.Errorf("%s/%d was consumed %d times", lane, offset, n)
	}
}

// work lets the members here consume something of each of their lanes.
func (m *mixed) work(fail bool) {
	synctest.Wait()
	if !fail {
		for _, o := range m.open {
			m.mark(o.id, o.l.Name(), o.d.Offset, string(o.d.Body), true)
			_ = o.l.Settle(m.Context(), []driver.Settlement{{Delivery: o.d, Outcome: driver.Ack}}) // it may have lost the lane
		}
		m.open = nil
	}
	for _, c := range m.here {
		for _, sub := range c.subs {
			for _, l := range sorted(sub.owned()) {
				ctx, cancel := context.WithTimeout(m.Context(), time.Millisecond)
				ds, err := l.Fetch(ctx, 1+m.r.IntN(5))
				cancel()
				if err != nil && driver.CodeOf(err) != driver.LaneLost {
					m.Errorf("fetch: %v", err)
				}
				var ss []driver.Settlement
				for _, d := range ds {
					s := driver.Settlement{Delivery: d, Outcome: driver.Ack}
					if fail && m.r.IntN(6) == 0 {
						s.Outcome, s.Delay = driver.Retry, time.Duration(m.r.IntN(3))*time.Second
					}
					if m.wild && fail && m.r.IntN(8) == 0 {
						m.open = append(m.open, open{c.id, l, d})
						continue
					}
					ss = append(ss, s)
					m.mark(c.id, l.Name(), d.Offset, string(d.Body), s.Outcome == driver.Ack)
				}
				if err := l.Settle(m.Context(), ss); err != nil && driver.CodeOf(err) != driver.LaneLost {
					m.Errorf("settle: %v", err)
				}
			}
		}
	}
}

func sorted(lanes []driver.Lane) []driver.Lane {
	slices.SortFunc(lanes, func(a, b driver.Lane) int { return strings.Compare(a.Name(), b.Name()) })
	return lanes
}

// split takes the name of a lane apart.
func split(lane string) (topic string, queue int) {
	topic, n, _ := strings.Cut(lane, "/")
	fmt.Sscan(n, &queue)
	return topic, queue
}

// poll lets clients elsewhere consume what they think is theirs. A server
// answers no pull from a lane that is held here.
func (m *mixed) poll(fail bool) {
	synctest.Wait()
	for _, x := range m.there {
		for _, lane := range slices.Sorted(maps.Keys(x.lanes)) {
			topic, n := split(lane)
			c := m.store().Cursor(mixedGroup, topic, n)
			if c.Held() {
				continue
			}
			if x.lanes[lane] < 0 {
				x.lanes[lane], _ = c.Position()
			}
			b, f, err := m.queue(topic, n).Read(x.lanes[lane], embedded.Selection{Messages: 1 + m.r.IntN(5), Bytes: 1 << 20}, nil)
			m.must("read", err)
			for _, s := range records(m, b) {
				again := fail && m.r.IntN(6) == 0
				m.mark(x.id, lane, s.QueueOffset, string(s.Body), !again)
				if again {
					of := topic
					if origin := message.Property(s.Properties, message.RetryTopic); origin != "" {
						of = origin
					}
					m.put(embedded.Put{
						Topic: mixedRetry, Group: mixedGroup, RetryOf: of, Body: slices.Clone(s.Body), Properties: props(message.RetryTopic, of),
						DueMs: m.store().NowMs() + int64(m.r.IntN(3))*1000,
					})
				}
			}
			x.lanes[lane] = f.Next
			if m.r.IntN(4) == 0 || !fail {
				c.Commit(f.Next)
			}
		}
	}
}

// arrive lets a client join here; ids may be shared by several, but not with
// one elsewhere.
func (m *mixed) arrive() {
	id := fmt.Sprint("c", m.r.IntN(8))
	if len(m.here) == 4 || slices.ContainsFunc(m.there, func(x *stranger) bool { return x.id == id }) {
		return
	}
	m.note("%s arrives here", id)
	r := &resident{conn: m.b.Connect(id), id: id}
	for _, topic := range m.topics {
		r.subs = append(r.subs, m.join(r.conn, spec(mixedGroup, topic)))
	}
	m.here = append(m.here, r)
}

func (m *mixed) part() {
	if len(m.here) == 0 {
		return
	}
	i := m.r.IntN(len(m.here))
	m.note("%s leaves here", m.here[i].id)
	m.must("leave", m.here[i].conn.Close(m.Context()))
	m.here = slices.Delete(m.here, i, i+1)
}

// meet lets a client join elsewhere.
func (m *mixed) meet() {
	id := fmt.Sprint("c", m.r.IntN(8))
	taken := slices.ContainsFunc(m.there, func(x *stranger) bool { return x.id == id }) ||
		slices.ContainsFunc(m.here, func(r *resident) bool { return r.id == id })
	if len(m.there) == 4 || taken {
		return
	}
	m.note("%s joins elsewhere", id)
	m.there = append(m.there, &stranger{id: id, lanes: map[string]int64{}})
	m.store().Join(mixedGroup, id, m.topics)
	m.change()
}

// leave ends a client elsewhere, perhaps without a word.
func (m *mixed) leave() {
	if len(m.there) == 0 {
		return
	}
	i := m.r.IntN(len(m.there))
	x := m.there[i]
	if !m.wild || m.r.IntN(2) == 0 {
		m.commit(x)
	}
	m.note("%s leaves elsewhere", x.id)
	m.store().Leave(mixedGroup, x.id)
	m.there = slices.Delete(m.there, i, i+1)
	m.change()
}

// commit tells the positions of a client elsewhere.
func (m *mixed) commit(x *stranger) {
	for lane, next := range x.lanes {
		if topic, n := split(lane); next >= 0 {
			m.store().Cursor(mixedGroup, topic, n).Commit(next)
		}
	}
}

// tell makes clients elsewhere divide the queues anew if there is a reason: all
// at once and soon, or as chance has it.
func (m *mixed) tell() {
	synctest.Wait()
	told := false
	select {
	case <-m.changed:
		told = true
	default:
	}
	if !m.wild {
		if told {
			time.Sleep(time.Duration(m.r.IntN(1000)) * time.Millisecond)
			m.divide(m.there)
		}
		return
	}
	for _, x := range m.there {
		if told {
			x.late = time.Now().Add(time.Duration(m.r.IntN(4000)) * time.Millisecond)
		}
		if !x.late.IsZero() && !time.Now().Before(x.late) {
			m.divide([]*stranger{x})
		}
	}
}

// divide makes clients elsewhere give up what is not theirs, and then take what
// is.
func (m *mixed) divide(xs []*stranger) {
	ids := m.store().Members(mixedGroup)
	for _, x := range m.there {
		ids = append(ids, x.id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	for _, x := range xs {
		mine := m.share(ids, x.id)
		for lane, next := range x.lanes {
			if mine[lane] {
				continue
			}
			if topic, n := split(lane); next >= 0 {
				m.store().Cursor(mixedGroup, topic, n).Commit(next)
			}
			delete(x.lanes, lane)
		}
	}
	for _, x := range xs {
		for lane := range m.share(ids, x.id) {
			if _, have := x.lanes[lane]; !have {
				x.lanes[lane] = -1
			}
		}
		x.late = time.Time{}
		m.note("%s of %v has %v", x.id, ids, slices.Sorted(maps.Keys(x.lanes)))
	}
}

// share is what one of the ids gets, averagely.
func (m *mixed) share(ids []string, id string) map[string]bool {
	at, out := slices.Index(ids, id), map[string]bool{}
	for topic, queues := range m.queues {
		size, rest := queues/len(ids), queues%len(ids)
		from := at*size + min(at, rest)
		if at < rest {
			size++
		}
		for n := from; n < from+size; n++ {
			out[fmt.Sprintf("%s/%d", topic, n)] = true
		}
	}
	return out
}

// restart is a close or a crash of the broker; clients elsewhere come again.
func (m *mixed) restart() {
	m.note("the broker starts again")
	for _, r := range m.here {
		r.subs = nil
	}
	m.here = nil
	if m.r.IntN(2) == 0 {
		m.crash()
	} else {
		m.reopen()
	}
	m.listen()
	for _, x := range m.there {
		m.store().Join(mixedGroup, x.id, m.topics)
	}
	m.change()
}

// check compares positions with what was consumed.
func (m *mixed) check() {
	m.Helper()
	for topic, queues := range m.queues {
		for n := range queues {
			lane := fmt.Sprintf("%s/%d", topic, n)
			at, ok := m.store().Cursor(mixedGroup, topic, n).Position()
			for o := range at {
				if ok && m.consumed[lane][o] == 0 {
					m.Fatalf("the position of %s is %d, but %d was not consumed\n%s", lane, at, o, strings.Join(m.trace, "\n"))
				}
			}
		}
	}
}

// rest lets everybody come to rest: each lane has one who consumes it, and both
// sides know who.
func (m *mixed) rest() {
	m.Helper()
	for range 3 {
		time.Sleep(5 * time.Second)
		m.tell()
	}
	m.divide(m.there) // clients elsewhere look again from time to time
	time.Sleep(5 * time.Second)
	synctest.Wait()
	owners := map[string][]string{}
	for _, r := range m.here {
		for _, sub := range r.subs {
			for _, l := range sub.owned() {
				owners[l.Name()] = append(owners[l.Name()], r.id)
			}
		}
	}
	inside := maps.Clone(owners)
	for _, x := range m.there {
		for lane := range x.lanes {
			owners[lane] = append(owners[lane], x.id)
		}
	}
	for topic, queues := range m.queues {
		for n := range queues {
			lane := fmt.Sprintf("%s/%d", topic, n)
			if len(owners[lane]) != 1 && len(m.here)+len(m.there) > 0 {
				m.Errorf("at rest %s is consumed by %q", lane, owners[lane])
			}
			if held := m.store().Cursor(mixedGroup, topic, n).Held(); held != (len(inside[lane]) > 0) {
				m.Errorf("at rest %s is consumed by %q, held: %v", lane, owners[lane], held)
			}
		}
	}
	m.check()
}

// drain consumes everything that is left.
func (m *mixed) drain() {
	m.Helper()
	if len(m.here)+len(m.there) == 0 {
		m.arrive()
	}
	for range 200 {
		m.work(false)
		m.poll(false)
		time.Sleep(3 * time.Second)
		m.check()
		if len(m.settled) == m.sent {
			break
		}
	}
	for i := range m.sent {
		if body := fmt.Sprint("m", i+1); !m.settled[body] {
			m.Errorf("%s is lost", body)
		}
	}
}
