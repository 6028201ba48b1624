package envelope

import (
	"fmt"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// FirstStored holds when a message was stored first, in milliseconds, on its
	// copies for retry and among the dead letters.
	FirstStored = "__FIRST_STORED"
	// timerPrefix begins the names that timers of brokers write.
	timerPrefix = "TIMER_"
)

// Reserved reports whether a field of a message, a broker, or Sluice has a
// property of that name; users cannot have it, and deliveries do not show it.
func Reserved(name string) bool {
	switch name {
	case message.Keys, message.Tags, message.UniqKey, message.ShardingKey, message.ShardingKeyGo, message.Wait, message.Delay,
		message.RealTopic, message.RealQueueID, message.RetryTopic, message.OriginMessageID,
		message.ReconsumeTime, message.MaxReconsumeTimes, message.DLQOriginTopic, message.DLQOriginMessageID,
		message.TranMsg, message.ProducerGroup, message.TransactionID, message.TransactionCheckTimes,
		message.TranPreparedQueueOffset, message.CheckImmunitySeconds, message.MinOffset, message.MaxOffset,
		message.ConsumeStartTime, message.Cluster, message.MsgRegion, message.TraceOn, message.InstanceID,
		message.InnerNum, message.InnerBase, message.PopCK, message.PopCKOffset, message.FirstPopTime,
		message.CRC32Name, FirstStored:
		return true
	}
	return IsTimer(name) || strings.HasPrefix(name, message.TransientPrefix)
}

// IsTimer reports whether a property is about the due time of a message.
func IsTimer(name string) bool { return strings.HasPrefix(name, timerPrefix) }

// Check refuses a message that cannot be stored with all that it carries.
func Check(m *driver.Message, maxBody int) error {
	if err := m.Check(); err != nil {
		return err
	}
	for name := range m.Properties {
		if Reserved(name) {
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

// Internal reports whether a topic belongs to a group: its retry topic, or its
// dead letters. Brokers make those themselves and take no batches for them.
func Internal(topic string) bool {
	return strings.HasPrefix(topic, driver.RetryTopic("")) || strings.HasPrefix(topic, driver.DeadLetterTopic(""))
}
