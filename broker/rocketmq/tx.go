package rocketmq

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// transactor is the half messages of one client.
type transactor struct{ c *conn }

// handleVersion begins a handle: a version, the physical offset and the queue
// offset of the half message, the name of its broker.
const handleVersion = 1

// place is where a half message is.
type place struct {
	broker          string
	physical, queue int64
}

func (p place) handle() []byte {
	b := []byte{handleVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(p.physical))
	b = binary.BigEndian.AppendUint64(b, uint64(p.queue))
	return append(b, p.broker...)
}

func parseHandle(b []byte) (place, bool) {
	if len(b) < 18 || b[0] != handleVersion {
		return place{}, false
	}
	p := place{
		physical: int64(binary.BigEndian.Uint64(b[1:])), queue: int64(binary.BigEndian.Uint64(b[9:])), broker: string(b[17:]),
	}
	return p, p.physical >= 0 && p.queue >= 0
}

// txID names a transaction.
type txID struct{ group, id string }

// transaction is what this client knows of one.
type transaction struct {
	mu      sync.Mutex // held while the broker is asked
	half    *driver.Half
	decided driver.Decision // Undecided: not by this client
	// perhaps: the decision went out and its answer is not known.
	perhaps bool
}

// mostTransactions is how many are remembered.
const mostTransactions = 1 << 16

// decisions remembers the transactions of a client. RocketMQ's brokers commit a
// half message as often as they are told to, so that a commit must not be
// repeated where the first one was answered; and they store a half message
// twice if it is sent twice.
type decisions struct {
	mu    sync.Mutex
	known map[txID]*transaction
	order []txID // the oldest first
}

func newDecisions() *decisions { return &decisions{known: map[txID]*transaction{}} }

func (d *decisions) get(id txID) *transaction {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.known[id]
	if t == nil {
		t = &transaction{}
		d.known[id] = t
		d.order = append(d.order, id)
		if len(d.order) > mostTransactions {
			delete(d.known, d.order[0])
			d.order = d.order[1:]
		}
	}
	return t
}

// Prepare stores a half message; see [driver.Transactor]. That a second Prepare
// answers the first half again is kept by this client, for as long as it knows
// the transaction, and by the bundled broker; RocketMQ's brokers know no such
// thing.
func (t transactor) Prepare(ctx context.Context, group string, m *driver.Message) (driver.Half, error) {
	op := "prepare half message of group " + group
	if err := t.c.use(ctx, op); err != nil {
		return driver.Half{}, err
	}
	if err := driver.ValidGroup(group); err != nil {
		return driver.Half{}, invalid(op, err)
	}
	if err := checkMessage(m); err != nil {
		return driver.Half{}, invalid(op, err)
	}
	if !m.DeliverAt.IsZero() {
		return driver.Half{}, invalid(op, errors.New("a half message cannot be delayed; leave DeliverAt out"))
	}
	id := cmp.Or(m.ID, t.c.ids.Next())
	known := t.c.halves.get(txID{group, id})
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.half != nil {
		return *known.half, nil
	}
	h, err := t.send(ctx, op, group, id, m)
	if err != nil {
		return driver.Half{}, err
	}
	known.half = &h
	return h, nil
}

// send stores a half message at a broker. One that is stored less safely than it
// should be begins no transaction.
func (t transactor) send(ctx context.Context, op, group, id string, m *driver.Message) (driver.Half, *driver.Error) {
	c := t.c
	props, id, err := c.properties(m, id, delay{})
	if err != nil {
		return driver.Half{}, invalid(op, err)
	}
	props = string(message.AppendProperty(message.AppendProperty([]byte(props), message.TranMsg, "true"), message.ProducerGroup, group))
	o := outgoing{m: m, id: id, props: props, half: group, r: &driver.SendResult{}}
	if err := c.chooseQueue(ctx, &o, map[string]Queue{}); err != nil {
		return driver.Half{}, asDriver(err, op)
	}
	if err := c.sendOne(ctx, []outgoing{o}, false); err != nil {
		return driver.Half{}, asDriver(err, op)
	}
	if o.r.Status != driver.Stored {
		c.avoid.failed(o.queue.Broker) // another one may do better
		e := driver.Errorf(driver.Unavailable, op, "broker %s answers %s, which is not safe enough to begin", o.queue.Broker, o.r.Status)
		e.Retryable, e.MaybeDone = true, true
		return driver.Half{}, e
	}
	_, at, err := message.ParseOffsetID(o.r.OffsetID)
	if err != nil {
		return driver.Half{}, driver.Errorf(driver.Internal, op, "the answer has the message id %q: %w", o.r.OffsetID, err)
	}
	return driver.Half{TxID: id, Group: group, Handle: place{o.queue.Broker, at, o.r.Offset}.handle()}, nil
}

