package listener

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluicemq/sluice/broker/driver"
)

// verdict is what becomes of a delivery after a run of its handler.
type verdict struct {
	// outcome settles it; zero: it stays here and is run again after delay.
	outcome driver.Outcome
	delay   time.Duration
	// failed: an attempt was spent.
	failed bool
	// reason of a dead letter, or of giving up.
	reason string
	// givenUp: acknowledged although it was not handled.
	givenUp bool
	// blocked: attempts are spent and the order waits.
	blocked bool
	// hold: nothing is to be fetched for so long.
	hold time.Duration
}

// judge turns the result of a handler into a verdict. attempt counts from 1 and
// is the one that just ended; interrupted says that the handler's ctx was ended
// by the container or with the lane.
func (u *unit) judge(attempt int, err error, interrupted bool) verdict {
	if err == nil {
		return verdict{outcome: driver.Ack}
	}
	if d, ok := AsHold(err); ok {
		return verdict{outcome: driver.Return, hold: max(d, time.Millisecond)}
	}
	if d, ok := AsDefer(err); ok {
		if u.inPlace() {
			return verdict{delay: d}
		}
		return verdict{outcome: driver.Return, delay: d}
	}
	_, bad := errors.AsType[*undecodable](err)
	_, panicked := errors.AsType[*PanicError](err)
	switch {
	case bad:
		return u.giveUp(ReasonUndecodable)
	case IsReject(err):
		return u.giveUp(ReasonRejected)
	case interrupted && !panicked:
		return verdict{outcome: driver.Return}
	case !u.retry.Exhausted(attempt):
		if u.inPlace() {
			return verdict{delay: u.retry.Delay(attempt), failed: true}
		}
		return verdict{outcome: driver.Retry, delay: u.retry.Delay(attempt), failed: true}
	case u.ordered && u.exhausted == exhaustedBlock:
		return verdict{delay: u.retry.Delay(attempt), failed: true, blocked: true}
	case u.ordered && u.exhausted == exhaustedSkip:
		return verdict{outcome: driver.Ack, reason: ReasonExhausted, givenUp: true, failed: true}
	default:
		v := u.giveUp(ReasonExhausted)
		v.failed = true
		return v
	}
}

func (u *unit) giveUp(reason string) verdict {
	if u.broadcast {
		return verdict{outcome: driver.Ack, reason: reason, givenUp: true}
	}
	return verdict{outcome: driver.DeadLetter, reason: reason}
}

const (
	// Brokers bound the properties of a message to about 32 KiB in all.
	maxDeadError = 1 << 10
	maxDeadStack = 4 << 10
)

// deadProperties describes why a message was given up.
func deadProperties(group string, attempt int, reason string, err error, now time.Time) map[string]string {
	p := map[string]string{
		driver.DeadGroup:    group,
		driver.DeadAt:       now.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		driver.DeadAttempts: strconv.Itoa(attempt),
		driver.DeadReason:   reason,
	}
	if text := clean(err.Error(), maxDeadError); text != "" {
		p[driver.DeadError] = text
	}
	if e, ok := errors.AsType[*PanicError](err); ok {
		if text := clean(string(e.Stack), maxDeadStack); text != "" {
			p[driver.DeadStack] = text
		}
	}
	return p
}

// clean makes a text fit for a property: UTF-8, without separators, bounded.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r == '\x00' || r == '\x01' || r == '\x02' {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = s[:limit]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) {
			s = s[:len(s)-1]
		}
	}
	return strings.TrimSpace(s)
}
