package server

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// statistics count what clients elsewhere send and receive: of each topic, of
// each group on a topic, and of the broker. Counting takes no lock and starts no
// goroutine: the ticker of the server looks at the counters every ten seconds,
// and a rate is the difference to what it has seen.
type statistics struct {
	started time.Time
	most    int // topics that are counted
	topics  atomic.Pointer[map[string]*topicTally]

	put, got, missed tally // of the broker; missed are the pulls that found nothing

	mu     sync.Mutex // held to insert, to forget, and for everything about axes
	groups int        // on topics, in all
	axes   [axisCount]axis
	days   mornings
}

// topicTally counts one topic.
type topicTally struct {
	put    tally
	groups atomic.Pointer[map[string]*groupTally]
}

// groupTally counts one group on one topic.
type groupTally struct {
	got, back tally
}

// tally counts one kind of event.
type tally struct {
	messages, bytes, calls atomic.Int64
	// past holds what was counted at the moments of each axis, in the same
	// places; it is made once something was counted. Guarded by statistics.mu.
	past [axisCount][]amounts
}

// amounts are what a tally has counted.
type amounts struct{ messages, bytes, calls int64 }

func (t *tally) add(messages, bytes int) {
	t.messages.Add(int64(messages))
	t.bytes.Add(int64(bytes))
	t.calls.Add(1)
}

func (t *tally) now() amounts {
	return amounts{t.messages.Load(), t.bytes.Load(), t.calls.Load()}
}

func (a amounts) minus(b amounts) amounts {
	return amounts{a.messages - b.messages, a.bytes - b.bytes, a.calls - b.calls}
}

// The axes are the windows of RocketMQ's statistics, and the ten minutes over
// which the broker's own rates are given.
const (
	minuteAxis = iota
	hourAxis
	dayAxis
	brokerAxis // kept for the broker only
	axisCount
)

// axis is a ring of the latest moments at which every tally was looked at.
type axis struct {
	period time.Duration
	at     []time.Duration // since the start
	next   int             // the oldest moment, which is overwritten next
}

func newAxis(period time.Duration, moments int) axis {
	return axis{period: period, at: make([]time.Duration, moments)}
}

// latest is the youngest moment.
func (a *axis) latest() time.Duration { return a.at[(a.next+len(a.at)-1)%len(a.at)] }

// before is the place of the youngest moment that is at least d before now, or
// of the oldest one.
func (a *axis) before(now, d time.Duration) int {
	for back := 1; back < len(a.at); back++ {
		if at := (a.next + len(a.at) - back) % len(a.at); now-a.at[at] >= d {
			return at
		}
	}
	return a.next
}

// mornings are what the broker had put and got at the beginnings of today and
// of yesterday, by the local clock.
type mornings struct {
	day                 time.Time
	putToday, putBefore int64
	getToday, getBefore int64
}

// groupsPerTopic times the topics is how many groups on topics are counted:
// about 40 MiB with the default limits, and more than a broker has.
const groupsPerTopic = 8

// newStatistics counts at most as many topics as most says, and groupsPerTopic
// times as many groups on topics; what comes on top counts for the broker only.
func newStatistics(started time.Time, most int) *statistics {
	st := &statistics{started: started, most: most}
	st.topics.Store(&map[string]*topicTally{})
	st.axes = [axisCount]axis{
		newAxis(10*time.Second, 7), newAxis(10*time.Minute, 7), newAxis(time.Hour, 25), newAxis(10*time.Second, 61),
	}
	st.days.day = midnight(started)
	return st
}

func midnight(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, t.Location())
}

// countPut counts messages that a client has sent and that are stored.
func (s *Server) countPut(topic string, messages, bytes int) {
	st := s.counts
	st.put.add(messages, bytes)
	if t := st.topic(topic); t != nil {
		t.put.add(messages, bytes)
	}
}

// countGet counts a pull that was answered; without messages it counts as a
// miss.
func (s *Server) countGet(group, topic string, messages, bytes int) {
	st := s.counts
	if messages == 0 {
		st.missed.add(0, 0)
		return
	}
	st.got.add(messages, bytes)
	if g := st.group(topic, group); g != nil {
		g.got.add(messages, bytes)
	}
}

// countSendBack counts a message that a group has sent back.
func (s *Server) countSendBack(group, topic string) {
	if g := s.counts.group(topic, group); g != nil {
		g.back.add(1, 0)
	}
}

