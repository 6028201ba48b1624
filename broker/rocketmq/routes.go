package rocketmq

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// masterID is the number of the master among the brokers of a name.
	masterID = 0
	// templateQueues is how many queues Apache's clients ask for in a topic
	// that a send creates.
	templateQueues = 4
	// refreshGap is the least time between two questions for the same route
	// that errors ask for.
	refreshGap = time.Second
	// restAfter is how many periods a topic that nobody turns to is asked for.
	restAfter = 10
)

// route is where a topic is. It is not changed once it is made.
type route struct {
	raw remoting.Route
	// write and read are the queues for producers and consumers, sorted.
	// Template: the topic does not exist yet; a send creates it.
	write, read []Queue
	names       []string // of the lanes of read
	template    bool
	asked       time.Time
}

// newRoute reads what the name server said of topic.
func newRoute(topic string, raw remoting.Route) *route {
	r := &route{raw: raw, asked: time.Now()}
	for _, q := range raw.Queues {
		if q.Perm&remoting.PermRead != 0 {
			r.read = appendQueues(r.read, topic, q.Broker, int(q.ReadQueues))
		}
		if q.Perm&remoting.PermWrite != 0 && hasMaster(raw, q.Broker) {
			r.write = appendQueues(r.write, topic, q.Broker, int(q.WriteQueues))
		}
	}
	if raw.OrderTopicConf != "" {
		r.write = ordered(topic, raw.OrderTopicConf)
	}
	slices.SortFunc(r.read, compareQueues)
	slices.SortFunc(r.write, compareQueues)
	for _, q := range r.read {
		r.names = append(r.names, q.String())
	}
	return r
}

// mostQueues bounds what a name server can make a client allocate for a topic.
const mostQueues = 65536

// appendQueues adds the queues of a broker, as many as a topic may have.
func appendQueues(queues []Queue, topic, broker string, n int) []Queue {
	for i := range min(n, mostQueues-len(queues)) {
		queues = append(queues, Queue{topic, broker, i})
	}
	return queues
}

// ordered reads the queues of an ordered topic, "broker:queues;…".
func ordered(topic, conf string) []Queue {
	var out []Queue
	for item := range strings.SplitSeq(conf, ";") {
		broker, count, _ := strings.Cut(item, ":")
		if n, err := strconv.Atoi(count); err == nil && broker != "" {
			out = appendQueues(out, topic, broker, n)
		}
	}
	return out
}

func hasMaster(raw remoting.Route, broker string) bool {
	return slices.ContainsFunc(raw.Brokers, func(b remoting.BrokerData) bool {
		return b.Name == broker && slices.ContainsFunc(b.Addrs, func(a remoting.BrokerAddr) bool { return a.ID == masterID })
	})
}

// number is the number of a queue among those of the topic, over all brokers.
func (r *route) number(q Queue) int {
	n, _ := r.lane(q)
	return n
}

// lane is the number of a queue and the name of its lane.
func (r *route) lane(q Queue) (int, string) {
	if i, ok := slices.BinarySearchFunc(r.read, q, compareQueues); ok {
		return i, r.names[i]
	}
	if i, ok := slices.BinarySearchFunc(r.write, q, compareQueues); ok && r.template {
		return i, q.String()
	}
	return q.ID, q.String()
}

// brokersOf are the names of the brokers that have the topic, sorted.
func (r *route) brokersOf() []string {
	var out []string
	for _, b := range r.raw.Brokers {
		out = append(out, b.Name)
	}
	slices.Sort(out)
	return out
}

// routes is what is known of topics and brokers. Every topic that is in use is
// asked for again from time to time, so that new queues and brokers are found
// without a restart. One that nobody turns to any more rests: it is asked for by
// who does so next. One that does not exist is forgotten.
type routes struct {
	names  *nameServers
	create bool // sends may create topics

	mu       sync.Mutex
	topics   map[string]*topicRoute
	round    int                              // periods in which topics were asked for
	brokers  map[string][]remoting.BrokerAddr // by name, sorted by id
	clusters map[string]string                // by the names of their brokers
	whole    bool                             // brokers were once all of the cluster
}

// topicRoute is one topic; its lock makes callers share one question.
type topicRoute struct {
	lock  turn
	known *route    // guarded by routes.mu; nil before the first answer
	used  int       // guarded by routes.mu: the round in which somebody turned to it
	tried time.Time // guarded by lock: the last question
}

