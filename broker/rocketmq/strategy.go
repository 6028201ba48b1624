package rocketmq

import (
	"crypto/md5" //nolint:gosec // the ring of RocketMQ's clients is made of it; nothing is protected by it
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Queue is one queue of a topic.
type Queue struct {
	Topic  string
	Broker string
	ID     int
}

// String is the queue in the form of lane names, topic/broker/queue.
func (q Queue) String() string { return q.Topic + "/" + q.Broker + "/" + strconv.Itoa(q.ID) }

// compareQueues is the order in which all members of a group see the queues of
// a topic: by topic, broker and number.
func compareQueues(a, b Queue) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	if c := strings.Compare(a.Broker, b.Broker); c != 0 {
		return c
	}
	return a.ID - b.ID
}

// Strategy shares the queues of a topic among the members of a group. Every
// member computes the shares by itself, so all members of a group, those that
// are clients of Apache included, must have the same strategy. Strategies are
// stateless and safe for concurrent use.
type Strategy interface {
	// Name is that of Apache's clients, where they have the strategy.
	Name() string
	// Allocate answers the queues of the member self. Queues and members are
	// sorted and not empty, and self is one of the members. A member is a client
	// id, behind which Sluice's have "~" and marks of their topics. It must not
	// change the slices. With an error the member keeps the queues that it has.
	Allocate(self string, queues []Queue, members []string) ([]Queue, error)
}

// Averagely gives each member a contiguous run of queues; the first members get
// one more if the numbers do not divide. It is the default of all of Apache's
// clients.
func Averagely() Strategy { return averagely{} }

type averagely struct{}

func (averagely) Name() string { return "AVG" }

func (averagely) Allocate(self string, queues []Queue, members []string) ([]Queue, error) {
	i := slices.Index(members, self)
	n, k := len(queues), len(members)
	size, rest := n/k, n%k
	start := i*size + min(i, rest)
	if i < rest {
		size++
	}
	return slices.Clone(queues[start : start+size]), nil
}

// ByCircle deals the queues out in turn.
func ByCircle() Strategy { return byCircle{} }

type byCircle struct{}

func (byCircle) Name() string { return "AVG_BY_CIRCLE" }

func (byCircle) Allocate(self string, queues []Queue, members []string) ([]Queue, error) {
	var out []Queue
	for i := slices.Index(members, self); i < len(queues); i += len(members) {
		out = append(out, queues[i])
	}
	return out, nil
}

// ByConfiguration takes fixed queues, whoever else is there; those that the
// topic does not have are left out. The other members have to take the rest.
func ByConfiguration(queues ...Queue) Strategy { return byConfiguration{slices.Clone(queues)} }

type byConfiguration struct{ queues []Queue }

func (byConfiguration) Name() string { return "CONFIG" }

func (s byConfiguration) Allocate(_ string, queues []Queue, _ []string) ([]Queue, error) {
	var out []Queue
	for _, q := range queues {
		if slices.Contains(s.queues, q) {
			out = append(out, q)
		}
	}
	return out, nil
}

// ByMachineRoom takes only brokers whose names are room@name with one of the
// rooms, and gives the queues that are left over one each to the first members.
func ByMachineRoom(rooms ...string) Strategy { return byMachineRoom{slices.Clone(rooms)} }

type byMachineRoom struct{ rooms []string }

func (byMachineRoom) Name() string { return "MACHINE_ROOM" }

func (s byMachineRoom) Allocate(self string, queues []Queue, members []string) ([]Queue, error) {
	var ours []Queue
	for _, q := range queues {
		if room, _, ok := strings.Cut(q.Broker, "@"); ok && slices.Contains(s.rooms, room) {
			ours = append(ours, q)
		}
	}
	i, share := slices.Index(members, self), len(ours)/len(members)
	out := slices.Clone(ours[i*share : (i+1)*share])
	if left := share*len(members) + i; left < len(ours) {
		out = append(out, ours[left])
	}
	return out, nil
}

// Rooms tells where brokers and members are. An empty answer is refused: then
// the member keeps the queues that it has.
type Rooms interface {
	BrokerRoom(broker string) string
	MemberRoom(clientID string) string
}

// NearbyFirst gives the queues of a room to the members of that room, by the
// strategy inner, and those of rooms without members to all members. It needs
// to know the rooms.
func NearbyFirst(inner Strategy, rooms Rooms) Strategy { return nearbyFirst{inner, rooms} }

type nearbyFirst struct {
	inner Strategy
	rooms Rooms
}

func (s nearbyFirst) Name() string { return "MACHINE_ROOM_NEARBY-" + s.inner.Name() }

var errNoRoom = errors.New("its room is not known")

func (s nearbyFirst) Allocate(self string, queues []Queue, members []string) ([]Queue, error) {
	queuesOf, membersOf := map[string][]Queue{}, map[string][]string{}
	var rooms []string // in the order of the queues, as all members see them
	for _, q := range queues {
		room := s.rooms.BrokerRoom(q.Broker)
		if room == "" {
			return nil, fmt.Errorf("allocate queues of broker %s: %w", q.Broker, errNoRoom)
		}
		if queuesOf[room] == nil {
			rooms = append(rooms, room)
		}
		queuesOf[room] = append(queuesOf[room], q)
	}
	for _, m := range members {
		client, _ := parseMember(m)
		room := s.rooms.MemberRoom(client)
		if room == "" {
			return nil, fmt.Errorf("allocate queues to member %s: %w", client, errNoRoom)
		}
		membersOf[room] = append(membersOf[room], m)
	}
	var out []Queue
	for _, room := range rooms {
		among := membersOf[room]
		switch {
		case len(among) == 0:
			among = members
		case !slices.Contains(among, self):
			continue
		}
		got, err := s.inner.Allocate(self, queuesOf[room], among)
		if err != nil {
			return nil, err
		}
		out = append(out, got...)
	}
	return out, nil
}

// virtualNodes is how many places each member has on the ring, as in Apache's
// clients.
const virtualNodes = 10

// ConsistentHash puts members and queues on a ring, so that few queues move
// when a member comes or goes. The ring is that of Apache's clients.
func ConsistentHash() Strategy { return consistentHash{} }

type consistentHash struct{}

func (consistentHash) Name() string { return "CONSISTENT_HASH" }

func (consistentHash) Allocate(self string, queues []Queue, members []string) ([]Queue, error) {
	owners := make(map[uint32]string, virtualNodes*len(members))
	ring := make([]uint32, 0, virtualNodes*len(members))
	for _, m := range members {
		for i := range virtualNodes {
			h := ringHash(m + "-" + strconv.Itoa(i))
			owners[h] = m
			ring = append(ring, h)
		}
	}
	slices.Sort(ring)
	var out []Queue
	for _, q := range queues {
		at, _ := slices.BinarySearch(ring, ringHash(fmt.Sprintf("MessageQueue [topic=%s, brokerName=%s, queueId=%d]", q.Topic, q.Broker, q.ID)))
		if owners[ring[at%len(ring)]] == self {
			out = append(out, q)
		}
	}
	return out, nil
}

// ringHash is the first four bytes of the MD5 sum.
func ringHash(key string) uint32 {
	sum := md5.Sum([]byte(key)) //nolint:gosec // see the import
	return binary.BigEndian.Uint32(sum[:])
}
