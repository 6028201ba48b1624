package rocketmq

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// conn is one client of a cluster.
type conn struct {
	cfg    Config
	id     string
	log    *slog.Logger
	names  *nameServers
	links  *links
	routes *routes
	avoid  *avoidance
	ids    *message.UniqueIDs
	turn   atomic.Uint32 // round robin of sends
	gather *gatherer
	asks   *requester
	levels []time.Duration // of delays; nil where the brokers delay to any time
	halves *decisions
	local  *localOffsets
	began  time.Time
	// decidesOnce: the brokers are the bundled kind; set before the client is used.
	decidesOnce bool

	root    context.Context //nolint:containedctx // the life of the client, ended by Close
	end     context.CancelCauseFunc
	wg      sync.WaitGroup // the keepers, and requests that gather messages
	beat    chan struct{}  // a heartbeat is wanted now
	stale   chan string    // topics whose route may have changed
	beating turn           // as group.beating, for the producer groups

	mu       sync.Mutex
	closing  bool
	finished chan struct{} // closed when Close has done its work
	groups   map[string]*group
	checkers map[string]*checker // by producer group
}

// newConn makes a client; its goroutines end with Close.
func newConn(cfg Config, id string) *conn {
	c := &conn{
		cfg: cfg, id: id, log: cfg.Logger, ids: message.NewUniqueIDs(), avoid: newAvoidance(cfg.NoAvoidance),
		beat: make(chan struct{}, 1), stale: make(chan string, 64), beating: newTurn(), finished: make(chan struct{}),
		groups: map[string]*group{}, checkers: map[string]*checker{}, halves: newDecisions(),
		local: newLocalOffsets(cfg.OffsetDir, id, cfg.NameServers, cfg.Logger), began: time.Now(),
	}
	c.turn.Store(rand.Uint32())
	c.root, c.end = context.WithCancelCause(context.Background()) //nolint:forbidigo // the root of the client, ended by Close
	c.links = newLinks(c.root, c.dial, c.lost, cfg.Timeout, c.log)
	c.names = &nameServers{addrs: cfg.NameServers, links: c.links, timeout: cfg.Timeout}
	c.routes = newRoutes(c.names, !cfg.NoAutoCreate)
	c.gather = newGatherer(c)
	c.asks = newRequester(c)
	c.keep()
	return c
}

// dial makes a connection to a server.
func (c *conn) dial(ctx context.Context, addr string) (*rpc.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errAttempt)
	defer cancel()
	return rpc.Dial(ctx, "tcp", addr, rpc.Options{
		TLS: c.cfg.TLS, Dial: c.cfg.Dial, AccessKey: c.cfg.AccessKey, SecretKey: c.cfg.SecretKey,
		Handler: func(req *remoting.Command) *remoting.Command { return c.asked(addr, req) }, Apart: waits, Logger: c.log,
	})
}

// lost is told of a connection that ended. Members register again at once, or
// their peers would take over what they have.
func (c *conn) lost(addr string) {
	c.log.Debug("connection lost", slog.String("addr", addr))
	c.mu.Lock()
	registered := len(c.groups)+len(c.checkers) > 0
	c.mu.Unlock()
	if registered {
		c.wantBeat()
	}
}

// wantBeat asks for heartbeats now.
func (c *conn) wantBeat() {
	select {
	case c.beat <- struct{}{}:
	default:
	}
}

// suspect notes that the route of a topic may have changed.
func (c *conn) suspect(topic string) {
	select {
	case c.stale <- topic:
	default: // enough is on its way
	}
}

// call asks one server within Config.Timeout and answers only success, or a
// code of also. Changes: the request would change something.
func (c *conn) call(ctx context.Context, op, addr string, req *remoting.Command, changes bool, also ...int) (*remoting.Command, *driver.Error) {
	a, err := c.links.call(ctx, c.cfg.Timeout, addr, req)
	if err != nil {
		return nil, unanswered(ctx, op, err, changes)
	}
	if a.Code == remoting.ResSuccess {
		return a, nil
	}
	for _, code := range also {
		if a.Code == code {
			return a, nil
		}
	}
	return nil, refused(op, addr, a)
}

// master is the address of the master of a broker, which may be away.
func (c *conn) master(op, broker string) (string, *driver.Error) {
	addr, ok := c.routes.master(broker)
	if !ok {
		return "", noMaster(op, broker)
	}
	return addr, nil
}

// masterOfHandle is master for a broker that a handle names, which may be older
// than this client.
func (c *conn) masterOfHandle(ctx context.Context, op, broker string) (string, *driver.Error) {
	if _, ok := c.routes.master(broker); !ok {
		if _, err := c.masters(ctx); err != nil {
			return "", asDriver(err, op)
		}
	}
	return c.master(op, broker)
}

