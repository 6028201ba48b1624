package rocketmq_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// cluster plays name servers and brokers, each a master with perhaps a slave.
// It has what clients need and no more; what a test is about it can break.
type cluster struct {
	*network
	names   []*node
	brokers map[string]*pair

	mu     sync.Mutex
	topics map[string]map[string]int // queues by topic and broker
	moved  chan struct{}             // closed when something was stored
	// release is the version in the answers of the name servers.
	release int
}

// pair is a master and what it shares with its slave. Its fields are guarded by
// cluster.mu.
type pair struct {
	c             *cluster
	name          string
	master, slave *node
	logs          map[rocketmq.Queue][]message.Stored
	// behind is how many messages of each queue the slave does not have yet.
	behind  int
	suggest int64 // the broker to use next, in answers with messages
	deposed bool  // the master is not in the routes any more
	offsets map[string]int64
	members map[string]map[string]*peer      // by group, by client id
	groups  map[string]remoting.ConsumerData // of the last heartbeat for each, as brokers keep it
	locks   map[string]locked
	// lockless makes the broker too busy for locks.
	lockless bool
	trim     map[rocketmq.Queue]int64 // lowest offset that is there
	// beats is how long the broker takes for a heartbeat.
	beats time.Duration
	// onSend answers a send in place of the broker, unless it is nil or answers nil.
	onSend func(h remoting.SendMessage, code int) *remoting.Command
	sends  []remoting.SendMessage
	sizes  []int // messages in each send
	ends   []remoting.EndTransaction
	marks  []string
	calls  map[int]int // requests by code
	epoch  int
	answer int // version in answers
	// corrects: the slave says where a queue is, as with offsetCheckInSlave.
	// Otherwise it has the same offset asked for again.
	corrects bool
	pulls    map[bool]int // at the master, and at the slave
	levels   []time.Duration
}

// newCluster makes name servers n1:9876, n2:9876 and the brokers, a slave for
// each if slaves is set.
func newCluster(t testing.TB, slaves bool, brokers ...string) *cluster {
	c := &cluster{network: newNetwork(t), brokers: map[string]*pair{}, topics: map[string]map[string]int{}, moved: make(chan struct{})}
	for i := range 2 {
		c.names = append(c.names, c.serve(fmt.Sprintf("n%d:9876", i+1), func(_ *peer, req *remoting.Command) *remoting.Command {
			c.mu.Lock()
			defer c.mu.Unlock()
			a := c.nameServer(req)
			a.Version = c.release
			return a
		}))
	}
	for i, name := range brokers {
		p := &pair{
			c: c, name: name, logs: map[rocketmq.Queue][]message.Stored{}, offsets: map[string]int64{}, answer: remoting.Version,
			members: map[string]map[string]*peer{}, locks: map[string]locked{}, trim: map[rocketmq.Queue]int64{}, calls: map[int]int{}, pulls: map[bool]int{},
			groups: map[string]remoting.ConsumerData{},
		}
		p.master = c.serve(fmt.Sprintf("10.0.0.%d:10911", i+1), func(q *peer, req *remoting.Command) *remoting.Command { return p.serve(q, req, true) })
		if slaves {
			p.slave = c.serve(fmt.Sprintf("10.0.1.%d:10911", i+1), func(q *peer, req *remoting.Command) *remoting.Command { return p.serve(q, req, false) })
		}
		c.brokers[name] = p
	}
	return c
}

// open connects a client.
func (c *cluster) open(cfg rocketmq.Config, id string) driver.Conn {
	c.t.Helper()
	cfg.Dial = c.dial
	if cfg.NameServers == nil {
		cfg.NameServers = []string{"n1:9876", "n2:9876"}
	}
	if cfg.OffsetDir == "" {
		cfg.OffsetDir = c.t.TempDir()
	}
	conn, err := rocketmq.New(cfg).Open(context.Background(), driver.Config{ClientID: id})
	if err != nil {
		c.t.Fatalf("open: %v", err)
	}
	return conn
}

