package server

import (
	"math"
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
	txID       string // of a half message that names its unique id as such
	level      int    // delay level, 0 for none
	timer      bool   // there is a due time of its own, ahead of now
	dueMs      int64  // that time
	timed      bool   // there are properties about such a time
	retryTopic string
	placed     bool // it was on its way somewhere before
	popped     bool // there is a handle of POP
	open       bool // the last 0x02 is missing
	dead       bool // it is a dead letter, so it is not delayed any more
}

// waits reports whether the message does not go to its queue at once.
func (f *facts) waits() bool { return f.half || f.level > 0 || f.timer }

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
			f.level = int(min(number(value), math.MaxInt32))
		case message.TimerDelaySec:
			relativeSec, f.timed = number(value), true
		case message.TimerDelayMs:
			relativeMs, f.timed = number(value), true
		case message.TimerDeliverMs:
			absolute, f.timed = number(value), true
		case message.RetryTopic:
			f.retryTopic = value
		case message.TransactionID:
			f.txID = value
		case message.RealTopic, message.RealQueueID:
			f.placed = true
		case message.PopCK:
			f.popped = true
		}
	}
	switch { // the order in which RocketMQ looks at them
	case f.level > 0:
	case relativeSec > 0:
		f.dueMs = nowMs + min(relativeSec, timerMost)*1000
	case relativeMs > 0:
		f.dueMs = nowMs + min(relativeMs, math.MaxInt64-nowMs)
	case absolute > 0:
		f.dueMs = absolute
	}
	f.timer = f.dueMs > nowMs
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

// timerName reports whether a property is a due time of a message's own.
func timerName(name string) bool {
	switch name {
	case message.TimerDelaySec, message.TimerDelayMs, message.TimerDeliverMs:
		return true
	}
	return false
}

// placeName reports whether a property says where a message that waits is to
// go. The newest place counts.
func placeName(name string) bool { return name == message.RealTopic || name == message.RealQueueID }

// level is the delay level that counts: a level above the last one is the last
// one.
func (s *Server) level(wanted int) int { return max(0, min(wanted, len(s.cfg.DelayLevels))) }

// levelMs is the delay of a level in milliseconds.
func (s *Server) levelMs(level int) int64 {
	if level <= 0 {
		return 0
	}
	return s.cfg.DelayLevels[level-1].Milliseconds()
}

// given appends to into what is stored of the properties that a client has sent.
// A delay
// stays in sight of who consumes, as with RocketMQ, but for what does not count:
// the due time beside a level, and everything on a dead letter.
func (s *Server) given(into []byte, properties string, f *facts) []byte {
	level := s.level(f.level)
	capped := level < f.level
	waits := f.half || level > 0 || f.timer
	changes := f.popped || capped || f.dead || f.placed && waits || f.timed && level > 0
	if !changes {
		b := append(into, properties...)
		if f.open {
			b = append(b, '\x02')
		}
		return b
	}
	b := edit(properties, func(name string) bool {
		switch {
		case name == message.PopCK, waits && placeName(name):
			return true
		case name == message.Delay:
			return capped || f.dead
		}
		return timerName(name) && (level > 0 || f.dead)
	})
	if capped && !f.dead {
		b = message.AppendProperty(b, message.Delay, strconv.Itoa(level))
	}
	return b
}

// illegal refuses a message for what it is.
func illegal(format string, args ...any) error {
	return refuse(remoting.ResMessageIllegal, format, args...)
}
