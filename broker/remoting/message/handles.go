package message

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// RecallHandle names a message that waits for its time, so that it can be
// taken back.
type RecallHandle struct {
	Topic  string
	Broker string
	// Due is when the message is delivered, in milliseconds.
	Due int64
	// UniqueID is that of the message.
	UniqueID string
}

const (
	recallVersion = "v1"
	maxHandle     = 1024 // in characters; names and id need 620
)

// String is the handle as clients carry it: URL-safe base64 of its parts with
// blanks between them. The time in it is one millisecond later than Due.
func (h RecallHandle) String() string {
	text := recallVersion + " " + h.Topic + " " + h.Broker + " " + strconv.FormatInt(h.Due+1, 10) + " " + h.UniqueID
	return base64.URLEncoding.EncodeToString([]byte(text))
}

// ParseRecallHandle is the inverse of String. The error wraps [ErrMalformed].
func ParseRecallHandle(s string) (RecallHandle, error) {
	if len(s) > maxHandle {
		return RecallHandle{}, fmt.Errorf("parse recall handle: %w: %d characters, at most %d", ErrMalformed, len(s), maxHandle)
	}
	text, err := base64.URLEncoding.DecodeString(s)
	if err != nil {
		return RecallHandle{}, fmt.Errorf("parse recall handle %.64q: %w: not base64", s, ErrMalformed)
	}
	parts := strings.Split(string(text), " ")
	if len(parts) != 5 || parts[0] != recallVersion {
		return RecallHandle{}, fmt.Errorf("parse recall handle %.64q: %w: no five parts of version %s", s, ErrMalformed, recallVersion)
	}
	due, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil || due < 1 {
		return RecallHandle{}, fmt.Errorf("parse recall handle %.64q: %w: no time", s, ErrMalformed)
	}
	return RecallHandle{Topic: parts[1], Broker: parts[2], Due: due - 1, UniqueID: parts[4]}, nil
}

// PopCheck is the value of [PopCK]: what a client that used POP sends back to
// acknowledge a message.
type PopCheck struct {
	StartOffset   int64
	PopTime       int64 // milliseconds
	InvisibleTime int64 // milliseconds
	ReviveQueue   int32
	// Retry is 0 for a message of the topic itself, 1 and 2 for one of a retry
	// topic in its first and second form.
	Retry   int32
	Broker  string
	QueueID int32
	Offset  int64
}

// String is the text of the property.
func (p PopCheck) String() string {
	return fmt.Sprintf("%d %d %d %d %d %s %d %d", p.StartOffset, p.PopTime, p.InvisibleTime, p.ReviveQueue, p.Retry, p.Broker, p.QueueID, p.Offset)
}

// ParsePopCheck is the inverse of String. The error wraps [ErrMalformed].
func ParsePopCheck(s string) (PopCheck, error) {
	bad := fmt.Errorf("parse POP check %.64q: %w: no eight parts", s, ErrMalformed)
	parts := strings.Split(s, " ")
	if len(s) > maxHandle || len(parts) != 8 {
		return PopCheck{}, bad
	}
	p := PopCheck{Broker: parts[5]}
	for i, to := range map[int]*int64{0: &p.StartOffset, 1: &p.PopTime, 2: &p.InvisibleTime, 7: &p.Offset} {
		n, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil {
			return PopCheck{}, bad
		}
		*to = n
	}
	for i, to := range map[int]*int32{3: &p.ReviveQueue, 4: &p.Retry, 6: &p.QueueID} {
		n, err := strconv.ParseInt(parts[i], 10, 32)
		if err != nil {
			return PopCheck{}, bad
		}
		*to = int32(n)
	}
	return p, nil
}
