package offline

import (
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// Kind is what a frame holds; its value is the number on disk.
type Kind uint8

// The kinds of frames.
const (
	// KindMessage is a message in a queue.
	KindMessage = Kind(record.Message)
	// KindFired is a delayed message that has come into its queue.
	KindFired = Kind(record.Fired)
	// KindCommitted is a half message that has come into its queue.
	KindCommitted = Kind(record.Committed)
	// KindDelayed is a message that waits for its time.
	KindDelayed = Kind(record.Delayed)
	// KindHalf is a half message, which waits for a decision.
	KindHalf = Kind(record.Half)
	// KindRolledBack decides a half message.
	KindRolledBack = Kind(record.RolledBack)
	// KindParked says that a half message stayed undecided.
	KindParked = Kind(record.Parked)
	// KindTopicCreated makes a topic or adds queues to it.
	KindTopicCreated = Kind(record.TopicCreated)
	// KindTopicDeleted removes a topic.
	KindTopicDeleted = Kind(record.TopicDeleted)
	// KindPositions says how far a group has come.
	KindPositions = Kind(record.Positions)
	// KindSettings is what a server remembers of a topic or of a group.
	KindSettings = Kind(record.Settings)
	// KindGroupDeleted removes positions and settings of a group.
	KindGroupDeleted = Kind(record.GroupDeleted)
)

// String is the name of the kind in lower case, such as "topic-created".
func (k Kind) String() string {
	names := [...]string{
		KindMessage: "message", KindFired: "fired", KindCommitted: "committed", KindDelayed: "delayed", KindHalf: "half",
		KindRolledBack: "rolled-back", KindParked: "parked", KindTopicCreated: "topic-created",
		KindTopicDeleted: "topic-deleted", KindPositions: "positions", KindSettings: "settings",
		KindGroupDeleted: "group-deleted",
	}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return "kind-" + strconv.Itoa(int(k))
}

// visible: the frame is a message in a queue.
func (k Kind) visible() bool { return k == KindMessage || k == KindFired || k == KindCommitted }

// Frame is one frame of the log and what it says. Which of the pointers is set
// follows from the kind; none is if Reason is not empty.
type Frame struct {
	// Pos is the position in the log, Offset that in File, Length the size of
	// the frame, all in bytes.
	Pos            int64
	File           string
	Offset, Length int64
	Kind           Kind
	// Reason says why the content cannot be read, although the frame is as it
	// was written.
	Reason string

	// Message is what all kinds of messages hold, KindMessage to KindHalf.
	Message *Message
	// Decision is that of KindRolledBack and KindParked.
	Decision *Decision
	// Topic is that of KindTopicCreated and KindTopicDeleted.
	Topic *Topic
	// Positions are those of KindPositions.
	Positions *Positions
	// Settings are those of KindSettings; only the name for KindGroupDeleted.
	Settings *Settings
}

// Settings are what a server remembers of a topic or of a group.
type Settings struct {
	// Topic: they are of a topic, else of a group.
	Topic bool
	Name  string
	// Value is the server's own; empty for no settings any more.
	Value string
}

// Message is a message as it is stored. A field that it does not have is zero.
type Message struct {
	Topic string
	Queue int
	// Offset is that in the queue; 0 on a delayed or half message, which is in
	// none.
	Offset int64
	// ID is the unique id.
	ID          string
	Keys        []string
	Tag         string
	OrderingKey string
	// Born and Stored are to the millisecond, as Due is.
	Born, Stored time.Time
	// Due is when a delayed message is to come into its queue.
	Due time.Time
	// Failures is how often a delivery of it has failed.
	Failures int
	// Ends is the position of the frame that waited for this one: the delayed
	// one on KindFired, the half one on KindCommitted, else -1.
	Ends int64
	// Group is the group of senders that a half message belongs to.
	Group string
	// Properties is the encoded string of all properties; package message reads
	// it.
	Properties string
	// Body is valid only during the call that hands it out.
	Body []byte
}

// Decision is what became of a half message.
type Decision struct {
	// Half is the position of its frame.
	Half int64
	// At and Checks say when it was parked, and after how many checks.
	At     time.Time
	Checks int
}

// Topic is a topic as it is from this frame on.
type Topic struct {
	Name   string
	Queues int
	// Origins, in a retry topic, are the topics whose redeliveries the queues
	// hold.
	Origins []string
	// IDs are the numbers of the queues in index files, Next the offsets at
	// which they go on; none if they follow from the frames before.
	IDs  []uint32
	Next []int64
}

// Positions are how far a group has come with a topic.
type Positions struct {
	Group, Topic string
	// Client is set for broadcast groups.
	Client string
	Lanes  []LanePosition
}

// LanePosition is how far a group has come on one lane.
type LanePosition struct {
	// Queue is -1 for the retry lane.
	Queue int
	// Next is the first offset that was never fetched, Unsettled those below
	// that were fetched and not settled.
	Next      int64
	Unsettled []int64
}
