package drivertest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/faulty"
)

// mutant is a correct driver with one deliberate mistake.
type mutant struct {
	name string
	// caughtBy is the test that must fail, as group/test.
	caughtBy string
	// wrap makes the mistake on a client.
	wrap func(t testing.TB, c driver.Conn) driver.Conn
}

// twisted is a Conn some of whose parts are replaced.
type twisted struct {
	driver.Conn
	send      func(ctx context.Context, req driver.SendRequest) []driver.SendResult
	subscribe func(s driver.SubscribeSpec) driver.SubscribeSpec
	caps      func(c *driver.Capabilities)
	tx        func(driver.Transactor) driver.Transactor
	requests  func(driver.Requester) driver.Requester
	recall    func(driver.Recaller) driver.Recaller
	close     func(ctx context.Context) error
	events    func(driver.LaneEvents) driver.LaneEvents
	lane      func(driver.Lane) driver.Lane
}

func (c *twisted) Capabilities() driver.Capabilities {
	caps := c.Conn.Capabilities()
	if c.caps != nil {
		c.caps(&caps)
	}
	return caps
}

func (c *twisted) Send(ctx context.Context, req driver.SendRequest) []driver.SendResult {
	if c.send != nil {
		return c.send(ctx, req)
	}
	return c.Conn.Send(ctx, req)
}

func (c *twisted) Extensions() driver.Extensions {
	x := c.Conn.Extensions()
	if c.tx != nil && x.Tx != nil {
		x.Tx = c.tx(x.Tx)
	}
	if c.requests != nil && x.Requests != nil {
		x.Requests = c.requests(x.Requests)
	}
	if c.recall != nil && x.Recall != nil {
		x.Recall = c.recall(x.Recall)
	}
	return x
}

func (c *twisted) Subscribe(ctx context.Context, s driver.SubscribeSpec, ev driver.LaneEvents) (driver.Subscription, error) {
	if c.subscribe != nil {
		s = c.subscribe(s)
	}
	if c.events != nil {
		ev = c.events(ev)
	}
	if c.lane != nil {
		ev = &twistedEvents{LaneEvents: ev, twist: c.lane, lanes: map[driver.Lane]driver.Lane{}}
	}
	return c.Conn.Subscribe(ctx, s, ev)
}

func (c *twisted) Close(ctx context.Context) error {
	if c.close != nil {
		return c.close(ctx)
	}
	return c.Conn.Close(ctx)
}

// twistedEvents replaces lanes.
type twistedEvents struct {
	driver.LaneEvents
	twist func(driver.Lane) driver.Lane
	mu    sync.Mutex
	lanes map[driver.Lane]driver.Lane
}

func (e *twistedEvents) of(l driver.Lane) driver.Lane {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lanes[l] == nil {
		e.lanes[l] = e.twist(l)
	}
	return e.lanes[l]
}

func (e *twistedEvents) Assigned(l driver.Lane) { e.LaneEvents.Assigned(e.of(l)) }
func (e *twistedEvents) Revoked(ctx context.Context, l driver.Lane) {
	e.LaneEvents.Revoked(ctx, e.of(l))
}
func (e *twistedEvents) Lost(l driver.Lane) { e.LaneEvents.Lost(e.of(l)) }

// twistedLane replaces Fetch, Settle or Seek of a lane.
type twistedLane struct {
	driver.Lane
	fetch  func(ctx context.Context, limit int) ([]*driver.Delivery, error)
	settle func(ctx context.Context, ss []driver.Settlement) error
	seek   func(ctx context.Context, p driver.Position) error
}

func (l *twistedLane) Fetch(ctx context.Context, limit int) ([]*driver.Delivery, error) {
	if l.fetch != nil {
		return l.fetch(ctx, limit)
	}
	return l.Lane.Fetch(ctx, limit)
}

func (l *twistedLane) Settle(ctx context.Context, ss []driver.Settlement) error {
	if l.settle != nil {
		return l.settle(ctx, ss)
	}
	return l.Lane.Settle(ctx, ss)
}

func (l *twistedLane) Seek(ctx context.Context, p driver.Position) error {
	if l.seek != nil {
		return l.seek(ctx, p)
	}
	return l.Lane.Seek(ctx, p)
}

