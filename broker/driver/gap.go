package driver

import "fmt"

// GapReason says why messages are gone.
type GapReason uint8

const (
	// Retention: they were removed by age or size before the group came to them.
	Retention GapReason = iota + 1
	// Damage: their bytes on disk have changed, and the broker was told to go
	// on without them.
	Damage
)

// String returns "retention" or "damage".
func (r GapReason) String() string {
	switch r {
	case Retention:
		return "retention"
	case Damage:
		return "damage"
	default:
		return "unknown"
	}
}

// GapError says that a lane has lost messages. [Lane.Fetch] answers it, within
// an [*Error] of code [DataLoss], once for every gap a member meets, instead of
// deliveries; the next Fetch goes on behind the gap. The position moves behind
// it like behind a settled message.
type GapError struct {
	// Lane is the name of the lane.
	Lane string
	// From is the first queue offset that is gone, To the first behind them.
	From, To int64
	// Reason is why.
	Reason GapReason
	// Unsure: damage hides whether there were any messages at all. The broker
	// leaves the offsets out, because a message may have had them.
	Unsure bool
}

// Error names lane, offsets and reason.
func (e *GapError) Error() string {
	if e.Unsure {
		return fmt.Sprintf("up to %d messages of %s from %d on may be lost, if there were any (%s)", e.Lost(), e.Lane, e.From, e.Reason)
	}
	return fmt.Sprintf("the messages %d to %d of %s are lost (%s)", e.From, e.To-1, e.Lane, e.Reason)
}

// Lost is the number of queue offsets in the gap; where damage hides how many
// there were, it is the most there can have been.
func (e *GapError) Lost() int64 { return e.To - e.From }