// Resolve decides a half message; see [driver.Transactor]. What one client has
// decided it does not decide otherwise; that two clients decide differently is
// refused by the bundled broker, and by RocketMQ's only within the time in
// which it has removed the half message.
func (t transactor) Resolve(ctx context.Context, h driver.Half, d driver.Decision) error {
	op := fmt.Sprintf("%s transaction %s of group %s", d, h.TxID, h.Group)
	if d != driver.Commit && d != driver.Rollback {
		return driver.Errorf(driver.InvalidArgument, op, "decision %d; it takes Commit or Rollback", d)
	}
	if err := t.c.use(ctx, op); err != nil {
		return err
	}
	at, ok := parseHandle(h.Handle)
	if !ok {
		return driver.Errorf(driver.NotFound, op, "the handle is none of this driver")
	}
	known := t.c.halves.get(txID{h.Group, h.TxID})
	known.mu.Lock()
	defer known.mu.Unlock()
	switch {
	case known.decided == d && !known.perhaps:
		return nil
	case known.decided != driver.Undecided && known.decided != d:
		return driver.Errorf(driver.FailedPrecondition, op, "its decision is %s already", known.decided)
	}
	err := t.c.decide(ctx, op, h, at, d, false)
	if err == nil || err.MaybeDone {
		known.decided, known.perhaps = d, err != nil
	}
	return asError(err)
}

// decide sends a decision and waits for the answer: what goes out one way, as
// from other clients, is lost with the connection.
func (c *conn) decide(ctx context.Context, op string, h driver.Half, at place, d driver.Decision, check bool) *driver.Error {
	addr, err := c.masterOfHandle(ctx, op, at.broker)
	if err != nil {
		return err
	}
	e := remoting.EndTransaction{
		ProducerGroup: h.Group, TranStateTableOffset: at.queue, CommitLogOffset: at.physical, Decision: remoting.DecisionCommit,
		FromCheck: check, MsgID: h.TxID, TransactionID: h.TxID, BrokerName: at.broker,
	}
	if d == driver.Rollback {
		e.Decision = remoting.DecisionRollback
	}
	req := &remoting.Command{Code: remoting.ReqEndTransaction}
	e.AppendTo(&req.Fields)
	_, err = c.call(ctx, op, addr, req, true)
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*RefusedError](err); ok {
		switch {
		case r.Code == remoting.ResIllegalOperation:
			err.Retryable = false
		case r.Code == remoting.ResSystemError && unknownHalf(r.Remark):
			err.Code, err.Retryable = driver.NotFound, false
		}
	}
	return err
}

// unknownHalf reads the remarks of RocketMQ's brokers about half messages that
// are not there, or not of that group; their code is that of every failure.
func unknownHalf(remark string) bool {
	for _, text := range []string{"Find prepared transaction message failed", "producer group wrong", "offset wrong"} {
		if strings.Contains(remark, text) {
			return true
		}
	}
	return false
}

// checker answers the check-backs of one producer group.
type checker struct {
	group string
	work  chan check
	users int // calls of Checks; guarded by conn.mu
}

// check is one check-back.
type check struct {
	half driver.Half
	at   place
	d    *driver.Delivery
	n    int
}

// waitingChecks is how many check-backs of a group wait for a goroutine; what
// is more is asked again by the broker.
const waitingChecks = 1024