func newRoutes(names *nameServers, create bool) *routes {
	return &routes{
		names: names, create: create, topics: map[string]*topicRoute{}, brokers: map[string][]remoting.BrokerAddr{}, clusters: map[string]string{},
	}
}

// topic answers a topic to who turns to it.
func (r *routes) topic(name string) *topicRoute {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.entryLocked(name)
	t.used = r.round
	return t
}

func (r *routes) entryLocked(name string) *topicRoute {
	t := r.topics[name]
	if t == nil {
		t = &topicRoute{lock: newTurn(), used: r.round}
		r.topics[name] = t
	}
	return t
}

func (r *routes) known(t *topicRoute) *route {
	r.mu.Lock()
	defer r.mu.Unlock()
	return t.known
}

// cached answers the route of a topic if it is known and does not rest.
func (r *routes) cached(topic string) *route {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[topic]
	if t == nil || r.rests(t) {
		return nil
	}
	t.used = r.round
	return t.known
}

// rests reports whether a topic is not asked for in each round; mu is held.
func (r *routes) rests(t *topicRoute) bool { return r.round-t.used > restAfter }

// get answers the route of a topic, from memory if it is there. A topic that
// does not exist is [driver.NotFound].
func (r *routes) get(ctx context.Context, topic string) (*route, *driver.Error) {
	if k := r.cached(topic); k != nil {
		return k, nil
	}
	t := r.topic(topic)
	k, err := r.ask(ctx, topic, t, 0)
	if err != nil {
		if before := r.known(t); before != nil { // it rested
			return before, nil
		}
	}
	return k, err
}

// renew answers the route after asking for it again, unless it was asked for
// within the last gap.
func (r *routes) renew(ctx context.Context, topic string, gap time.Duration) (*route, *driver.Error) {
	return r.ask(ctx, topic, r.topic(topic), gap)
}

// again is renew for the keeper, whose questions are no use of a topic. It
// reports whether the answer is another one than before.
func (r *routes) again(ctx context.Context, topic string, gap time.Duration) (changed bool, err *driver.Error) {
	r.mu.Lock()
	t := r.entryLocked(topic)
	before := t.known
	r.mu.Unlock()
	after, err := r.ask(ctx, topic, t, gap)
	return err == nil && after != before, err
}

func (r *routes) ask(ctx context.Context, topic string, t *topicRoute, gap time.Duration) (*route, *driver.Error) {
	op := "find topic " + topic
	if !t.lock.take(ctx) {
		return nil, driver.FromContext(ctx, op, false)
	}
	defer t.lock.give()
	if k := r.known(t); k != nil && time.Since(t.tried) < gap {
		return k, nil
	}
	t.tried = time.Now()
	a, addr, err := r.names.ask(ctx, &remoting.Command{
		Code: remoting.ReqGetRoute, Fields: remoting.Fields{{Name: "topic", Value: topic}, {Name: "acceptStandardJsonOnly", Value: "true"}},
	})
	if err != nil {
		return nil, unanswered(ctx, op, err, false)
	}
	if a.Code != remoting.ResSuccess {
		// What was known counts for those who have work to do: a name server that
		// has just come back knows nothing before the brokers have told it again.
		return nil, refusedRoute(op, addr, a)
	}
	raw, err := remoting.DecodeRoute(a.Body)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, op, "the answer of name server %s: %w", addr, err)
	}
	return r.learn(topic, t, raw), nil
}

// forget drops the route of a topic that was deleted here.
func (r *routes) forget(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.topics[topic]; t != nil {
		t.known = nil
	}
}

// learn keeps what a name server said. A route that is the same keeps its
// identity, so that who compares pointers sees no change.
func (r *routes) learn(topic string, t *topicRoute, raw remoting.Route) *route {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range raw.Brokers {
		r.learnLocked(b)
	}
	if t.known != nil && reflect.DeepEqual(t.known.raw, raw) {
		return t.known
	}
	t.known = newRoute(topic, raw)
	return t.known
}

// learnBroker keeps where a broker is.
func (r *routes) learnBroker(b remoting.BrokerData) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.learnLocked(b)
}