// topic makes a topic with queues on each broker, or on those named.
func (c *cluster) topic(name string, queues int, brokers ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(brokers) == 0 {
		brokers = slices.Collect(maps.Keys(c.brokers))
	}
	c.topics[name] = map[string]int{}
	for _, b := range brokers {
		c.topics[name][b] = queues
	}
}

// with runs f while nothing else happens.
func (c *cluster) with(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// nameServer answers what a name server is asked. mu is held.
func (c *cluster) nameServer(req *remoting.Command) *remoting.Command {
	switch req.Code {
	case remoting.ReqGetRoute:
		topic := req.Fields.Get("topic")
		queues, ok := c.topics[topic]
		if !ok {
			return &remoting.Command{Code: remoting.ResTopicNotExist, Remark: "no route of " + topic}
		}
		var r remoting.Route
		for _, name := range slices.Sorted(maps.Keys(queues)) {
			if data, ok := c.brokers[name].data(); ok {
				r.Brokers = append(r.Brokers, data)
				n := int32(queues[name])
				r.Queues = append(r.Queues, remoting.QueueData{Broker: name, Perm: remoting.PermRead | remoting.PermWrite, ReadQueues: n, WriteQueues: n})
			}
		}
		if len(r.Brokers) == 0 {
			return &remoting.Command{Code: remoting.ResTopicNotExist, Remark: "no broker of " + topic}
		}
		return &remoting.Command{Code: remoting.ResSuccess, Body: r.AppendTo(nil)}
	case remoting.ReqGetClusterInfo:
		info := remoting.ClusterInfo{}
		for _, name := range slices.Sorted(maps.Keys(c.brokers)) {
			if data, ok := c.brokers[name].data(); ok {
				info.Brokers = append(info.Brokers, data)
			}
		}
		return &remoting.Command{Code: remoting.ResSuccess, Body: info.AppendTo(nil)}
	default:
		return &remoting.Command{Code: remoting.ResUnsupported}
	}
}

// data is what name servers know of a pair.
func (p *pair) data() (remoting.BrokerData, bool) {
	d := remoting.BrokerData{Name: p.name, Cluster: "C"}
	if !p.deposed {
		d.Addrs = append(d.Addrs, remoting.BrokerAddr{ID: 0, Addr: p.master.addr})
	}
	if p.slave != nil {
		d.Addrs = append(d.Addrs, remoting.BrokerAddr{ID: 1, Addr: p.slave.addr})
	}
	return d, len(d.Addrs) > 0
}

// sent are the sends that the broker has stored.
func (p *pair) sent() []remoting.SendMessage {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return slices.Clone(p.sends)
}

func ok(fields ...string) *remoting.Command {
	a := &remoting.Command{Code: remoting.ResSuccess}
	for i := 0; i+1 < len(fields); i += 2 {
		a.Fields.Add(fields[i], fields[i+1])
	}
	return a
}

func (p *pair) serve(from *peer, req *remoting.Command, master bool) *remoting.Command {
	p.c.mu.Lock()
	p.calls[req.Code]++
	if req.Code == remoting.ReqPullMessage {
		p.pulls[master]++
	}
	p.c.mu.Unlock()
	var a *remoting.Command
	switch req.Code {
	case remoting.ReqSendMessageV2, remoting.ReqSendBatch:
		if !master {
			return &remoting.Command{Code: remoting.ResServiceNotAvailable, Remark: "a slave"}
		}
		a = p.send(req)
	case remoting.ReqPullMessage:
		a = p.pull(from, req, master)
	default:
		a = p.other(from, req, master)
	}
	if a != nil {
		a.Version = p.answer
	}
	return a
}

func (p *pair) send(req *remoting.Command) *remoting.Command {
	h, err := remoting.DecodeSend(req.Code, req.Fields)
	if err != nil {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: err.Error()}
	}
	p.c.mu.Lock()
	onSend := p.onSend
	p.c.mu.Unlock()
	if onSend != nil {
		if a := onSend(h, req.Code); a != nil {
			return a
		}
	}
	elements := []message.BatchElement{{Body: req.Body, Properties: h.Properties}}
	if h.Batch {
		if elements, err = message.DecodeBatch(req.Body, maxTestBatch); err != nil {
			return &remoting.Command{Code: remoting.ResMessageIllegal, Remark: err.Error()}
		}
	}
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.sends, p.sizes = append(p.sends, h), append(p.sizes, len(elements))
	if group, retry := strings.CutPrefix(h.Topic, driver.RetryTopic("")); retry && h.MaxReconsumeTimes >= 0 && h.ReconsumeTimes >= h.MaxReconsumeTimes {
		h.Topic, h.QueueID = driver.DeadLetterTopic(group), 0
		p.c.addTopicLocked(h.Topic, p.name)
	}
	q := rocketmq.Queue{Topic: h.Topic, Broker: p.name, ID: int(h.QueueID)}
	at := int64(len(p.logs[q]))
	host := netip.MustParseAddrPort(p.master.addr)
	var ids []string
	for _, e := range elements {
		s := message.Stored{
			Topic: h.Topic, QueueID: h.QueueID, SysFlag: h.SysFlag, Flag: h.Flag, BornTimestamp: h.BornTimestamp, StoreTimestamp: time.Now().UnixMilli(),
			ReconsumeTimes: h.ReconsumeTimes, BornHost: host, StoreHost: host, Body: e.Body, Properties: e.Properties,
		}
		if ms, err := strconv.ParseInt(message.Property(e.Properties, message.TimerDeliverMs), 10, 64); err == nil && ms > time.Now().UnixMilli() {
			time.AfterFunc(time.Until(time.UnixMilli(ms)), func() { p.c.with(func() { p.store(q, s) }) })
			ids = append(ids, message.OffsetID(host, 0))
			continue
		}
		if n, err := strconv.Atoi(message.Property(e.Properties, message.Delay)); err == nil && n <= len(p.levels) {
			time.AfterFunc(p.levels[n-1], func() { p.c.with(func() { p.store(q, s) }) })
			ids = append(ids, message.OffsetID(host, 0))
			continue
		}
		ids = append(ids, message.OffsetID(host, p.store(q, s)))
	}
	a := ok()
	remoting.SendResult{MsgID: strings.Join(ids, ","), QueueID: h.QueueID, QueueOffset: at}.AppendTo(&a.Fields)
	return a
}