// onLane is a mutant of lanes.
func onLane(twist func(driver.Lane) driver.Lane) func(testing.TB, driver.Conn) driver.Conn {
	return func(_ testing.TB, c driver.Conn) driver.Conn { return &twisted{Conn: c, lane: twist} }
}

// onSettle is a mutant that changes settlements.
func onSettle(change func(s *driver.Settlement)) func(testing.TB, driver.Conn) driver.Conn {
	return onLane(func(l driver.Lane) driver.Lane {
		return &twistedLane{Lane: l, settle: func(ctx context.Context, ss []driver.Settlement) error {
			ss = slices.Clone(ss)
			for i := range ss {
				change(&ss[i])
			}
			return l.Settle(ctx, ss)
		}}
	})
}

// onFetch is a mutant that changes deliveries.
func onFetch(change func(ds []*driver.Delivery) []*driver.Delivery) func(testing.TB, driver.Conn) driver.Conn {
	return onLane(func(l driver.Lane) driver.Lane {
		return &twistedLane{Lane: l, fetch: func(ctx context.Context, limit int) ([]*driver.Delivery, error) {
			ds, err := l.Fetch(ctx, limit)
			return change(ds), err
		}}
	})
}

// onMessage is a mutant that changes what is sent.
func onMessage(change func(m *driver.Message)) func(testing.TB, driver.Conn) driver.Conn {
	return func(_ testing.TB, c driver.Conn) driver.Conn {
		return &twisted{Conn: c, send: func(ctx context.Context, req driver.SendRequest) []driver.SendResult {
			ms := make([]*driver.Message, len(req.Messages))
			for i, m := range req.Messages {
				copied := *m
				copied.Properties = maps.Clone(m.Properties)
				change(&copied)
				ms[i] = &copied
			}
			return c.Send(ctx, driver.SendRequest{Messages: ms, NoAck: req.NoAck})
		}}
	}
}

// onTx is a mutant of transactions.
func onTx(twist func(c driver.Conn, t driver.Transactor) driver.Transactor) func(testing.TB, driver.Conn) driver.Conn {
	return func(_ testing.TB, c driver.Conn) driver.Conn {
		return &twisted{Conn: c, tx: func(t driver.Transactor) driver.Transactor { return twist(c, t) }}
	}
}

// twistedTx replaces parts of a Transactor.
type twistedTx struct {
	driver.Transactor
	prepare func(ctx context.Context, group string, m *driver.Message) (driver.Half, error)
	resolve func(ctx context.Context, h driver.Half, d driver.Decision) error
	checks  func(f driver.CheckFunc) driver.CheckFunc
}

func (t *twistedTx) Prepare(ctx context.Context, group string, m *driver.Message) (driver.Half, error) {
	if t.prepare != nil {
		return t.prepare(ctx, group, m)
	}
	return t.Transactor.Prepare(ctx, group, m)
}

func (t *twistedTx) Resolve(ctx context.Context, h driver.Half, d driver.Decision) error {
	if t.resolve != nil {
		return t.resolve(ctx, h, d)
	}
	return t.Transactor.Resolve(ctx, h, d)
}

func (t *twistedTx) Checks(ctx context.Context, group string, parallel int, f driver.CheckFunc) error {
	if t.checks != nil {
		f = t.checks(f)
	}
	return t.Transactor.Checks(ctx, group, parallel, f)
}

func mutants() []mutant {
	return slices.Concat(laneMutants(), settleMutants(), sendMutants(), txMutants(), clientMutants(), askingMutants())
}