// learnCluster keeps where all brokers are, and forgets those that neither the
// cluster has nor a topic.
func (r *routes) learnCluster(all []remoting.BrokerData) {
	r.mu.Lock()
	defer r.mu.Unlock()
	there := map[string]bool{}
	for _, t := range r.topics {
		if t.known != nil {
			for _, b := range t.known.raw.Brokers {
				there[b.Name] = true
			}
		}
	}
	for _, b := range all {
		there[b.Name] = true
		r.learnLocked(b)
	}
	for name := range r.brokers {
		if !there[name] {
			delete(r.brokers, name)
			delete(r.clusters, name)
		}
	}
	r.whole = true
}

// learnLocked is learnBroker with mu held.
func (r *routes) learnLocked(b remoting.BrokerData) {
	addrs := slices.Clone(b.Addrs)
	slices.SortFunc(addrs, func(x, y remoting.BrokerAddr) int { return cmp.Compare(x.ID, y.ID) })
	r.brokers[b.Name], r.clusters[b.Name] = addrs, b.Cluster
}

// clusterOf answers the cluster of a broker.
func (r *routes) clusterOf(broker string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clusters[broker]
}

// nameOf answers the broker with an address, "" if none is known.
func (r *routes) nameOf(addr string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, addrs := range r.brokers {
		if slices.ContainsFunc(addrs, func(a remoting.BrokerAddr) bool { return a.Addr == addr }) {
			return name
		}
	}
	return ""
}

// forSend is get for producers. A topic that does not exist gets the queues
// that a send creates, if sends may do that.
func (r *routes) forSend(ctx context.Context, topic string) (*route, *driver.Error) {
	k, err := r.get(ctx, topic)
	if err == nil || err.Code != driver.NotFound || !r.create {
		return k, err
	}
	template, terr := r.get(ctx, message.AutoCreateTopic)
	if terr != nil {
		return nil, err // the template is an offer; what is missing is the topic
	}
	out := &route{raw: template.raw, template: true}
	for _, q := range template.raw.Queues {
		if q.Perm&remoting.PermWrite != 0 && hasMaster(template.raw, q.Broker) {
			out.write = appendQueues(out.write, topic, q.Broker, min(templateQueues, int(q.ReadQueues)))
		}
	}
	slices.SortFunc(out.write, compareQueues)
	return out, nil
}

// next begins a round: it answers the topics that are in use, as those held are,
// and forgets those without a route that nobody has turned to since the last one.
func (r *routes) next(held []string) (topics []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range held {
		if t := r.topics[name]; t != nil {
			t.used = r.round
		}
	}
	for name, t := range r.topics {
		switch {
		case t.known == nil && t.used < r.round:
			delete(r.topics, name)
		case !r.rests(t):
			topics = append(topics, name)
		}
	}
	r.round++
	return topics
}

// master answers the address of the master of a broker.
func (r *routes) master(broker string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := r.brokers[broker]
	if len(addrs) == 0 || addrs[0].ID != masterID {
		return "", false
	}
	return addrs[0].Addr, true
}

// masters are the addresses of all masters that are known, sorted; whole: all
// brokers of the cluster were asked for.
func (r *routes) masters() (addrs []string, whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.brokers {
		if len(b) > 0 && b[0].ID == masterID {
			addrs = append(addrs, b[0].Addr)
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs), r.whole
}

// takes reports whether a queue is one that messages are sent to.
func (r *routes) takes(q Queue) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[q.Topic]
	return t != nil && t.known != nil && slices.Contains(t.known.write, q)
}

// replica answers an address to read from: that of the broker with the number
// id, else of the one after it, else of any. Master tells whether it is the
// master.
func (r *routes) replica(broker string, id int64) (addr string, master, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := r.brokers[broker]
	if len(addrs) == 0 {
		return "", false, false
	}
	pick := addrs[0]
	for _, want := range []int64{id, id + 1} {
		if i := slices.IndexFunc(addrs, func(a remoting.BrokerAddr) bool { return a.ID == want }); i >= 0 && (want == id || id != masterID) {
			pick = addrs[i]
			break
		}
	}
	return pick.Addr, pick.ID == masterID, true
}

// addresses are those of all brokers that have one of the topics, masters only
// or slaves too, sorted.
func (r *routes) addresses(topics []string, slaves bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, name := range topics {
		t := r.topics[name]
		if t == nil || t.known == nil {
			continue
		}
		for _, b := range t.known.raw.Brokers {
			for _, a := range r.brokers[b.Name] {
				if slaves || a.ID == masterID {
					out = append(out, a.Addr)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
