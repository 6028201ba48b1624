package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// Broker is the master of one broker name.
type Broker struct {
	Name    string `json:"broker"`
	Cluster string `json:"cluster"`
	Addr    string `json:"address"`
}

// Share is the part of a topic that one broker has.
type Share struct {
	Broker
	Read, Write int // queues
	Perm        Perm
	SysFlag     int
}

// Perm has the bits of remoting.PermRead and its neighbours.
type Perm int32

// String is "rw", "r", "w" or "none".
func (p Perm) String() string {
	s := ""
	if p.Has(remoting.PermRead) {
		s += "r"
	}
	if p.Has(remoting.PermWrite) {
		s += "w"
	}
	return cmp.Or(s, "none")
}

// Has reports whether p has a bit.
func (p Perm) Has(bit int32) bool { return int32(p)&bit != 0 }

// ParsePerm is the inverse of String.
func ParsePerm(s string) (p Perm, ok bool) {
	for _, p := range []Perm{6, 4, 2, 0} {
		if p.String() == s {
			return p, true
		}
	}
	return 0, false
}

// Brokers answers the masters of the cluster, by name.
func (c *Cluster) Brokers(ctx context.Context) ([]Broker, error) {
	r := request{op: "list the brokers", code: remoting.ReqGetClusterInfo}
	resp, at, err := c.askNames(ctx, r)
	if err != nil {
		return nil, err
	}
	info, err := decode(r, at, resp, remoting.DecodeClusterInfo)
	if err != nil {
		return nil, err
	}
	var all []Broker
	for _, b := range info.Brokers {
		if addr, ok := master(b); ok {
			all = append(all, Broker{b.Name, b.Cluster, addr})
		}
	}
	if len(all) == 0 {
		return nil, &NotFoundError{What: "a broker at name server " + at}
	}
	slices.SortFunc(all, func(a, b Broker) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// master is the address of broker id 0.
func master(b remoting.BrokerData) (addr string, ok bool) {
	for _, a := range b.Addrs {
		if a.ID == 0 {
			return a.Addr, a.Addr != ""
		}
	}
	return "", false
}

// Route answers which brokers have which part of a topic, by their names. It is
// a [*NotFoundError] if there is no such topic.
func (c *Cluster) Route(ctx context.Context, topic string) ([]Share, error) {
	r := request{
		op: "find topic " + topic, code: remoting.ReqGetRoute, also: []int{remoting.ResTopicNotExist},
		fields: remoting.Fields{{Name: "topic", Value: topic}},
	}
	resp, at, err := c.askNames(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.Code == remoting.ResTopicNotExist {
		return nil, &NotFoundError{What: "topic " + topic, Topic: topic}
	}
	route, err := decode(r, at, resp, remoting.DecodeRoute)
	if err != nil {
		return nil, err
	}
	brokers := map[string]Broker{}
	for _, b := range route.Brokers {
		if addr, ok := master(b); ok {
			brokers[b.Name] = Broker{b.Name, b.Cluster, addr}
		}
	}
	var shares []Share
	for _, q := range route.Queues {
		if b, ok := brokers[q.Broker]; ok {
			shares = append(shares, Share{b, int(q.ReadQueues), int(q.WriteQueues), Perm(q.Perm), int(q.SysFlag)})
		}
	}
	if len(shares) == 0 {
		return nil, &NotFoundError{What: "a living broker of topic " + topic}
	}
	slices.SortFunc(shares, func(a, b Share) int { return cmp.Compare(a.Name, b.Name) })
	return shares, nil
}

// isCode reports whether err is, or joins, a refusal with that code.
func isCode(err error, code int) bool {
	e, ok := errors.AsType[*RefusedError](err)
	return ok && e.Code == code
}