func laneMutants() []mutant {
	return []mutant{
		{"delivers after Revoked", "lanes/nothing_fetched_after_revoked", onLane(func(l driver.Lane) driver.Lane {
			return &twistedLane{Lane: l, fetch: func(ctx context.Context, limit int) ([]*driver.Delivery, error) {
				ds, err := l.Fetch(ctx, limit)
				if driver.CodeOf(err) == driver.LaneLost {
					return []*driver.Delivery{{Message: driver.Message{Body: []byte("left in the buffer")}, Attempt: 1}}, nil
				}
				return ds, err
			}}
		})},
		{"gives the lane away while Revoked runs", "lanes/revoked_blocks_handover", func(t testing.TB, c driver.Conn) driver.Conn {
			return &twisted{Conn: c, events: func(ev driver.LaneEvents) driver.LaneEvents {
				h := &hasty{LaneEvents: ev}
				t.Cleanup(h.wg.Wait)
				return h
			}}
		}},
		{"accepts settlements of a lost lane", "lanes/revoke_timeout_loses", onLane(func(l driver.Lane) driver.Lane {
			return &twistedLane{Lane: l, settle: func(ctx context.Context, ss []driver.Settlement) error {
				if err := l.Settle(ctx, ss); driver.CodeOf(err) != driver.LaneLost {
					return err
				}
				return nil
			}}
		})},
		{"ignores Seek", "seek/positions", onLane(func(l driver.Lane) driver.Lane {
			return &twistedLane{Lane: l, seek: func(context.Context, driver.Position) error { return nil }}
		})},
		{"does not clamp: refuses positions beyond the end", "seek/beyond_the_ends", onLane(func(l driver.Lane) driver.Lane {
			return &twistedLane{Lane: l, seek: func(ctx context.Context, p driver.Position) error {
				if p.Kind == driver.AtOffset && p.Offset > 1000 {
					return driver.Errorf(driver.InvalidArgument, "seek", "beyond the end")
				}
				return l.Seek(ctx, p)
			}}
		})},
		{"exceeds the limit of Fetch", "fetch/limit", onLane(func(l driver.Lane) driver.Lane {
			return &twistedLane{Lane: l, fetch: func(ctx context.Context, limit int) ([]*driver.Delivery, error) {
				if limit > 0 {
					limit++
				}
				return l.Fetch(ctx, limit)
			}}
		})},
		{"reverses a batch", "order/same_key_same_lane", onFetch(func(ds []*driver.Delivery) []*driver.Delivery {
			slices.Reverse(ds)
			return ds
		})},
	}
}

// hasty does not wait for Revoked.
type hasty struct {
	driver.LaneEvents
	wg sync.WaitGroup
}

func (h *hasty) Revoked(ctx context.Context, l driver.Lane) {
	h.wg.Go(func() { h.LaneEvents.Revoked(ctx, l) })
}

func settleMutants() []mutant {
	return []mutant{
		{"counts Return as an attempt", "settle/return_counts_no_attempt", onSettle(func(s *driver.Settlement) {
			if s.Outcome == driver.Return {
				s.Outcome = driver.Retry
			}
		})},
		{"does not count Retry", "settle/retry_counts_an_attempt", onSettle(func(s *driver.Settlement) {
			if s.Outcome == driver.Retry {
				s.Outcome = driver.Return
			}
		})},
		{"loses what is retried", "settle/retry_counts_an_attempt", onSettle(func(s *driver.Settlement) {
			if s.Outcome == driver.Retry {
				s.Outcome = driver.Ack
			}
		})},
		{"retries at once", "delay/retry", onSettle(func(s *driver.Settlement) { s.Delay = 0 })},
		{"loses the properties of dead letters", "dead_letter/keeps_message_and_origin", onSettle(func(s *driver.Settlement) { s.Properties = nil })},
		{"loses the origin of dead letters", "dead_letter/keeps_message_and_origin", onFetch(func(ds []*driver.Delivery) []*driver.Delivery {
			for _, d := range ds {
				delete(d.Properties, driver.DeadTopic)
			}
			return ds
		})},
		{"acknowledges up to the highest offset", "settle/ack_highest_first_keeps_the_rest", onLane(ackHighest)},
		{"forgets acknowledgements at the end of a lane", "settle/ack_out_of_order", onLane(func(l driver.Lane) driver.Lane {
			return &twistedLane{Lane: l, settle: func(ctx context.Context, ss []driver.Settlement) error {
				return l.Settle(ctx, slices.DeleteFunc(slices.Clone(ss), func(s driver.Settlement) bool { return s.Outcome == driver.Ack }))
			}}
		})},
	}
}