// Checks answers check-backs; see [driver.Transactor].
func (t transactor) Checks(ctx context.Context, group string, parallel int, f driver.CheckFunc) error {
	op := "answer check-backs of group " + group
	if err := t.c.use(ctx, op); err != nil {
		return err
	}
	if err := driver.ValidGroup(group); err != nil {
		return invalid(op, err)
	}
	if parallel < 1 {
		return driver.Errorf(driver.InvalidArgument, op, "parallel is %d; it takes 1 or more", parallel)
	}
	k, err := t.c.joinProducers(op, group)
	if err != nil {
		return err
	}
	t.c.wantBeat()
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() { t.c.answerChecks(ctx, k, f) })
	}
	wg.Wait()
	t.c.leaveProducers(k)
	if ctx.Err() == nil {
		return closed(op)
	}
	return nil
}

// joinProducers makes the client a member of a producer group.
func (c *conn) joinProducers(op, group string) (*checker, *driver.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return nil, closed(op)
	}
	k := c.checkers[group]
	if k == nil {
		k = &checker{group: group, work: make(chan check, waitingChecks)}
		c.checkers[group] = k
	}
	k.users++
	return k, nil
}

// leaveProducers ends one membership, and tells the brokers of the last.
func (c *conn) leaveProducers(k *checker) {
	c.mu.Lock()
	k.users--
	last := k.users == 0
	if last {
		delete(c.checkers, k.group)
	}
	c.mu.Unlock()
	if !last || c.root.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.root, leaveTimeout)
	defer cancel()
	if c.beating.take(ctx) {
		defer c.beating.give()
	}
	req := &remoting.Command{Code: remoting.ReqUnregisterClient}
	remoting.UnregisterClient{ClientID: c.id, ProducerGroup: k.group}.AppendTo(&req.Fields)
	addrs, _ := c.routes.masters()
	c.tell(ctx, "leave producer group "+k.group, addrs, req) // it ends with the connection anyway
}

// beatProducers registers the producer groups at every master of the cluster: any
// of them may have halves of a member that has died.
func (c *conn) beatProducers() {
	if !c.beating.take(c.root) {
		return
	}
	defer c.beating.give()
	c.mu.Lock()
	var groups []string
	for g := range c.checkers {
		groups = append(groups, g)
	}
	c.mu.Unlock()
	if len(groups) == 0 {
		return
	}
	addrs, whole := c.routes.masters()
	if !whole {
		addrs = c.everyMaster()
	}
	ctx, cancel := context.WithTimeoutCause(c.root, c.cfg.Timeout, errAttempt)
	defer cancel()
	c.beatTo(ctx, addrs, remoting.Heartbeat{ClientID: c.id, Producers: groups}.AppendTo(nil))
}

// checkBack takes the question of a broker to a goroutine of Checks.
func (c *conn) checkBack(addr string, req *remoting.Command) {
	h, err := remoting.DecodeCheckTransaction(req.Fields)
	if err != nil {
		c.log.Warn("a check-back cannot be read", slog.String("addr", addr), slog.Any("error", err))
		return
	}
	s, _, err := message.Decode(req.Body)
	if err != nil {
		c.log.Warn("the message of a check-back cannot be read", slog.String("addr", addr), slog.Any("error", err))
		return
	}
	d, err := deliver(&s)
	if err != nil {
		c.log.Warn("the message of a check-back cannot be read", slog.String("addr", addr), slog.Any("error", err))
		return
	}
	if topic := message.Property(s.Properties, message.RealTopic); topic != "" {
		d.Topic = topic
	}
	group := message.Property(s.Properties, message.ProducerGroup)
	n, _ := strconv.Atoi(message.Property(s.Properties, message.TransactionCheckTimes))
	k := check{
		half: driver.Half{TxID: d.ID, Group: group}, d: d, n: max(n, 1),
		at: place{cmp.Or(h.BrokerName, c.routes.nameOf(addr)), h.CommitLogOffset, h.TranStateTableOffset},
	}
	k.half.Handle = k.at.handle()
	c.mu.Lock()
	g := c.checkers[group]
	c.mu.Unlock()
	if g == nil {
		return // this client has just left
	}
	select {
	case g.work <- k:
	default:
		c.log.Warn("a check-back waits for the next one: too many are under way", slog.String("group", group))
	}
}

