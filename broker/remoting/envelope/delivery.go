package envelope

import (
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Open shows a stored message to a user: it fills in d, whose texts are parts of
// those of s. The body is as it was sent. Failed copies come by a retry topic;
// elsewhere the count of a message is about another group.
func Open(d *driver.Delivery, s *message.Stored, body []byte, offsetID string) {
	d.Topic, d.Body, d.Queue, d.BornAt = s.Topic, body, int(s.QueueID), time.UnixMilli(s.BornTimestamp)
	d.OffsetID, d.Offset = offsetID, s.QueueOffset
	d.Attempt, d.StoredAt = 1, time.UnixMilli(s.StoreTimestamp)
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
			if Reserved(name) {
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
}

// Millis answers t in milliseconds, rounded up: nothing comes before its time.
func Millis(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		ms++
	}
	return ms
}