// ackHighest commits like a client that stores the last offset it has seen.
func ackHighest(l driver.Lane) driver.Lane {
	var mu sync.Mutex
	var open []*driver.Delivery
	return &twistedLane{
		Lane: l,
		fetch: func(ctx context.Context, limit int) ([]*driver.Delivery, error) {
			ds, err := l.Fetch(ctx, limit)
			mu.Lock()
			defer mu.Unlock()
			open = append(open, ds...)
			return ds, err
		},
		settle: func(ctx context.Context, ss []driver.Settlement) error {
			ss = slices.Clone(ss)
			mu.Lock()
			for _, s := range ss {
				for _, d := range open {
					if s.Outcome == driver.Ack && s.Delivery != nil && d.Offset < s.Delivery.Offset {
						ss = append(ss, driver.Settlement{Delivery: d, Outcome: driver.Ack})
					}
				}
			}
			mu.Unlock()
			return l.Settle(ctx, ss)
		},
	}
}

func sendMutants() []mutant {
	return []mutant{
		{"ignores the due time", "delay/send_until_due", onMessage(func(m *driver.Message) { m.DeliverAt = time.Time{} })},
		{"delivers half a second early", "delay/send_until_due", onMessage(func(m *driver.Message) {
			if !m.DeliverAt.IsZero() {
				m.DeliverAt = m.DeliverAt.Add(-500 * time.Millisecond)
			}
		})},
		{"delivers two seconds late", "delay/send_until_due", onMessage(func(m *driver.Message) {
			if !m.DeliverAt.IsZero() {
				m.DeliverAt = m.DeliverAt.Add(2 * time.Second)
			}
		})},
		{"ends bodies at a NUL", "round_trip/bodies", onMessage(func(m *driver.Message) {
			if i := strings.IndexByte(string(m.Body), 0); i >= 0 {
				m.Body = m.Body[:i]
			}
		})},
		{"lowers the case of property names", "round_trip/properties", onMessage(func(m *driver.Message) {
			for k, v := range m.Properties {
				delete(m.Properties, k)
				m.Properties[strings.ToLower(k)] = v
			}
		})},
		{"ignores the ordering key", "order/same_key_same_lane", onMessage(func(m *driver.Message) { m.OrderingKey = "" })},
		{"ignores the queue", "send/queue", onMessage(func(m *driver.Message) { m.QueueSet = false })},
		{"stores one batch backwards", "send/order_in_one_call", func(_ testing.TB, c driver.Conn) driver.Conn {
			return &twisted{Conn: c, send: func(ctx context.Context, req driver.SendRequest) []driver.SendResult {
				ms := slices.Clone(req.Messages)
				slices.Reverse(ms)
				rs := c.Send(ctx, driver.SendRequest{Messages: ms, NoAck: req.NoAck})
				slices.Reverse(rs)
				return rs
			}}
		}},
		{"says not done of what it has done", "context/send_with_ended_ctx", func(_ testing.TB, c driver.Conn) driver.Conn {
			return &twisted{Conn: c, send: func(ctx context.Context, req driver.SendRequest) []driver.SendResult {
				rs := c.Send(context.WithoutCancel(ctx), req)
				if ctx.Err() != nil {
					for i := range rs {
						rs[i].Status, rs[i].Err = driver.NotStored, driver.FromContext(ctx, "send", false)
					}
				}
				return rs
			}}
		}},
		{"stores twice", "send/concurrent", func(_ testing.TB, c driver.Conn) driver.Conn {
			f := faulty.New()
			_ = f.Duplicate(faulty.Send, -1)
			return faulty.Conn(c, f)
		}},
		{"delivers twice", "settle/retry_counts_an_attempt", func(_ testing.TB, c driver.Conn) driver.Conn {
			f := faulty.New()
			_ = f.Duplicate(faulty.Fetch, -1)
			return faulty.Conn(c, f)
		}},
		{"loses every tenth message", "send/order_over_calls", func(_ testing.TB, c driver.Conn) driver.Conn {
			n := 0
			return &twisted{Conn: c, send: func(ctx context.Context, req driver.SendRequest) []driver.SendResult {
				if n++; n%10 == 0 {
					return []driver.SendResult{{ID: "LOST", Lane: "x", OffsetID: "x", Status: driver.Stored}}
				}
				return c.Send(ctx, req)
			}}
		}},
	}
}

