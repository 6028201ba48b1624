package driver

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SubscribeSpec says what a member of a group wants.
type SubscribeSpec struct {
	Group, Topic string
	Filter       Filter
	// Broadcast gives every member every message; positions are per ClientID.
	Broadcast bool
	// Ordered: the driver must own each lane exclusively, keeps the order over
	// hand-overs, and offers no retry lane.
	Ordered bool
	// From applies only to a group without a stored position.
	From Position
	// MaxInFlight is a hint for servers that push. Zero: no hint.
	MaxInFlight int
	// AckTimeout is how long a delivery may stay unsettled without Extend,
	// where the broker has a lease. Zero: the default of the driver.
	AckTimeout time.Duration
}

// Filter selects messages of a topic. The zero value selects all; Tags and SQL
// exclude each other.
type Filter struct {
	// Tags selects messages that carry one of them.
	Tags []string
	// SQL is an SQL92 expression over the properties, with the grammar and the
	// answers of RocketMQ: three-valued logic, and properties are texts that are
	// read as numbers where they are compared with numbers. The tag goes by the
	// name TAGS, the keys, with blanks between them, by KEYS. A message for
	// which the expression is not true counts as settled. An expression that
	// cannot be read is [InvalidArgument].
	SQL string
}

// ParseTags reads "a || b" and "*". An empty expression or "*" selects all.
func ParseTags(expr string) (Filter, error) {
	expr = strings.TrimSpace(expr)
	if expr == "" || expr == "*" {
		return Filter{}, nil
	}
	var f Filter
	for part := range strings.SplitSeq(expr, "||") {
		tag := strings.TrimSpace(part)
		if err := ValidTag(tag); err != nil {
			return Filter{}, fmt.Errorf("tag expression %q: %w", expr, err)
		}
		if tag == "*" {
			return Filter{}, fmt.Errorf("tag expression %q: * stands alone, it already selects every tag", expr)
		}
		if !slices.Contains(f.Tags, tag) {
			f.Tags = append(f.Tags, tag)
		}
	}
	slices.Sort(f.Tags)
	return f, nil
}

// All reports whether f selects every message.
func (f Filter) All() bool { return len(f.Tags) == 0 && f.SQL == "" }

// MatchTag reports whether the tag part of f selects tag.
func (f Filter) MatchTag(tag string) bool {
	return len(f.Tags) == 0 || slices.Contains(f.Tags, tag)
}

// String returns the expression in its normal form: "*", "a || b" or "sql: …".
func (f Filter) String() string {
	switch {
	case f.SQL != "":
		return "sql: " + f.SQL
	case len(f.Tags) == 0:
		return "*"
	default:
		tags := slices.Clone(f.Tags)
		slices.Sort(tags)
		return strings.Join(tags, " || ")
	}
}

// LaneInfo describes a lane.
type LaneInfo struct {
	// Topic is the topic subscribed to, also for a retry lane.
	Topic string
	// Queue is the number of the queue, where lanes are queues.
	Queue int
	// Retry marks a lane that carries redeliveries only, so that the framework
	// can give fresh and retried traffic their own shares.
	Retry bool
}

// PositionKind says how a [Position] is to be read.
type PositionKind uint8

const (
	// Earliest is the oldest message still there; the zero Position.
	Earliest PositionKind = iota
	// Latest is after the newest message.
	Latest
	// AtOffset is the queue offset Position.Offset.
	AtOffset
	// AtTime is the first message stored at or after Position.Time.
	AtTime
)

// Position is a place on a lane. The zero value is the earliest message.
type Position struct {
	Kind   PositionKind
	Offset int64
	Time   time.Time
}

// String returns "earliest", "latest", "offset N" or the time in RFC 3339.
func (p Position) String() string {
	switch p.Kind {
	case Latest:
		return "latest"
	case AtOffset:
		return "offset " + strconv.FormatInt(p.Offset, 10)
	case AtTime:
		return p.Time.UTC().Format(time.RFC3339Nano)
	default:
		return "earliest"
	}
}

// TopicInfo describes a topic.
type TopicInfo struct {
	Name   string
	Queues int
}

// GroupInfo describes a consumer group.
type GroupInfo struct {
	Name string
	// Members are the client ids with a living subscription.
	Members []string
	// Subscriptions in the form "topic filter", sorted.
	Subscriptions []string
}

// LaneLag tells how far a group is behind on one lane.
type LaneLag struct {
	Lane      LaneInfo
	Name      string
	Committed int64 // next offset to consume, as stored
	Max       int64 // next offset to be written, without those that damage has left out at the end
	InFlight  int   // fetched, not settled
}

// Behind is how many messages are still to be settled.
func (l LaneLag) Behind() int64 { return max(0, l.Max-l.Committed) }

// TimeRange is half open; a zero bound is no bound.
type TimeRange struct{ From, To time.Time }

// Contains reports whether t lies in r.
func (r TimeRange) Contains(t time.Time) bool {
	return (r.From.IsZero() || !t.Before(r.From)) && (r.To.IsZero() || t.Before(r.To))
}