// topic answers nil when there are too many.
func (st *statistics) topic(name string) *topicTally {
	if t := (*st.topics.Load())[name]; t != nil {
		return t
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return insert(&st.topics, name, st.most, func(t *topicTally) { t.groups.Store(&map[string]*groupTally{}) })
}

// group answers nil when there are too many.
func (st *statistics) group(topic, group string) *groupTally {
	t := st.topic(topic)
	if t == nil {
		return nil
	}
	if g := (*t.groups.Load())[group]; g != nil {
		return g
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.groups >= groupsPerTopic*st.most || (*st.topics.Load())[topic] != t {
		return nil
	}
	return insert(&t.groups, group, st.most, func(*groupTally) { st.groups++ })
}

// insert adds an entry to a map of which readers hold the pointer, unless it is
// there or the map is full. statistics.mu is held.
func insert[T any](m *atomic.Pointer[map[string]*T], name string, most int, prepare func(*T)) *T {
	old := *m.Load()
	if t := old[name]; t != nil {
		return t
	}
	if len(old) >= most {
		return nil
	}
	grown := make(map[string]*T, len(old)+1)
	maps.Copy(grown, old)
	t := new(T)
	prepare(t)
	grown[strings.Clone(name)] = t // it is part of a request, which may be large
	m.Store(&grown)
	return t
}

// without takes an entry out of such a map. It answers how many there were.
func without[T any](m *atomic.Pointer[map[string]*T], name string) int {
	old := *m.Load()
	if old[name] == nil {
		return 0
	}
	rest := maps.Clone(old)
	delete(rest, name)
	m.Store(&rest)
	return 1
}

// forgetTopic drops the counters of a topic that was deleted.
func (st *statistics) forgetTopic(name string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if t := (*st.topics.Load())[name]; t != nil {
		st.groups -= len(*t.groups.Load())
	}
	without(&st.topics, name)
}

// forgetGroup drops the counters of a group that was deleted.
func (st *statistics) forgetGroup(name string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, t := range *st.topics.Load() {
		st.groups -= without(&t.groups, name)
	}
}

// tick looks at the counters if it is time to.
func (st *statistics) tick() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sample()
}

// sample brings the axes up to the present; there are no ticks while nobody is
// connected. statistics.mu is held.
func (st *statistics) sample() {
	now := time.Since(st.started)
	for i := range st.axes {
		a := &st.axes[i]
		// What lies further back than the ring reaches is not needed.
		if reach := time.Duration(len(a.at)) * a.period; now-a.latest() > reach+a.period {
			behind := now - a.latest() - reach
			a.at[(a.next+len(a.at)-1)%len(a.at)] += behind - behind%a.period // whole periods
		}
		for now-a.latest() >= a.period {
			at := a.latest() + a.period
			a.at[a.next] = at
			st.each(i, func(t *tally) { t.keep(i, a) })
			a.next = (a.next + 1) % len(a.at)
		}
	}
	st.dawn(st.started.Add(now))
}

// each visits the tallies that an axis is kept for.
func (st *statistics) each(i int, visit func(*tally)) {
	visit(&st.put)
	visit(&st.got)
	visit(&st.missed)
	if i == brokerAxis {
		return
	}
	for _, t := range *st.topics.Load() {
		visit(&t.put)
		for _, g := range *t.groups.Load() {
			visit(&g.got)
			visit(&g.back)
		}
	}
}

// keep notes what was counted so far in the next place of axis i.
func (t *tally) keep(i int, a *axis) {
	now := t.now()
	if t.past[i] == nil {
		if now.calls == 0 {
			return
		}
		t.past[i] = make([]amounts, len(a.at)) // nothing was counted before
	}
	t.past[i][a.next] = now
}

// dawn notes the totals of the broker when a day begins.
func (st *statistics) dawn(now time.Time) {
	d := &st.days
	today := midnight(now)
	if today.Equal(d.day) {
		return
	}
	put, got := st.put.messages.Load(), st.got.messages.Load()
	d.putBefore, d.getBefore = d.putToday, d.getToday
	if today.Sub(d.day) > 36*time.Hour { // nobody was there yesterday
		d.putBefore, d.getBefore = put, got
	}
	d.day, d.putToday, d.getToday = today, put, got
}

// over is what a tally has counted in the last d of an axis, or since the
// start if that is later, and how long that is. statistics.mu is held.
func (st *statistics) over(t *tally, i int, d time.Duration) (amounts, time.Duration) {
	a := &st.axes[i]
	now := time.Since(st.started)
	at := a.before(now, d)
	sum := t.now()
	if past := t.past[i]; past != nil {
		sum = sum.minus(past[at])
	}
	return sum, max(now-a.at[at], time.Second)
}

// window is what a tally has counted over the whole of an axis.
type window struct {
	amounts
	span time.Duration
}

// perSecond is a rate of n.
func (w window) perSecond(n int64) float64 { return float64(n) / w.span.Seconds() }

// perCall is how much of n each call had.
func (w window) perCall(n int64) float64 {
	if w.calls == 0 {
		return 0
	}
	return float64(n) / float64(w.calls)
}

// windows answers the last minute, hour and day of a tally.
func (st *statistics) windows(t *tally) (minute, hour, day window) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sample()
	for i, w := range []*window{&minute, &hour, &day} {
		a := &st.axes[i]
		w.amounts, w.span = st.over(t, i, time.Duration(len(a.at)-1)*a.period)
	}
	return minute, hour, day
}

// rate answers how many messages a second a tally has counted in the last
// minute; nil has counted none.
func (st *statistics) rate(t *tally) float64 {
	if t == nil {
		return 0
	}
	minute, _, _ := st.windows(t)
	return minute.perSecond(minute.messages)
}

// find answers the tallies of a topic, and of a group on it, nil where nothing
// was counted.
func (st *statistics) find(topic, group string) (*topicTally, *groupTally) {
	t := (*st.topics.Load())[topic]
	if t == nil {
		return nil, nil
	}
	return t, (*t.groups.Load())[group]
}

// getRate is the rate of a group on a topic.
func (st *statistics) getRate(topic, group string) float64 {
	if _, g := st.find(topic, group); g != nil {
		return st.rate(&g.got)
	}
	return 0
}

// putRate is the rate of a topic.
func (st *statistics) putRate(topic string) float64 {
	if t, _ := st.find(topic, ""); t != nil {
		return st.rate(&t.put)
	}
	return 0
}