func txMutants() []mutant {
	return []mutant{
		{"commits a half message once more with every repeat", "half/decisions_repeat_and_absorb", onTx(func(c driver.Conn, t driver.Transactor) driver.Transactor {
			kept := map[string]driver.Message{}
			return &twistedTx{
				Transactor: t,
				prepare: func(ctx context.Context, group string, m *driver.Message) (driver.Half, error) {
					h, err := t.Prepare(ctx, group, m)
					kept[h.TxID] = *m
					return h, err
				},
				resolve: func(ctx context.Context, h driver.Half, d driver.Decision) error {
					err := t.Resolve(ctx, h, d)
					if m, ok := kept[h.TxID]; ok && err == nil && d == driver.Commit {
						c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{&m}})
					}
					return err
				},
			}
		})},
		{"accepts the opposite decision", "half/decisions_repeat_and_absorb", onTx(func(_ driver.Conn, t driver.Transactor) driver.Transactor {
			return &twistedTx{Transactor: t, resolve: func(ctx context.Context, h driver.Half, d driver.Decision) error {
				if err := t.Resolve(ctx, h, d); driver.CodeOf(err) != driver.FailedPrecondition {
					return err
				}
				return nil
			}}
		})},
		{"prepares twice", "half/prepare_twice_is_one_half", onTx(func(_ driver.Conn, t driver.Transactor) driver.Transactor {
			n := 0
			return &twistedTx{Transactor: t, prepare: func(ctx context.Context, group string, m *driver.Message) (driver.Half, error) {
				if n++; n > 1 {
					other := *m
					other.ID = ""
					return t.Prepare(ctx, group, &other)
				}
				return t.Prepare(ctx, group, m)
			}}
		})},
		{"shows half messages at once", "half/invisible_until_commit", onTx(func(c driver.Conn, t driver.Transactor) driver.Transactor {
			return &twistedTx{Transactor: t, prepare: func(ctx context.Context, group string, m *driver.Message) (driver.Half, error) {
				c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{m}})
				return t.Prepare(ctx, group, m)
			}}
		})},
		{"resolves for any group", "half/other_group_is_refused", onTx(func(_ driver.Conn, t driver.Transactor) driver.Transactor {
			return &twistedTx{Transactor: t, resolve: func(ctx context.Context, h driver.Half, d driver.Decision) error {
				h.Group = "producers"
				return t.Resolve(ctx, h, d)
			}}
		})},
		{"does not count checks", "check_back/counts_and_spaces", onTx(func(_ driver.Conn, t driver.Transactor) driver.Transactor {
			return &twistedTx{Transactor: t, checks: func(f driver.CheckFunc) driver.CheckFunc {
				return func(ctx context.Context, h driver.Half, d *driver.Delivery, _ int) driver.Decision {
					return f(ctx, h, d, 1)
				}
			}}
		})},
		{"takes undecided for a rollback", "check_back/parked_and_resolved", onTx(func(_ driver.Conn, t driver.Transactor) driver.Transactor {
			return &twistedTx{Transactor: t, checks: func(f driver.CheckFunc) driver.CheckFunc {
				return func(ctx context.Context, h driver.Half, d *driver.Delivery, n int) driver.Decision {
					if got := f(ctx, h, d, n); got != driver.Undecided {
						return got
					}
					return driver.Rollback
				}
			}}
		})},
	}
}

