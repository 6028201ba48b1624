package rocketmq

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// checkMessage refuses a message that the cluster could not carry.
func checkMessage(m *driver.Message) error {
	if m == nil {
		return errors.New("the message is nil")
	}
	return envelope.Check(m, maxBody)
}

// propertiesSize is room for the properties of most messages.
const propertiesSize = 256

// properties encodes what a message carries besides its body, and answers its
// id, a new one unless there is one.
func (c *conn) properties(m *driver.Message, id string, d delay) (props, own string, err error) {
	var (
		memory [propertiesSize]byte
		fresh  [message.UniqueIDSize]byte
	)
	b := message.AppendProperty(memory[:0], message.Keys, message.JoinKeys(m.Keys))
	b = message.AppendProperty(b, message.Tags, m.Tag)
	if id == "" {
		id = string(c.ids.AppendNext(fresh[:0], time.Now()))
	}
	b = message.AppendProperty(b, message.UniqKey, id)
	end := len(b) - 1
	b = message.AppendProperty(b, message.ShardingKey, m.OrderingKey)
	b = message.AppendProperty(b, message.Wait, "true")
	name, value := d.property()
	b = message.AppendProperty(b, name, value)
	b = message.AppendProperties(b, m.Properties)
	if len(b) > envelope.MaxProperties {
		return "", "", fmt.Errorf("properties have %d bytes on the wire, at most %d are allowed", len(b), envelope.MaxProperties)
	}
	props = string(b)
	return props, props[end-len(id) : end], nil // one memory for both
}

// compresses reports whether a body is sent compressed: a large one, and an
// empty one whatever the settings, because RocketMQ's brokers fail on one that
// has no bytes.
func (c *conn) compresses(body []byte) bool {
	return len(body) == 0 || c.cfg.CompressAbove >= 0 && len(body) >= c.cfg.CompressAbove
}

// compress answers the body as it is sent, and its part of the system flag.
func (c *conn) compress(body []byte) ([]byte, int32, error) {
	if len(body) == 0 {
		small, err := remoting.Compress(remoting.CompressionZLIB, remoting.CompressionLevel, nil)
		return small, remoting.CompressionZLIB.SysFlag(), err
	}
	if !c.compresses(body) {
		return body, 0, nil
	}
	small, err := remoting.Compress(c.cfg.Compression, remoting.CompressionLevel, body)
	if err != nil {
		return nil, 0, err
	}
	if len(small) >= len(body) {
		return body, 0, nil
	}
	return small, c.cfg.Compression.SysFlag(), nil
}

// deliver shows a stored message to a user.
func deliver(s *message.Stored) (*driver.Delivery, error) {
	d := new(driver.Delivery)
	return d, show(d, s)
}

// show makes d what a user sees of a stored message. Failed copies come by a
// retry topic; elsewhere the count of a message is about another group.
func show(d *driver.Delivery, s *message.Stored) error {
	body, err := remoting.Inflate(s.SysFlag, s.Body, 0)
	if err != nil {
		return err
	}
	envelope.Open(d, s, body, message.OffsetID(s.StoreHost, s.PhysicalOffset))
	return nil
}
