package server

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// inside is a member of a group in the process of the broker: it acknowledges
// what it gets.
type inside struct {
	t    *testing.T
	mu   sync.Mutex
	has  map[string]bool
	got  []string
	wg   sync.WaitGroup
	stop map[string]context.CancelFunc
}

func newInside(t *testing.T) *inside {
	return &inside{t: t, has: map[string]bool{}, stop: map[string]context.CancelFunc{}}
}

func (m *inside) Assigned(l driver.Lane) {
	ctx, cancel := context.WithCancel(context.Background())
	m.mu.Lock()
	m.has[l.Name()], m.stop[l.Name()] = true, cancel
	m.mu.Unlock()
	m.wg.Go(func() {
		for ctx.Err() == nil {
			ds, err := l.Fetch(ctx, 16)
			if err != nil {
				return
			}
			for _, d := range ds {
				m.mu.Lock()
				m.got = append(m.got, string(d.Body))
				m.mu.Unlock()
				_ = l.Settle(context.Background(), []driver.Settlement{{Delivery: d, Outcome: driver.Ack}})
			}
		}
	})
}

func (m *inside) Revoked(_ context.Context, l driver.Lane) { m.end(l) }
func (m *inside) Lost(l driver.Lane)                       { m.end(l) }

func (m *inside) end(l driver.Lane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.has, l.Name())
	if stop := m.stop[l.Name()]; stop != nil {
		stop()
	}
}

func (m *inside) lanes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for n := range m.has {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (m *inside) received() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.got)
}

// consume registers a client as a member of a group that consumes topic.
func consume(t *testing.T, p *peer, id, group, topic string) {
	t.Helper()
	now := time.Now().UnixMilli()
	cmd := &remoting.Command{Code: remoting.ReqHeartbeat, Version: remoting.Version}
	cmd.Body = remoting.Heartbeat{ClientID: id, Consumers: []remoting.ConsumerData{{
		Group: group, ConsumeType: "CONSUME_PASSIVELY", MessageModel: remoting.Clustering, ConsumeFromWhere: "CONSUME_FROM_FIRST_OFFSET",
		Subscriptions: []remoting.SubscriptionData{
			{Topic: topic, SubString: "*", ExpressionType: remoting.ExpressionTag, SubVersion: now},
			{Topic: "%RETRY%" + group, SubString: "*", ExpressionType: remoting.ExpressionTag, SubVersion: now},
		},
	}}}.AppendTo(nil)
	if a := p.ask(cmd); a.Code != remoting.ResSuccess {
		t.Fatalf("heartbeat: %d %s", a.Code, a.Remark)
	}
}

// A member in the process and one elsewhere share a group: each gets its half
// of the queues, nobody gets what the other one has, and when one leaves the
// other goes on where it has stopped.
func TestMixedGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servePipes(t, Config{})
		s.topic(t, "T", 4)
		m := newInside(t)
		in := s.broker.Connect("A")
		sub, err := in.Subscribe(t.Context(), driver.SubscribeSpec{Group: "G", Topic: "T"}, m)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := m.lanes(); len(got) != 5 { // with the one for redeliveries
			t.Fatalf("alone it has %v", got)
		}
		p := s.dial(t)
		for i := range 8 {
			p.mustSend(outgoing("T", i%4, fmt.Sprintf("early %d", i), ""))
		}
		synctest.Wait()
		if got := m.received(); len(got) != 8 {
			t.Fatalf("alone it got %v", got)
		}
		consume(t, p, "B", "G", "T")
		synctest.Wait()
		if got, want := m.lanes(), []string{"%RETRY%G/0", "T/0", "T/1"}; !slices.Equal(got, want) {
			t.Fatalf("with a second member it has %v, want %v", got, want)
		}
		a := p.ask(request(remoting.ReqGetConsumerListByGroup, "consumerGroup", "G"))
		list, err := remoting.DecodeConsumerList(a.Body)
		if err != nil || !slices.Equal(list.ClientIDs, []string{"A", "B"}) {
			t.Fatalf("members %v %v", list, err)
		}
		for i := range 8 {
			p.mustSend(outgoing("T", i%4, fmt.Sprintf("late %d", i), ""))
		}
		synctest.Wait()
		if got := m.received(); len(got) != 12 {
			t.Errorf("the member in the process got %d messages, want 12", len(got))
		}
		for queue := range 4 {
			pairs := []string{"consumerGroup", "G", "topic", "T", "queueId", strconv.Itoa(queue)}
			at := p.ask(request(remoting.ReqQueryConsumerOffset, pairs...)).Fields.Get("offset")
			x := pulling("G", "T", queue, 2)
			x.SysFlag = 0
			code, _, ms := p.pull(x)
			if queue < 2 {
				if code != remoting.ResPullNotFound || at != "4" {
					t.Errorf("queue %d belongs to the member in the process: pull %d, position %s", queue, code, at)
				}
				p.ask(request(remoting.ReqUpdateConsumerOffset, append(pairs, "commitOffset", "1")...))
				if at = p.ask(request(remoting.ReqQueryConsumerOffset, pairs...)).Fields.Get("offset"); at != "4" {
					t.Errorf("a commit from elsewhere has moved queue %d to %s", queue, at)
				}
				continue
			}
			if code != remoting.ResSuccess || len(ms) != 2 || at != "2" {
				t.Errorf("queue %d: pull %d with %d messages, position %s", queue, code, len(ms), at)
			}
			p.ask(request(remoting.ReqUpdateConsumerOffset, append(pairs, "commitOffset", "3")...))
		}
		// The client goes: its queues come back, from where it has committed.
		_ = p.Close()
		synctest.Wait()
		time.Sleep(3 * time.Second)
		if got := m.lanes(); len(got) != 5 {
			t.Errorf("alone again it has %v", got)
		}
		if got := m.received(); len(got) != 14 {
			t.Errorf("alone again it got %d messages, want 14: the last one of each queue that came back", len(got))
		}
		if err := sub.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := in.Close(t.Context()); err != nil {
			t.Error(err)
		}
		m.wg.Wait()
	})
}