const maxTestBatch = 1 << 20

// store appends a message and answers its physical offset. c.mu is held.
func (p *pair) store(q rocketmq.Queue, s message.Stored) int64 {
	p.epoch++
	s.QueueOffset, s.PhysicalOffset = int64(len(p.logs[q])), int64(p.epoch)*1000
	p.logs[q] = append(p.logs[q], s)
	close(p.c.moved)
	p.c.moved = make(chan struct{})
	return s.PhysicalOffset
}

func (c *cluster) addTopicLocked(name, broker string) {
	if c.topics[name] == nil {
		c.topics[name] = map[string]int{}
	}
	c.topics[name][broker] = max(c.topics[name][broker], 1)
}

// pull answers a pull, after a while if there is nothing.
func (p *pair) pull(from *peer, req *remoting.Command, master bool) *remoting.Command {
	x, err := remoting.DecodePullMessage(req.Fields)
	if err != nil {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: err.Error()}
	}
	end := time.NewTimer(time.Duration(x.SuspendMillis) * time.Millisecond)
	defer end.Stop()
	for {
		a, moved := p.find(x, master)
		if a.Code != remoting.ResPullNotFound || x.SysFlag&remoting.PullSuspend == 0 {
			return a
		}
		select {
		case <-moved:
		case <-from.done:
			return nil
		case <-end.C:
			return a
		}
	}
}

