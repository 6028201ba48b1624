package driver

import "time"

// Granularity says how exactly a broker delays.
type Granularity uint8

const (
	// NoDelay: not at all.
	NoDelay Granularity = iota
	// Levels: only by [Capabilities.DelayLevels].
	Levels
	// AnyTime: to any time.
	AnyTime
)

// Capabilities is checked against every listener and sender at start-up.
type Capabilities struct {
	// System is the OTel messaging.system of the broker.
	System string
	// Delay is about messages sent with a due time, RetryDelay about Retry and
	// Return with a delay.
	Delay, RetryDelay Granularity
	// DelayLevels, ascending, where one of the two is Levels.
	DelayLevels []time.Duration
	// Tags, SQL: filters that the broker itself applies.
	Tags, SQL bool
	// OneWay: NoAck sends are supported.
	OneWay bool
	// Broadcast and Ordered subscriptions are supported.
	Broadcast, Ordered bool
	// Queues: topics have numbered queues, and Message.Queue is honoured.
	Queues bool
	// DecidesOnce: the broker itself holds a half message to one decision and
	// gives none up, whichever client asks: a second Prepare answers the first
	// half, the opposite of a decision is refused, a check-back that finds nobody
	// to ask is not counted, and what is parked can be decided. Without it each
	// client holds to that for the half messages that it knows itself; one that
	// nobody was there to be asked for is parked, too, and what is parked is
	// only listed.
	DecidesOnce bool
	// Durable: what Send answered Stored survives a crash of the broker.
	Durable bool
	// MaxGroup is the longest name of a group in bytes. Zero: [MaxName].
	MaxGroup int
	// MaxBody is the largest body in bytes, MaxBatch the largest number of
	// messages in one Send. Zero: no limit.
	MaxBody, MaxBatch int
}
