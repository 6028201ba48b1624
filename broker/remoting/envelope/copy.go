package envelope

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Copy is the properties of a copy of a message, for a retry topic or for the
// dead letters.
type Copy struct {
	props map[string]string // all of them
	own   map[string]string // those among them that added ones do not replace
	// topic and offset are of the original as it was consumed.
	topic  string
	offset int64
}

// NewCopy begins a copy of a message that was consumed as s; offsetID is that
// of s. What is about the delivery of the original stays behind, what is about
// its first copy is kept.
func NewCopy(s *message.Stored, offsetID string) Copy {
	props := message.ParseProperties(s.Properties)
	maps.DeleteFunc(props, func(name, _ string) bool {
		switch name {
		case message.Delay, message.TranMsg, message.ProducerGroup, message.RealTopic, message.RealQueueID:
			return true
		}
		return IsTimer(name)
	})
	c := Copy{props: props, own: map[string]string{}, topic: cmp.Or(props[message.RetryTopic], s.Topic), offset: s.QueueOffset}
	c.Set(message.RetryTopic, c.topic)
	c.Set(message.OriginMessageID, cmp.Or(props[message.OriginMessageID], offsetID))
	c.Set(FirstStored, cmp.Or(props[FirstStored], strconv.FormatInt(s.StoreTimestamp, 10)))
	return c
}

// Set sets a property of the broker's own.
func (c Copy) Set(name, value string) { c.props[name], c.own[name] = value, value }

// Dead says where a dead letter came from: the group that gave it up and the
// queue by which that had it.
func (c Copy) Dead(group string, queue int, now time.Time) {
	c.Set(driver.DeadTopic, c.topic)
	c.Set(driver.DeadQueue, strconv.Itoa(queue))
	c.Set(driver.DeadOffset, strconv.FormatInt(c.offset, 10))
	c.Set(driver.DeadGroup, group)
	c.Set(driver.DeadAt, deadTime(now))
	if ms, err := strconv.ParseInt(c.own[FirstStored], 10, 64); err == nil {
		c.Set(driver.DeadFirstAt, deadTime(time.UnixMilli(ms)))
	}
}

func deadTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// MaxProperties is the most bytes of properties that a client sends with a
// message: it leaves room for what brokers add, and for the group of a half
// message.
const MaxProperties = message.MaxProperties - 512

// Encode answers the properties and what of added fits beside them, the
// shortest first: a stack that is too long must not keep a message from its
// retry. What was set stays as it is.
func (c Copy) Encode(added map[string]string) []byte {
	b := message.AppendProperties(nil, c.props)
	names := slices.SortedFunc(maps.Keys(added), func(x, y string) int {
		return cmp.Or(cmp.Compare(len(added[x]), len(added[y])), cmp.Compare(x, y))
	})
	for _, name := range names {
		if _, own := c.own[name]; own {
			continue
		}
		was, had := c.props[name]
		c.props[name] = added[name]
		if next := message.AppendProperties(nil, c.props); len(next) <= MaxProperties {
			b = next
			continue
		}
		if c.props[name] = was; !had {
			delete(c.props, name)
		}
	}
	return b
}