func clientMutants() []mutant {
	return []mutant{
		{"ignores the filter", "filter/one_tag", func(_ testing.TB, c driver.Conn) driver.Conn {
			return &twisted{Conn: c, subscribe: func(s driver.SubscribeSpec) driver.SubscribeSpec { s.Filter = driver.Filter{}; return s }}
		}},
		{"shares a broadcast", "broadcast/everybody_gets_everything", func(_ testing.TB, c driver.Conn) driver.Conn {
			return &twisted{Conn: c, subscribe: func(s driver.SubscribeSpec) driver.SubscribeSpec { s.Broadcast = false; return s }}
		}},
		{"starts new groups at the end", "settle/unsettled_comes_again", func(_ testing.TB, c driver.Conn) driver.Conn {
			return &twisted{Conn: c, lane: func(l driver.Lane) driver.Lane {
				first := true
				return &twistedLane{Lane: l, fetch: func(ctx context.Context, limit int) ([]*driver.Delivery, error) {
					if first {
						first = false
						_ = l.Seek(ctx, driver.Position{Kind: driver.Latest})
					}
					return l.Fetch(ctx, limit)
				}}
			}}
		}},
		{"fails the second Close", "close/twice", func(_ testing.TB, c driver.Conn) driver.Conn {
			closed := false
			return &twisted{Conn: c, close: func(ctx context.Context) error {
				if closed {
					return errors.New("close of a closed client")
				}
				closed = true
				return c.Close(ctx)
			}}
		}},
		{"leaves a goroutine behind", "close/twice", func(t testing.TB, c driver.Conn) driver.Conn {
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { <-stop })
			t.Cleanup(func() { close(stop); wg.Wait() }) // after the suite has looked
			return c
		}},
		{"claims SQL without having it", "filter/sql", func(_ testing.TB, c driver.Conn) driver.Conn {
			return &twisted{
				Conn: c, caps: func(caps *driver.Capabilities) { caps.SQL = true },
				subscribe: func(s driver.SubscribeSpec) driver.SubscribeSpec { s.Filter = driver.Filter{}; return s },
			}
		}},
		{"denies tags that it has", "honesty/unsupported_is_refused", func(_ testing.TB, c driver.Conn) driver.Conn {
			return &twisted{Conn: c, caps: func(caps *driver.Capabilities) { caps.Tags = false }}
		}},
	}
}

// twistedRequester replaces Request or Reply.
type twistedRequester struct {
	driver.Requester
	request func(ctx context.Context, m *driver.Message) (*driver.Message, error)
	reply   func(ctx context.Context, request *driver.Delivery, m *driver.Message) error
}

func (r *twistedRequester) Request(ctx context.Context, m *driver.Message) (*driver.Message, error) {
	if r.request != nil {
		return r.request(ctx, m)
	}
	return r.Requester.Request(ctx, m)
}

func (r *twistedRequester) Reply(ctx context.Context, request *driver.Delivery, m *driver.Message) error {
	if r.reply != nil {
		return r.reply(ctx, request, m)
	}
	return r.Requester.Reply(ctx, request, m)
}

// onRequests is a mutant of requests and replies.
func onRequests(twist func(r driver.Requester) *twistedRequester) func(testing.TB, driver.Conn) driver.Conn {
	return func(_ testing.TB, c driver.Conn) driver.Conn {
		return &twisted{Conn: c, requests: func(r driver.Requester) driver.Requester {
			out := twist(r)
			out.Requester = r
			return out
		}}
	}
}

// forgetful recalls nothing.
type forgetful struct{ driver.Recaller }

func (forgetful) Recall(context.Context, string, string) error { return nil }

func askingMutants() []mutant {
	return []mutant{
		{"loses the properties of a reply", "request/round_trip", onRequests(func(r driver.Requester) *twistedRequester {
			return &twistedRequester{reply: func(ctx context.Context, request *driver.Delivery, m *driver.Message) error {
				if m == nil {
					return r.Reply(ctx, request, m)
				}
				bare := *m
				bare.Properties = nil
				return r.Reply(ctx, request, &bare)
			}}
		})},
		{"says that a request without a reply was not sent", "request/no_reply", onRequests(func(r driver.Requester) *twistedRequester {
			return &twistedRequester{request: func(ctx context.Context, m *driver.Message) (*driver.Message, error) {
				got, err := r.Request(ctx, m)
				if e, ok := errors.AsType[*driver.Error](err); ok {
					e.MaybeDone = false
				}
				return got, err
			}}
		})},
		{"does not notice that the requester is gone", "request/requester_is_gone", onRequests(func(r driver.Requester) *twistedRequester {
			return &twistedRequester{reply: func(ctx context.Context, request *driver.Delivery, m *driver.Message) error {
				err := r.Reply(ctx, request, m)
				if driver.CodeOf(err) == driver.NotFound {
					return nil
				}
				return err
			}}
		})},
		{"recalls nothing", "recall/is_not_delivered", func(_ testing.TB, c driver.Conn) driver.Conn {
			return &twisted{Conn: c, recall: func(r driver.Recaller) driver.Recaller { return forgetful{r} }}
		}},
	}
}
