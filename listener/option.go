package listener

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Option says what a marker field would say, and what a tag cannot. Options
// come after the tags and override them. Other packages make their own with
// [Annotate], or by writing to the [Spec] themselves.
type Option func(s *Spec) error

// Name names the listener in control, configuration and logs.
func Name(name string) Option { return set(keyName, name) }

// Topic is what is listened to.
func Topic(topic string) Option { return set(keyTopic, topic) }

// Group is the consumer group.
func Group(group string) Option { return set(keyGroup, group) }

// Tags selects by an expression such as "paid || refunded".
func Tags(expr string) Option { return set(keyTags, expr) }

// SQL selects by an SQL92 expression over the properties, with RocketMQ's
// grammar; the tag goes by the name TAGS, the keys by KEYS. See Filter in
// package broker/driver.
func SQL(expr string) Option { return set(keySQL, expr) }

// Concurrency is how many handlers run at a time.
func Concurrency(n int) Option { return set(keyConcurrency, strconv.Itoa(n)) }

// Prefetch is how many messages may wait in memory for a handler.
func Prefetch(n int) Option { return set(keyPrefetch, strconv.Itoa(n)) }

// Buffer is how many bytes of messages are held in memory, approximately.
func Buffer(bytes int64) Option { return set(keyBuffer, strconv.FormatInt(bytes, 10)) }

// Attempts is how often a message may fail; see [RetryPolicy].
func Attempts(n int) Option { return set(keyAttempts, strconv.Itoa(n)) }

// Backoff takes the forms of [ParseBackoff].
func Backoff(expr string) Option { return set(keyBackoff, expr) }

// Jitter spreads the delays by a share of 0 to 1.
func Jitter(share float64) Option {
	return set(keyJitter, strconv.FormatFloat(share, 'g', -1, 64))
}

// Timeout bounds one run of the handler; zero is no bound.
func Timeout(d time.Duration) Option { return set(keyTimeout, d.String()) }

// From says where a group without a stored position begins: earliest, latest,
// or a time in RFC 3339.
func From(position string) Option { return set(keyFrom, position) }

// Ordered is the marker [Orderly]: by is "queue" or "key", exhausted is
// "block", "deadletter" or "skip".
func Ordered(by, exhausted string) Option {
	return func(s *Spec) error {
		return join([]error{s.Set(keyOrdered, "true"), s.Set(keyBy, by), s.Set(keyExhausted, exhausted)})
	}
}

// WithBroadcast is the marker [Broadcast].
func WithBroadcast() Option { return set(keyBroadcast, "true") }

// Paused is the marker [StartPaused].
func Paused(auto bool) Option {
	resume := resumeManual
	if auto {
		resume = resumeAuto
	}
	return func(s *Spec) error { return join([]error{s.Set(keyStart, startPaused), s.Set(keyResume, resume)}) }
}

// Emulate lets the framework stand in for what the broker lacks: retry delays
// are rounded up to the next level of the broker, and jitter is left out there.
// Without it the application does not start on such a broker.
func Emulate() Option { return set(keyEmulate, "true") }

// Label marks the listener for [Labelled].
func Label(key, value string) Option {
	return func(s *Spec) error {
		if key == "" || value == "" {
			return fmt.Errorf("label %q=%q: neither may be empty", key, value)
		}
		s.Labels[key] = value
		return nil
	}
}

// Annotate hands value to the interceptor that serves the annotation name.
func Annotate(name string, value any) Option {
	return func(s *Spec) error {
		if name == "" {
			return errors.New("an annotation has no name")
		}
		s.Annotate(name, value)
		return nil
	}
}

func set(key, value string) Option {
	return func(s *Spec) error { return s.Set(key, value) }
}
