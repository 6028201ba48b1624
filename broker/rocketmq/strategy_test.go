package rocketmq_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/rocketmq"
)

func queuesOf(broker string, from, to int) []rocketmq.Queue {
	var out []rocketmq.Queue
	for i := from; i < to; i++ {
		out = append(out, rocketmq.Queue{Topic: "TopicTest", Broker: broker, ID: i})
	}
	return out
}

type rooms struct{}

func (rooms) BrokerRoom(broker string) string { room, _, _ := strings.Cut(broker, "@"); return room }
func (rooms) MemberRoom(id string) string     { return strings.ToUpper(id[:1]) }

// The worked examples of RocketMQ's own strategies.
func TestStrategies(t *testing.T) {
	t.Parallel()
	hashed := []string{"10.0.0.1@1", "10.0.0.2@1", "10.0.0.3@1"}
	members := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprint("m", i))
		}
		return out
	}
	for _, c := range []struct {
		s       rocketmq.Strategy
		queues  []rocketmq.Queue
		members []string
		want    string
	}{
		{rocketmq.Averagely(), queuesOf("b", 0, 8), members(2), "[0 1 2 3] [4 5 6 7]"},
		{rocketmq.Averagely(), queuesOf("b", 0, 8), members(3), "[0 1 2] [3 4 5] [6 7]"},
		{rocketmq.Averagely(), queuesOf("b", 0, 10), members(4), "[0 1 2] [3 4 5] [6 7] [8 9]"},
		{rocketmq.Averagely(), queuesOf("b", 0, 2), members(3), "[0] [1] []"},
		{rocketmq.ByCircle(), queuesOf("b", 0, 8), members(3), "[0 3 6] [1 4 7] [2 5]"},
		{rocketmq.ByCircle(), queuesOf("b", 0, 10), members(4), "[0 4 8] [1 5 9] [2 6] [3 7]"},
		{rocketmq.ByMachineRoom("r"), append(queuesOf("r@b", 0, 8), queuesOf("other@b", 0, 4)...), members(3), "[0 1 6] [2 3 7] [4 5]"},
		{rocketmq.NearbyFirst(rocketmq.Averagely(), rooms{}), append(queuesOf("A@b", 0, 4), queuesOf("B@b", 4, 8)...), []string{"a1", "a2"}, "[0 1 4 5] [2 3 6 7]"},
		{rocketmq.ConsistentHash(), queuesOf("broker-a", 0, 8), hashed, "[1 4 5] [0 6 7] [2 3]"},
		{rocketmq.ConsistentHash(), queuesOf("broker-a", 0, 8), []string{hashed[0], hashed[2]}, "[1 4 5 7] [0 2 3 6]"},
		{rocketmq.ByConfiguration(queuesOf("b", 2, 3)...), queuesOf("b", 0, 4), members(2), "[2] [2]"},
	} {
		var got []string
		for _, m := range c.members {
			queues, err := c.s.Allocate(m, c.queues, c.members)
			if err != nil {
				t.Fatalf("%s: %v", c.s.Name(), err)
			}
			ids := make([]int, 0, len(queues))
			for _, q := range queues {
				ids = append(ids, q.ID)
			}
			got = append(got, fmt.Sprint(ids))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s, %d queues, %d members: got %s, want %s", c.s.Name(), len(c.queues), len(c.members), s, c.want)
		}
	}
}

// sites knows rooms by the client ids that applications give.
type sites map[string]string

func (sites) BrokerRoom(string) string      { return "r1" }
func (s sites) MemberRoom(id string) string { return s[id] }

// Members are known to brokers by their client id and marks of their topics;
// whoever tells where they are knows the client id.
func TestStrategies_RoomsKnowClientIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a")
		c.topic("t", 2)
		conn := c.open(rocketmq.Config{Strategy: rocketmq.NearbyFirst(rocketmq.Averagely(), sites{"client": "r1"})}, "client")
		defer func() { _ = conn.Close(context.Background()) }()
		m := newConsumer(t)
		m.join(conn, spec)
		time.Sleep(2 * time.Second)
		if got := m.names(); len(got) != 2 {
			t.Errorf("the only member has the lanes %q", got)
		}
	})
}

// Whatever the numbers, each queue has one owner.
func TestStrategies_EachQueueHasOneOwner(t *testing.T) {
	t.Parallel()
	all := []rocketmq.Strategy{
		rocketmq.Averagely(), rocketmq.ByCircle(), rocketmq.ConsistentHash(), rocketmq.ByMachineRoom("A", "B"),
		rocketmq.NearbyFirst(rocketmq.Averagely(), rooms{}), rocketmq.NearbyFirst(rocketmq.ByCircle(), rooms{}),
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(all).Draw(t, "strategy")
		queues := append(queuesOf("A@x", 0, rapid.IntRange(1, 20).Draw(t, "a")), queuesOf("B@x", 0, rapid.IntRange(0, 20).Draw(t, "b"))...)
		members := rapid.SliceOfNDistinct(rapid.StringMatching(`[ab][0-9]{1,3}`), 1, 9, rapid.ID).Draw(t, "members")
		slices.Sort(members)
		owners := map[rocketmq.Queue]int{}
		for _, m := range members {
			got, err := s.Allocate(m, queues, members)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range got {
				owners[q]++
			}
		}
		for _, q := range queues {
			if owners[q] != 1 {
				t.Fatalf("%s: %v has %d owners among %q", s.Name(), q, owners[q], members)
			}
		}
	})
}
