package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// levelSlack is how much later than asked a level may be: what passes between
// the moment a caller adds a delay to the time and the moment the driver looks.
// The brokers' own precision is no better.
const levelSlack = 100 * time.Millisecond

// delayLevels are the levels of RocketMQ.
func delayLevels() []time.Duration {
	levels := []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second}
	for m := 1; m <= 10; m++ {
		levels = append(levels, time.Duration(m)*time.Minute)
	}
	return append(levels, 20*time.Minute, 30*time.Minute, time.Hour, 2*time.Hour)
}

// delay is when a message is due: a time in milliseconds, and on brokers without
// timers the level that stands for it. The zero value is now.
type delay struct {
	due   int64
	level int
}

// delay answers how the brokers are told that a message is due at a time. A
// delay counts from now, or from when the message was born. On brokers that have
// levels only, others than those are an error.
func (c *conn) delay(at, born time.Time) (delay, error) {
	now := time.Now()
	ms := envelope.Millis(at)
	if at.IsZero() || ms <= now.UnixMilli() {
		return delay{}, nil
	}
	if c.levels == nil {
		return delay{due: ms}, nil
	}
	if born.IsZero() {
		born = now
	}
	d := at.Sub(born)
	for i, l := range c.levels {
		if l >= d && l-d <= levelSlack {
			return delay{due: ms, level: i + 1}, nil
		}
	}
	return delay{}, fmt.Errorf("a delay of %v; the brokers delay by the levels %v only", d.Round(time.Millisecond), c.levels)
}

// roughly is a delay that the brokers have: d, or on those that have levels only
// the first one that is no shorter, else the last one.
func (c *conn) roughly(d time.Duration) time.Duration {
	if len(c.levels) == 0 {
		return d
	}
	i, _ := slices.BinarySearch(c.levels, d)
	return c.levels[min(i, len(c.levels)-1)]
}

// property is how a broker is told; without a name for now.
func (d delay) property() (name, value string) {
	switch {
	case d.level > 0:
		return message.Delay, strconv.Itoa(d.level)
	case d.due > 0:
		return message.TimerDeliverMs, strconv.FormatInt(d.due, 10)
	default:
		return "", ""
	}
}

// keeps makes sure that a broker delays by d where the settings do not say so:
// one of RocketMQ 4 ignores a time and delivers at once. Its release is in every
// answer.
func (c *conn) keeps(ctx context.Context, limit time.Duration, op, addr string, d delay) *driver.Error {
	if d.due == 0 || d.level > 0 || c.cfg.Delay != driver.NoDelay {
		return nil
	}
	v := c.links.version(addr)
	if v == 0 {
		req := &remoting.Command{Code: remoting.ReqGetMaxOffset}
		remoting.QueueOffset{Topic: message.AutoCreateTopic}.AppendTo(&req.Fields)
		a, err := c.links.call(ctx, limit, addr, req)
		if err != nil {
			return unanswered(ctx, op, err, false)
		}
		v = a.Version
	}
	if old(v) {
		return driver.Errorf(driver.Unsupported, op, "%w", errNoTimers)
	}
	return nil
}

var errNoTimers = errors.New("the broker is older than RocketMQ 5 and delays by levels only, unlike the name server says; set Config.Delay to driver.Levels")

// old reports whether a release has no timers.
func old(version int) bool { return version > 0 && version < remoting.VersionOf(5, 0, 0)-1 }