func (p *pair) find(x remoting.PullMessage, master bool) (*remoting.Command, <-chan struct{}) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	q := rocketmq.Queue{Topic: x.Topic, Broker: p.name, ID: int(x.QueueID)}
	log := p.logs[q]
	if !master {
		log = log[:max(len(log)-p.behind, 0)]
	}
	if x.SysFlag&remoting.PullCommit != 0 && master {
		key := offsetKey(x.Group, x.Topic, x.QueueID)
		p.offsets[key] = max(p.offsets[key], x.CommitOffset)
	}
	res := remoting.PullResult{NextBeginOffset: x.QueueOffset, MinOffset: p.trim[q], MaxOffset: int64(len(log))}
	a := &remoting.Command{Code: remoting.ResPullNotFound}
	switch {
	case x.QueueOffset < res.MinOffset:
		a.Code, res.NextBeginOffset = remoting.ResPullOffsetMoved, res.MinOffset
	case x.QueueOffset > res.MaxOffset:
		a.Code, res.NextBeginOffset = remoting.ResPullOffsetMoved, res.MaxOffset
	case x.QueueOffset < res.MaxOffset:
		a.Code, res.SuggestBroker = remoting.ResSuccess, p.suggest
		for _, s := range log[x.QueueOffset:min(res.MaxOffset, x.QueueOffset+int64(x.MaxMessages))] {
			a.Body, _ = s.AppendTo(a.Body)
			res.NextBeginOffset++
		}
	}
	if a.Code == remoting.ResPullOffsetMoved && !master && !p.corrects {
		a.Code, res.NextBeginOffset = remoting.ResPullRetryImmediately, x.QueueOffset
	}
	res.AppendTo(&a.Fields)
	return a, p.c.moved
}

func offsetKey(group, topic string, queue int32) string {
	return fmt.Sprint(group, "@", topic, "/", queue)
}

func (p *pair) other(from *peer, req *remoting.Command, master bool) *remoting.Command {
	p.c.mu.Lock()
	if beats := p.beats; req.Code == remoting.ReqHeartbeat && beats > 0 {
		p.c.mu.Unlock()
		time.Sleep(beats)
		p.c.mu.Lock()
	}
	defer p.c.mu.Unlock()
	switch req.Code {
	case remoting.ReqGetMinOffset, remoting.ReqGetMaxOffset:
		id, _ := strconv.Atoi(req.Fields.Get("queueId"))
		q := rocketmq.Queue{Topic: req.Fields.Get("topic"), Broker: p.name, ID: id}
		at := p.trim[q]
		if req.Code == remoting.ReqGetMaxOffset {
			at = int64(len(p.logs[q]))
		}
		return ok("offset", strconv.FormatInt(at, 10))
	case remoting.ReqQueryConsumerOffset:
		x, _ := remoting.DecodeQueryOffset(req.Fields)
		at, found := p.offsets[offsetKey(x.Group, x.Topic, x.QueueID)]
		if !found {
			return &remoting.Command{Code: remoting.ResQueryNotFound}
		}
		return ok("offset", strconv.FormatInt(at, 10))
	case remoting.ReqUpdateConsumerOffset:
		x, _ := remoting.DecodeUpdateOffset(req.Fields)
		p.offsets[offsetKey(x.Group, x.Topic, x.QueueID)] = x.CommitOffset
		return ok()
	case remoting.ReqHeartbeat:
		beat, err := remoting.DecodeHeartbeat(req.Body)
		if err != nil {
			return &remoting.Command{Code: remoting.ResSystemError, Remark: err.Error()}
		}
		p.marks = append(p.marks, beat.ClientID)
		for _, g := range beat.Consumers {
			p.register(g.Group, beat.ClientID, from)
			p.groups[g.Group] = g
			if master {
				p.c.addTopicLocked(driver.RetryTopic(g.Group), p.name)
			}
		}
		for _, g := range beat.Producers {
			p.register("producers of "+g, beat.ClientID, from)
		}
		return ok()
	case remoting.ReqUnregisterClient:
		x, _ := remoting.DecodeUnregisterClient(req.Fields)
		delete(p.members[x.ConsumerGroup], x.ClientID)
		delete(p.members["producers of "+x.ProducerGroup], x.ClientID)
		p.notify(x.ConsumerGroup)
		return ok()
	case remoting.ReqGetConsumerListByGroup:
		a := ok()
		a.Body = remoting.ConsumerList{ClientIDs: p.living(req.Fields.Get("consumerGroup"))}.AppendTo(nil)
		return a
	case remoting.ReqGetConsumerConnections:
		return p.connections(req.Fields.Get("consumerGroup"))
	case remoting.ReqEndTransaction:
		x, _ := remoting.DecodeEndTransaction(req.Fields)
		p.ends = append(p.ends, x)
		return ok()
	case remoting.ReqQueryMessage, remoting.ReqViewMessageByID:
		return p.query(req)
	case remoting.ReqLockBatch, remoting.ReqUnlockBatch:
		return p.lock(req)
	default:
		return &remoting.Command{Code: remoting.ResUnsupported, Remark: "the scripted broker does not know it"}
	}
}

