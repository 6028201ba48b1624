package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

// dead is an address where nobody listens: a port that was just given back.
func dead(t *testing.T) string {
	t.Helper()
	var addr string
	t.Run("dead", func(t *testing.T) { addr = newFake(t).addr })
	return addr
}

// The first name server that answers is asked, and a broker that is away does
// not hide what the others tell.
func TestCluster_Outages(t *testing.T) {
	t.Parallel()
	gone := dead(t)
	names, a := newFake(t), newFake(t)
	names.names("orders", 2, a, &fake{addr: gone})
	a.on(remoting.ReqGetTopicStats, func(_, resp *remoting.Command) {
		resp.Body = remoting.TopicStats{Queues: []remoting.QueueStats{{MessageQueue: remoting.MessageQueue{Topic: "orders", Broker: "broker-a", Queue: 1}, Min: 3, Max: 7}}}.AppendTo(nil)
	})
	c := open(t, cluster.Config{}, gone, names.addr)
	for range 2 {
		brokers, err := c.Brokers(t.Context())
		if err != nil || len(brokers) != 2 || brokers[0].Addr != a.addr {
			t.Fatalf("brokers %v, %v", brokers, err)
		}
	}
	d, err := c.TopicDetail(t.Context(), "orders")
	if len(d.Queues) != 1 || d.Messages != 4 || !isUnreachable(err) || !strings.Contains(err.Error(), gone) {
		t.Errorf("detail %+v, %v", d, err)
	}
	c = open(t, cluster.Config{}, gone)
	if _, err := c.Brokers(t.Context()); !isUnreachable(err) {
		t.Errorf("without a name server: %v", err)
	}
}