func noMaster(op, broker string) *driver.Error {
	e := driver.Errorf(driver.Unavailable, op, "broker %s has no master now", broker)
	e.Retryable = true
	return e
}

// use refuses what comes after Close.
func (c *conn) use(ctx context.Context, op string) *driver.Error {
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	switch {
	case closing:
		return closed(op)
	case ctx.Err() != nil:
		return driver.FromContext(ctx, op, false)
	}
	return nil
}

// spawn starts a goroutine that Close waits for; it reports false when it is too
// late for one.
func (c *conn) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.wg.Go(f)
	return true
}

// Capabilities tells what brokers of a cluster can do.
func (c *conn) Capabilities() driver.Capabilities {
	delay := driver.AnyTime
	if c.levels != nil {
		delay = driver.Levels
	}
	return driver.Capabilities{
		System: "rocketmq", Delay: delay, RetryDelay: delay, DelayLevels: slices.Clone(c.levels),
		Tags: true, SQL: true, OneWay: true, Broadcast: true, Ordered: true, Queues: true,
		DecidesOnce: c.decidesOnce, Durable: c.cfg.Durable, MaxGroup: maxGroup, MaxBody: maxBody, MaxBatch: maxBatch,
	}
}

// Extensions answers all of them, but no recall where brokers are known to have
// none: the bundled one, and those that delay by levels.
func (c *conn) Extensions() driver.Extensions {
	x := driver.Extensions{Tx: transactor{c}, Topics: topicAdmin{c}, Groups: groupAdmin{c}, Query: query{c}, Requests: c.asks}
	if c.levels == nil && !c.decidesOnce {
		x.Recall = recaller{c}
	}
	return x
}

// Health reports whether a name server answers.
func (c *conn) Health(ctx context.Context) error {
	const op = "check the cluster"
	if err := c.use(ctx, op); err != nil {
		return err
	}
	_, err := c.reach(ctx, op)
	return asError(err)
}

// reach answers the release of a name server.
func (c *conn) reach(ctx context.Context, op string) (int, *driver.Error) {
	a, addr, err := c.names.ask(ctx, &remoting.Command{
		Code: remoting.ReqGetRoute, Fields: remoting.Fields{{Name: "topic", Value: message.AutoCreateTopic}},
	})
	if err != nil {
		return 0, unanswered(ctx, op, err, false)
	}
	if a.Code != remoting.ResSuccess && a.Code != remoting.ResTopicNotExist {
		return 0, refusedRoute(op, addr, a)
	}
	return a.Version, nil
}

// meet asks whether the cluster is the bundled broker, which holds half messages
// to one decision, as RocketMQ's do not.
func (c *conn) meet(ctx context.Context) *driver.Error {
	const op = "ask what the brokers are"
	a, _, err := c.names.ask(ctx, &remoting.Command{
		Code: remoting.ReqGetKVConfig, Fields: remoting.Fields{{Name: "namespace", Value: remoting.NamespaceSelf}, {Name: "key", Value: remoting.KeyHalves}},
	})
	if err != nil {
		return unanswered(ctx, op, err, false)
	}
	c.decidesOnce = a.Code == remoting.ResSuccess && a.Fields.Get("value") == remoting.HalvesOnce
	return nil
}

// await waits for what another call of op does.
func await(ctx context.Context, done <-chan struct{}, op string) *driver.Error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return driver.FromContext(ctx, op, false)
	}
}

// Close leaves every group and ends every connection; see [driver.Conn]. When ctx
// has ended, leaving has leaveTimeout more in all, and ends with the connections.
func (c *conn) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return asError(await(ctx, c.finished, "close client "+c.id))
	}
	c.closing = true
	var subs []*subscription
	for _, g := range c.groups {
		subs = append(subs, g.all()...)
	}
	c.mu.Unlock()
	c.links.away.close()
	c.gather.close()
	c.asks.close()
	var closing sync.WaitGroup
	errs := make(chan error, len(subs))
	for _, s := range subs {
		closing.Go(func() {
			if err := s.Close(ctx); err != nil {
				errs <- err
			}
		})
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		closing.Wait()
	}()
	select {
	case <-left:
	case <-ctx.Done():
		late := time.NewTimer(leaveTimeout)
		defer late.Stop()
		select {
		case <-left:
		case <-late.C:
		}
	}
	c.end(errClosed)
	c.links.close()
	<-left
	c.wg.Wait()
	close(c.finished)
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