// locked is who has a queue, for a minute at the most.
type locked struct {
	by    string
	until time.Time
}

func (p *pair) lock(req *remoting.Command) *remoting.Command {
	if p.lockless {
		return &remoting.Command{Code: remoting.ResSystemBusy}
	}
	x, err := remoting.DecodeLockBatch(req.Body)
	if err != nil {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: err.Error()}
	}
	var got remoting.LockedQueues
	for _, q := range x.Queues {
		key := fmt.Sprint(x.Group, "@", q.Topic, "/", q.Queue)
		switch owner := p.locks[key]; {
		case req.Code == remoting.ReqUnlockBatch:
			if owner.by == x.ClientID {
				delete(p.locks, key)
			}
		case owner.by == x.ClientID || time.Now().After(owner.until):
			p.locks[key] = locked{x.ClientID, time.Now().Add(time.Minute)}
			got.Queues = append(got.Queues, q)
		}
	}
	a := ok()
	a.Body = got.AppendTo(nil)
	return a
}

// register notes a member and tells the others of a new one. c.mu is held.
func (p *pair) register(group, id string, from *peer) {
	if p.members[group] == nil {
		p.members[group] = map[string]*peer{}
	}
	client, _, _ := strings.Cut(id, "~")
	for other := range p.members[group] { // a heartbeat with other marks is the same client
		if c, _, _ := strings.Cut(other, "~"); c == client && other != id {
			delete(p.members[group], other)
		}
	}
	was := p.members[group][id]
	p.members[group][id] = from
	if was != from {
		p.notify(group)
	}
}

// living are the members whose connections are there. c.mu is held.
func (p *pair) living(group string) []string {
	var ids []string
	for id, m := range p.members[group] {
		select {
		case <-m.done:
		default:
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// connections tells who is in a group and what it subscribes to. c.mu is held.
func (p *pair) connections(group string) *remoting.Command {
	ids := p.living(group)
	if len(ids) == 0 {
		return &remoting.Command{Code: remoting.ResConsumerNotOnline}
	}
	g := p.groups[group]
	list := remoting.ConnectionList{
		ConsumeType: g.ConsumeType, MessageModel: g.MessageModel, ConsumeFromWhere: g.ConsumeFromWhere, Subscriptions: g.Subscriptions,
	}
	for _, id := range ids {
		list.Connections = append(list.Connections, remoting.Connection{ClientID: id})
	}
	a := ok()
	a.Body = list.AppendTo(nil)
	return a
}

// notify tells members that their group has changed. c.mu is held.
func (p *pair) notify(group string) {
	for _, m := range p.members[group] {
		p.c.wg.Go(func() {
			m.ask(&remoting.Command{Code: remoting.ReqNotifyConsumerIDsChanged, Fields: remoting.Fields{{Name: "consumerGroup", Value: group}}})
		})
	}
}

// reset tells a member of group g that an operator moves it on the first queue.
func (c *cluster) reset(to int64) {
	var member *peer
	c.with(func() {
		for _, p := range c.brokers["a"].members["g"] {
			member = p
		}
	})
	table := remoting.OffsetTable{Queues: []remoting.QueuePosition{{MessageQueue: remoting.MessageQueue{Topic: "t", Broker: "a"}, Offset: to}}}
	member.ask(&remoting.Command{
		Code: remoting.ReqResetConsumerClientOffset, Fields: remoting.Fields{{Name: "topic", Value: "t"}, {Name: "group", Value: "g"}},
		Body: table.AppendTo(nil),
	})
}

// members are the ids of a group at all masters.
func (c *cluster) members(group string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, p := range c.brokers {
		out = append(out, p.living(group)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// count is how many messages a topic holds.
func (c *cluster) count(topic string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.brokers {
		for q, log := range p.logs {
			if q.Topic == topic {
				n += len(log)
			}
		}
	}
	return n
}
