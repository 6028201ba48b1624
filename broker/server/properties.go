package server

import (
	"strconv"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// region is what messages and answers say about where the broker stands;
	// RocketMQ's default.
	region = "DefaultRegion"
	// timerMost is the longest delay of a timer message, as in RocketMQ 5.
	timerMost = int64(3 * 24 * 3600 * 1000)
)

// facts are what the properties of a message say to a broker.
type facts struct {
	id         string // unique id
	half       bool
	group      string // of producers, on a half message
	level      int    // delay level, 0 for none
	timer      bool   // there is a due time of its own
	dueMs      int64  // that time
	retryTopic string
	open       bool // the last 0x02 is missing
	foreign    bool // there is something that must not be stored
}

// readFacts looks through a string of properties once.
func readFacts(properties string, nowMs int64) (f facts) {
	var absolute, relativeMs, relativeSec int64
	for name, value := range message.Properties(properties) {
		switch name {
		case message.UniqKey:
			f.id = value
		case message.TranMsg:
			f.half = value == "true"
		case message.ProducerGroup:
			f.group = value
		case message.Delay:
			f.level = int(number(value))
		case message.TimerDelaySec:
			relativeSec = number(value)
		case message.TimerDelayMs:
			relativeMs = number(value)
		case message.TimerDeliverMs:
			absolute = number(value)
		case message.RetryTopic:
			f.retryTopic = value
		case message.PopCK:
			f.foreign = true
		}
	}
	switch { // the order in which RocketMQ looks at them
	case f.level > 0:
	case relativeSec > 0:
		f.timer, f.dueMs = true, nowMs+min(relativeSec, timerMost)*1000
	case relativeMs > 0:
		f.timer, f.dueMs = true, nowMs+relativeMs
	case absolute > 0:
		f.timer, f.dueMs = true, absolute
	}
	f.open = properties != "" && properties[len(properties)-1] != '\x02'
	return f
}

// number is a decimal number, 0 if the text is none.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// edit answers the properties without those that drop names.
func edit(properties string, drop func(name string) bool) []byte {
	b := make([]byte, 0, len(properties)+1)
	for name, value := range message.Properties(properties) {
		if !drop(name) {
			b = message.AppendProperty(b, name, value)
		}
	}
	return b
}

// delayName reports whether a property is about when a message is due.
func delayName(name string) bool {
	switch name {
	case message.Delay, message.TimerDelaySec, message.TimerDelayMs, message.TimerDeliverMs:
		return true
	}
	return false
}

// levelMs is the delay of a level in milliseconds; a level above the last one
// is the last one.
func (s *Server) levelMs(level int) int64 {
	levels := s.cfg.DelayLevels
	if level <= 0 || len(levels) == 0 {
		return 0
	}
	return levels[min(level, len(levels))-1].Milliseconds()
}

// illegal refuses a message for what it is.
func illegal(format string, args ...any) error {
	return refuse(remoting.ResMessageIllegal, format, args...)
}