// answerChecks is one goroutine of Checks.
func (c *conn) answerChecks(ctx context.Context, g *checker, f driver.CheckFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.root.Done():
			return
		case k := <-g.work:
			c.answerCheck(ctx, k, f)
		}
	}
}

func (c *conn) answerCheck(ctx context.Context, k check, f driver.CheckFunc) {
	d := c.ask(ctx, k, f)
	if d == driver.Undecided {
		return // the broker asks again
	}
	op := fmt.Sprintf("%s transaction %s of group %s", d, k.half.TxID, k.half.Group)
	known := c.halves.get(txID{k.half.Group, k.half.TxID})
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.decided == driver.Commit && d == driver.Commit && !known.perhaps && !c.decidesOnce {
		// RocketMQ's brokers note decisions behind their answers, and ask again if
		// they end before; a second commit would be a second message.
		return
	}
	if known.decided != driver.Undecided && known.decided != d {
		c.log.Error("a check-back was answered against the decision; the decision counts",
			slog.String("group", k.half.Group), slog.String("transaction", k.half.TxID), slog.String("decision", known.decided.String()))
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
	defer cancel()
	if err := c.decide(ctx, op, k.half, k.at, d, true); err != nil {
		c.log.Warn("the answer to a check-back was not taken; the broker asks again", slog.Any("error", err))
		return
	}
	known.decided, known.perhaps = d, false
}

// ask asks the application; its panic is no decision.
func (c *conn) ask(ctx context.Context, k check, f driver.CheckFunc) (d driver.Decision) {
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("a check-back panicked", slog.String("group", k.half.Group), slog.Any("panic", r))
			d = driver.Undecided
		}
	}()
	return f(ctx, k.half, k.d, k.n)
}

// Parked lists the half messages that the brokers have given up; they are kept
// in a topic of their own. Those of the bundled broker can still be decided;
// RocketMQ's brokers decide nothing any more, and their handles are empty.
func (t transactor) Parked(ctx context.Context, limit int) ([]driver.ParkedHalf, error) {
	const op = "list parked half messages"
	if limit < 1 {
		return nil, driver.Errorf(driver.InvalidArgument, op, "limit is %d, it takes 1 and more", limit)
	}
	if err := t.c.use(ctx, op); err != nil {
		return nil, err
	}
	r, err := t.c.routes.renew(ctx, message.CheckMaxTimeTopic, refreshGap)
	if err != nil {
		if err.Code == driver.NotFound {
			return nil, nil
		}
		return nil, asDriver(err, op)
	}
	var out []driver.ParkedHalf
	for _, q := range r.read {
		found, err := t.c.stored(ctx, q, 0, limit-len(out))
		if err != nil {
			return out, asDriver(err, op)
		}
		for _, s := range found {
			d, err := deliver(&s)
			if err != nil {
				return out, driver.Errorf(driver.Corrupt, op, "%w", err)
			}
			p := driver.ParkedHalf{Message: d, ParkedAt: time.UnixMilli(s.StoreTimestamp)}
			p.Half = driver.Half{TxID: d.ID, Group: message.Property(s.Properties, message.ProducerGroup)}
			p.Checks, _ = strconv.Atoi(message.Property(s.Properties, message.TransactionCheckTimes))
			at, _ := strconv.ParseInt(message.Property(s.Properties, message.TranPreparedQueueOffset), 10, 64)
			if s.PreparedTransactionOffset > 0 { // RocketMQ's brokers do not say where the half message was
				p.Half.Handle = place{q.Broker, s.PreparedTransactionOffset, at}.handle()
			}
			if topic := message.Property(s.Properties, message.RealTopic); topic != "" {
				d.Topic = topic
			}
			out = append(out, p)
		}
	}
	return out, nil
}
