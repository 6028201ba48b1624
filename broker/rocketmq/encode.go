package rocketmq

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Names of properties that Sluice adds to the copies it stores.
const (
	// firstStored is when the message was stored first, in milliseconds, on
	// copies for retry and among dead letters.
	firstStored = "__FIRST_STORED"
	// timerPrefix begins the names that a broker's timers write.
	timerPrefix = "TIMER_"
)

// reserved reports whether a field of a message, the broker, or this driver
// has a property of that name; users cannot have it, and deliveries do not show it.
func reserved(name string) bool {
	switch name {
	case message.Keys, message.Tags, message.UniqKey, message.ShardingKey, message.ShardingKeyGo, message.Wait, message.Delay,
		message.RealTopic, message.RealQueueID, message.RetryTopic, message.OriginMessageID,
		message.ReconsumeTime, message.MaxReconsumeTimes, message.DLQOriginTopic, message.DLQOriginMessageID,
		message.TranMsg, message.ProducerGroup, message.TransactionID, message.TransactionCheckTimes,
		message.TranPreparedQueueOffset, message.CheckImmunitySeconds, message.MinOffset, message.MaxOffset,
		message.ConsumeStartTime, message.Cluster, message.MsgRegion, message.TraceOn, message.InstanceID,
		message.InnerNum, message.InnerBase, message.PopCK, message.PopCKOffset, message.FirstPopTime,
		message.CRC32Name, firstStored:
		return true
	}
	return strings.HasPrefix(name, timerPrefix) || strings.HasPrefix(name, message.TransientPrefix)
}

// check refuses a message that the cluster could not carry.
func (c *conn) check(m *driver.Message) error {
	if m == nil {
		return fmt.Errorf("the message is nil")
	}
	if err := m.Check(); err != nil {
		return err
	}
	for name := range m.Properties {
		if reserved(name) {
			return fmt.Errorf("property %q is the broker's own; use the field of the message, or another name", name)
		}
	}
	if m.ID != "" {
		if err := driver.ValidProperty(message.UniqKey, m.ID); err != nil {
			return fmt.Errorf("message id: %w", err)
		}
	}
	if n := len(m.Body); n > maxBody {
		return fmt.Errorf("body has %d bytes, at most %d are allowed", n, maxBody)
	}
	return nil
}

// propertiesSize is room for the properties of most messages.
const propertiesSize = 256

// properties encodes what a message carries besides its body, and answers its
// id, a new one unless there is one; due is in milliseconds, 0 for none.
func (c *conn) properties(m *driver.Message, id string, due int64) (props, own string, err error) {
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
	if due > 0 {
		b = message.AppendProperty(b, message.TimerDeliverMs, strconv.FormatInt(due, 10))
	}
	b = message.AppendProperties(b, m.Properties)
	if len(b) > message.MaxProperties {
		return "", "", fmt.Errorf("properties have %d bytes on the wire, at most %d are allowed", len(b), message.MaxProperties)
	}
	props = string(b)
	return props, props[end-len(id) : end], nil // one memory for both
}

// dueAt answers when a message is due, in milliseconds; 0 is now.
func dueAt(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	ms := at.UnixMilli()
	if at.Nanosecond()%int(time.Millisecond) != 0 {
		ms++ // nothing comes before its time
	}
	if ms <= time.Now().UnixMilli() {
		return 0
	}
	return ms
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
	*d = driver.Delivery{
		Message: driver.Message{
			Topic: s.Topic, Body: body, Queue: int(s.QueueID), BornAt: time.UnixMilli(s.BornTimestamp),
		},
		OffsetID: message.OffsetID(s.StoreHost, s.PhysicalOffset), Offset: s.QueueOffset,
		Attempt: 1, StoredAt: time.UnixMilli(s.StoreTimestamp),
	}
	if strings.HasPrefix(s.Topic, driver.RetryTopic("")) {
		d.Attempt += int(s.ReconsumeTimes)
	}
	for name, value := range message.Properties(s.Properties) {
		switch name {
		case message.Keys:
			d.Keys = message.SplitKeys(value)
		case message.Tags:
			d.Tag = value
		case message.UniqKey:
			d.ID = value
		case message.ShardingKey, message.ShardingKeyGo:
			d.OrderingKey = value
		case message.RetryTopic:
			d.Topic = value
		case message.TimerDeliverMs:
			if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
				d.DeliverAt = time.UnixMilli(ms)
			}
		default:
			if reserved(name) {
				continue
			}
			if d.Properties == nil {
				d.Properties = make(map[string]string)
			}
			d.Properties[name] = value
		}
	}
	if d.ID == "" {
		d.ID = d.OffsetID
	}
	return nil
}
