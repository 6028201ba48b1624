package rocketmq

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
)

// What a name server says becomes queues: readable ones with or without a
// master, writable ones with a master only.
func TestNewRoute(t *testing.T) {
	t.Parallel()
	raw := remoting.Route{
		Brokers: []remoting.BrokerData{
			{Name: "b", Addrs: []remoting.BrokerAddr{{ID: 0, Addr: "b0"}, {ID: 1, Addr: "b1"}}},
			{Name: "a", Addrs: []remoting.BrokerAddr{{ID: 1, Addr: "a1"}}},
			{Name: "c", Addrs: []remoting.BrokerAddr{{ID: 0, Addr: "c0"}}},
		},
		Queues: []remoting.QueueData{
			{Broker: "b", Perm: remoting.PermRead | remoting.PermWrite, ReadQueues: 2, WriteQueues: 1},
			{Broker: "a", Perm: remoting.PermRead | remoting.PermWrite, ReadQueues: 1, WriteQueues: 1},
			{Broker: "c", Perm: remoting.PermRead, ReadQueues: 1, WriteQueues: 1},
		},
	}
	r := newRoute("t", raw)
	if got := fmt.Sprint(r.read); got != "[t/a/0 t/b/0 t/b/1 t/c/0]" {
		t.Errorf("to read: %s", got)
	}
	if got := fmt.Sprint(r.write); got != "[t/b/0]" {
		t.Errorf("to write: %s", got)
	}
	for i, q := range r.read {
		if n := r.number(q); n != i {
			t.Errorf("%v has number %d, want %d", q, n, i)
		}
	}
	raw.OrderTopicConf = "b:2;c:1;x"
	if got := fmt.Sprint(newRoute("t", raw).write); got != "[t/b/0 t/b/1 t/c/0]" {
		t.Errorf("the queues of an ordered topic: %s", got)
	}
	raw = remoting.Route{Brokers: raw.Brokers, OrderTopicConf: strings.Repeat("b:1000000;", 4)}
	for range 4 {
		raw.Queues = append(raw.Queues, remoting.QueueData{Broker: "b", Perm: 6, ReadQueues: 1 << 30}, remoting.QueueData{Broker: "c", Perm: 6, ReadQueues: -1})
	}
	if r := newRoute("t", raw); len(r.read) != mostQueues || len(r.write) != mostQueues {
		t.Errorf("a name server made the client keep %d and %d queues", len(r.read), len(r.write))
	}
}

// Reads go to the broker that is suggested, to the next slave if it is one that
// is away, else to any.
func TestRoutes_Replica(t *testing.T) {
	t.Parallel()
	r := newRoutes(nil, false)
	r.learnBroker(remoting.BrokerData{Name: "b", Addrs: []remoting.BrokerAddr{{ID: 2, Addr: "b2"}, {ID: 0, Addr: "b0"}}})
	r.learnBroker(remoting.BrokerData{Name: "s", Addrs: []remoting.BrokerAddr{{ID: 3, Addr: "s3"}}})
	for _, c := range []struct {
		broker string
		id     int64
		addr   string
		master bool
	}{{"b", 0, "b0", true}, {"b", 1, "b2", false}, {"b", 2, "b2", false}, {"b", 7, "b0", true}, {"s", 0, "s3", false}, {"s", 1, "s3", false}} {
		addr, master, ok := r.replica(c.broker, c.id)
		if !ok || addr != c.addr || master != c.master {
			t.Errorf("replica(%s, %d) = %s, %v, %v; want %s, %v", c.broker, c.id, addr, master, ok, c.addr, c.master)
		}
	}
	if _, _, ok := r.replica("x", 0); ok {
		t.Error("a broker that nobody has told of has an address")
	}
	if _, ok := r.master("s"); ok {
		t.Error("a broker without a master has one")
	}
	if got := r.nameOf("b2"); got != "b" {
		t.Errorf("b2 is an address of %q", got)
	}
}