// What may have been done is said, what cannot have been is not.
func TestCluster_MaybeDone(t *testing.T) {
	t.Parallel()
	names, b := newFake(t), newFake(t)
	names.names("orders", 1, b)
	hang := make(chan struct{})
	defer close(hang)
	b.on(remoting.ReqSendMessageV2, func(_, resp *remoting.Command) { resp.Flag = 0 })
	b.on(remoting.ReqGetMinOffset, func(_, _ *remoting.Command) { <-hang })
	c := open(t, cluster.Config{}, names.addr)
	s, err := c.Sender(t.Context(), "orders", cluster.Selection{Queue: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Send(t.Context(), cluster.Outgoing{Body: []byte("x")})
	if e, ok := errors.AsType[*cluster.UnreachableError](err); !ok || !e.MaybeDone || !strings.HasSuffix(err.Error(), "it may have been done all the same") {
		t.Errorf("a send whose connection was lost: %v", err)
	}
	c = open(t, cluster.Config{Timeout: time.Second}, names.addr)
	_, err = c.Browse(t.Context(), "orders", cluster.BrowseOptions{Queues: cluster.Selection{Queue: -1}, Limit: 1})
	if e, ok := errors.AsType[*cluster.UnreachableError](err); !ok || e.MaybeDone || !strings.Contains(err.Error(), "no answer within 1s") {
		t.Errorf("a read without an answer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Brokers(ctx); !errors.Is(err, context.Canceled) || isUnreachable(err) {
		t.Errorf("interrupted: %v", err)
	}
}

// What was under way when its user ended it may have been done, too.
func TestCluster_InterruptedMaybeDone(t *testing.T) {
	t.Parallel()
	names, b := newFake(t), newFake(t)
	names.names("orders", 1, b)
	hang := make(chan struct{})
	defer close(hang)
	for code, change := range map[int]func(ctx context.Context, c *cluster.Cluster) error{
		remoting.ReqSendMessageV2: func(ctx context.Context, c *cluster.Cluster) error {
			s, err := c.Sender(ctx, "orders", cluster.Selection{Queue: -1})
			if err != nil {
				return err
			}
			_, err = s.Send(ctx, cluster.Outgoing{Body: []byte("x")})
			return err
		},
		remoting.ReqDeleteTopicInBroker: func(ctx context.Context, c *cluster.Cluster) error { return c.DeleteTopic(ctx, "orders") },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		b.on(code, func(_, _ *remoting.Command) {
			cancel()
			<-hang
		})
		if err := change(ctx, open(t, cluster.Config{}, names.addr)); !errors.Is(err, context.Canceled) || !cluster.MaybeDone(err) {
			t.Errorf("%s: %v", remoting.RequestName(code), err)
		}
		cancel()
	}
}

// Brokers before RocketMQ 5 leave positions of groups without members to the
// tool, and cannot move one queue.
func TestCluster_ResetBefore5(t *testing.T) {
	t.Parallel()
	names, b := newFake(t), newFake(t)
	names.names("orders", 2, b)
	b.version = remoting.VersionOf(4, 9, 8)
	b.on(remoting.ReqGetMinOffset, offset(10))
	b.on(remoting.ReqGetMaxOffset, offset(50))
	b.on(remoting.ReqSearchOffsetByTimestamp, offset(30))
	b.code(remoting.ReqQueryConsumerOffset, remoting.ResQueryNotFound, "")
	b.on(remoting.ReqGetAllGroupConfig, func(_, resp *remoting.Command) { resp.Body = remoting.GroupTable{}.AppendTo(nil) })
	b.code(remoting.ReqInvokeBrokerToResetOffset, remoting.ResConsumerNotOnline, "not online")
	b.code(remoting.ReqUpdateConsumerOffset, remoting.ResSuccess, "")
	c := open(t, cluster.Config{}, names.addr)
	all := cluster.Selection{Queue: -1}
	for _, x := range []struct {
		to   cluster.Point
		want int64
		ms   string
	}{
		{cluster.Point{Kind: cluster.First}, 10, "0"},
		{cluster.Point{Kind: cluster.Last}, 50, "-1"},
		{cluster.Point{Kind: cluster.AtTime, Time: time.UnixMilli(1700000000000)}, 30, "1700000000000"},
	} {
		before := len(b.requests(remoting.ReqUpdateConsumerOffset))
		moves, err := c.Reset(t.Context(), "g", "orders", all, x.to)
		if err != nil || len(moves) != 2 || moves[1].To != x.want || moves[1].Queue != 1 || moves[1].From != nil {
			t.Errorf("to %+v: %+v, %v", x.to, moves, err)
		}
		commits := b.requests(remoting.ReqUpdateConsumerOffset)[before:]
		if len(commits) != 2 || commits[0].Fields.Get("commitOffset") != fmt.Sprint(x.want) {
			t.Errorf("to %+v: committed %+v", x.to, commits)
		}
		resets := b.requests(remoting.ReqInvokeBrokerToResetOffset)
		if got := resets[len(resets)-1].Fields.Get("timestamp"); got != x.ms {
			t.Errorf("to %+v: timestamp %s, want %s", x.to, got, x.ms)
		}
	}
	n := len(b.requests(remoting.ReqInvokeBrokerToResetOffset))
	_, err := c.Reset(t.Context(), "g", "orders", cluster.Selection{Queue: 0}, cluster.Point{Kind: cluster.First})
	if e, ok := errors.AsType[*cluster.RefusedError](err); !ok || e.Code != remoting.ResUnsupported {
		t.Errorf("one queue: %v", err)
	}
	if len(b.requests(remoting.ReqInvokeBrokerToResetOffset)) != n {
		t.Error("a broker that would move every queue was asked to move one")
	}
}

// RocketMQ wants the group of redrives to be there before its positions.
func TestCluster_RedriveMakesItsGroup(t *testing.T) {
	t.Parallel()
	names, b := newFake(t), newFake(t)
	names.names("%DLQ%g", 1, b)
	b.on(remoting.ReqGetMinOffset, offset(0))
	b.on(remoting.ReqGetMaxOffset, offset(2))
	b.code(remoting.ReqQueryConsumerOffset, remoting.ResQueryNotFound, "")
	b.on(remoting.ReqPullMessage, func(req, resp *remoting.Command) {
		at := req.Fields.Get("queueOffset")
		x := remoting.PullResult{NextBeginOffset: 2, MaxOffset: 2}
		if x.AppendTo(&resp.Fields); at == "0" {
			resp.Body = append(record(t, 0, ""), record(t, 1, "")...)
		}
	})
	sent := int64(0)
	b.on(remoting.ReqSendMessageV2, func(_, resp *remoting.Command) {
		remoting.SendResult{MsgID: "X", QueueOffset: sent, Region: "R"}.AppendTo(&resp.Fields)
		sent++
	})
	made := false
	b.on(remoting.ReqUpdateConsumerOffset, func(_, resp *remoting.Command) {
		if !made {
			resp.Code = remoting.ResGroupNotExist
		}
	})
	b.on(remoting.ReqCreateGroup, func(_, _ *remoting.Command) { made = true })
	c := open(t, cluster.Config{}, names.addr)
	var told []int64
	err := c.Redrive(t.Context(), "g", cluster.RedriveOptions{Rate: 1000, To: "%DLQ%g"}, func(r cluster.Redriven) error {
		told = append(told, r.QueueOffset)
		return nil
	})
	if err != nil || len(told) != 2 || len(b.requests(remoting.ReqCreateGroup)) != 1 {
		t.Fatalf("told %v, %v", told, err)
	}
	// One that is interrupted notes what it has sent.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := len(b.requests(remoting.ReqUpdateConsumerOffset))
	b.on(remoting.ReqSendMessageV2, func(_, resp *remoting.Command) {
		cancel()
		remoting.SendResult{MsgID: "X", Region: "R"}.AppendTo(&resp.Fields)
	})
	told = nil
	err = c.Redrive(ctx, "g", cluster.RedriveOptions{Rate: 1e6, To: "%DLQ%g"}, func(r cluster.Redriven) error {
		told = append(told, r.QueueOffset)
		return nil
	})
	if noted := len(b.requests(remoting.ReqUpdateConsumerOffset)) - before; !errors.Is(err, context.Canceled) || len(told) != 1 || noted != 1 {
		t.Errorf("interrupted: told %v, noted %d, %v", told, noted, err)
	}
	commits := b.requests(remoting.ReqUpdateConsumerOffset)[:before]
	last := commits[len(commits)-1].Fields
	if last.Get("commitOffset") != "2" || last.Get("consumerGroup") != cluster.RedriveGroup {
		t.Errorf("committed %v", last)
	}
}

// record is a stored message.
func record(t *testing.T, offset int64, props string) []byte {
	t.Helper()
	s := message.Stored{
		Topic: "%DLQ%g", QueueOffset: offset, PhysicalOffset: 100 + offset, Body: []byte("body"), Properties: props,
		StoreHost: netip.MustParseAddrPort("127.0.0.1:10911"), StoreTimestamp: 1700000000000,
	}
	b, err := s.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A broker that makes no progress, or answers nonsense, does not keep anybody.
func TestCluster_Nonsense(t *testing.T) {
	t.Parallel()
	names, b := newFake(t), newFake(t)
	names.names("orders", 1, b)
	b.on(remoting.ReqGetMinOffset, offset(0))
	b.on(remoting.ReqGetMaxOffset, offset(1<<40))
	c := open(t, cluster.Config{}, names.addr)
	browse := func() ([]*cluster.Message, error) {
		return c.Browse(t.Context(), "orders", cluster.BrowseOptions{Queues: cluster.Selection{Queue: -1}, Limit: 10})
	}
	b.on(remoting.ReqPullMessage, func(_, resp *remoting.Command) {
		resp.Code = remoting.ResPullRetryImmediately
		remoting.PullResult{}.AppendTo(&resp.Fields)
	})
	if all, err := browse(); err != nil || len(all) != 0 {
		t.Errorf("no progress: %v, %v", all, err)
	}
	good := record(t, 0, "")
	for name, answer := range map[string]func(req, resp *remoting.Command){
		"no fields": func(_, resp *remoting.Command) { resp.Body = good },
		"no record": func(_, resp *remoting.Command) {
			remoting.PullResult{NextBeginOffset: 1}.AppendTo(&resp.Fields)
			resp.Body = []byte("nonsense that is long enough")
		},
		"a damaged body": func(_, resp *remoting.Command) {
			remoting.PullResult{NextBeginOffset: 1}.AppendTo(&resp.Fields)
			bad := append([]byte(nil), good...)
			bad[88] ^= 1
			resp.Body = bad
		},
	} {
		b.on(remoting.ReqPullMessage, answer)
		_, err := browse()
		if _, ok := errors.AsType[*cluster.MalformedError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	names.on(remoting.ReqGetRoute, func(_, resp *remoting.Command) { resp.Body = []byte("{") })
	if _, err := c.Route(t.Context(), "orders"); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a route that is none: %v", err)
	}
	names.code(remoting.ReqGetRoute, remoting.ResSystemError, "out of order")
	_, err := c.Route(t.Context(), "orders")
	if e, ok := errors.AsType[*cluster.RefusedError](err); !ok || e.Remark != "out of order" {
		t.Errorf("refused: %v", err)
	}
}

// What is stored, but not as safely as was asked for, is said.
func TestCluster_SendStatus(t *testing.T) {
	t.Parallel()
	names, b := newFake(t), newFake(t)
	names.names("orders", 1, b)
	c := open(t, cluster.Config{}, names.addr)
	s, err := c.Sender(t.Context(), "orders", cluster.Selection{Queue: -1})
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[int]string{
		remoting.ResSuccess: cluster.Stored, remoting.ResFlushDiskTimeout: cluster.StoredUnflushed,
		remoting.ResFlushSlaveTimeout: cluster.StoredUnreplicated, remoting.ResSlaveNotAvailable: cluster.StoredNoReplica,
	} {
		b.on(remoting.ReqSendMessageV2, func(_, resp *remoting.Command) {
			resp.Code = code
			remoting.SendResult{MsgID: "X", Region: "R"}.AppendTo(&resp.Fields)
		})
		if sent, err := s.Send(t.Context(), cluster.Outgoing{}); err != nil || sent.Status != want {
			t.Errorf("code %d: %+v, %v", code, sent, err)
		}
	}
}
