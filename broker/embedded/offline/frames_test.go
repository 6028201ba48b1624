package offline_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/offline"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// rawLog is a log that is written frame by frame.
type rawLog struct {
	testing.TB
	disk *vfs.Mem
	log  *commitlog.Log
}

func newRawLog(t testing.TB) *rawLog {
	disk := vfs.NewMem()
	log, _, err := commitlog.Open(commitlog.Options{FS: disk, SegmentBytes: 64 << 10, MaxFrame: 32 << 10}, func(commitlog.Frame) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return &rawLog{t, disk, log}
}

// add appends a frame and answers its position.
func (l *rawLog) add(k offline.Kind, payload []byte) int64 {
	l.Helper()
	pos, _, err := l.log.Append(commitlog.Kind(k), payload)
	if err != nil {
		l.Fatal(err)
	}
	return pos
}

// msg is the payload of the next frame.
func (l *rawLog) msg(queue int32, offset, ends int64) []byte {
	l.Helper()
	s := message.Stored{
		Topic: "orders", QueueID: queue, QueueOffset: offset, PhysicalOffset: l.log.NextPos(), PreparedTransactionOffset: ends,
		BornTimestamp: 1, StoreTimestamp: 2, ReconsumeTimes: 3, Body: []byte("body"),
		Properties: string(message.AppendProperties(nil, map[string]string{
			message.UniqKey: "id", message.Keys: "a b", message.Tags: "tag", message.ShardingKey: "key", message.ProducerGroup: "group",
		})),
	}
	b, err := s.AppendTo(nil)
	if err != nil {
		l.Fatal(err)
	}
	return b
}

func (l *rawLog) topic() int64 {
	return l.add(offline.KindTopicCreated, record.Topic{Name: "orders", Queues: 2, IDs: []uint32{0, 1}}.Append(nil))
}

func (l *rawLog) close() {
	l.Helper()
	if err := errors.Join(l.log.Flush(), l.log.Sync(), l.log.Close()); err != nil {
		l.Fatal(err)
	}
}

// Frames that are as they were written, but cannot be.
func TestVerify_Frames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want string
		do   func(l *rawLog)
	}{
		{"", func(l *rawLog) {
			l.topic()
			l.add(offline.KindMessage, l.msg(0, 0, 0))
			l.add(offline.KindMessage, l.msg(1, 0, 0))
			at := l.add(offline.KindHalf, l.msg(0, 0, 0))
			l.add(offline.KindParked, record.Park{Half: at, At: 5, Checks: 3}.Append(nil))
			l.add(offline.KindCommitted, l.msg(0, 1, at))
			at = l.add(offline.KindDelayed, append(record.AppendDue(nil, 7), l.shifted()...))
			l.add(offline.KindFired, l.msg(0, 2, at))
			l.add(offline.KindTopicCreated, record.Topic{Name: "orders", Queues: 3, IDs: []uint32{0, 1, 2}, Next: []int64{9, 1, 0}}.Append(nil))
			l.add(offline.KindMessage, l.msg(0, 9, 0))
			l.add(offline.KindTopicDeleted, record.AppendName(nil, "orders"))
			l.add(offline.KindTopicCreated, record.Topic{Name: "orders", Queues: 1}.Append(nil))
			l.add(offline.KindMessage, l.msg(0, 0, 0))
		}},
		{"", func(l *rawLog) {
			l.topic()
			l.add(offline.KindSettings, record.Setting{Scope: record.OfTopic, Name: "orders", Value: []byte("x")}.Append(nil))
			l.add(offline.KindSettings, record.Setting{Scope: record.OfTopic, Name: "gone"}.Append(nil))
			l.add(offline.KindSettings, record.Setting{Scope: record.OfGroup, Name: "g", Value: []byte("x")}.Append(nil))
			l.add(offline.KindGroupDeleted, record.AppendName(nil, "g"))
			l.add(offline.KindGroupDeleted, record.AppendName(nil, "never there"))
		}},
		{"settings: malformed record", func(l *rawLog) { l.add(offline.KindSettings, record.Setting{Scope: 3, Name: "g"}.Append(nil)) }},
		{"name: malformed record", func(l *rawLog) { l.add(offline.KindGroupDeleted, append(record.AppendName(nil, "g"), 0)) }},
		{"there is no kind 99 of frames", func(l *rawLog) { l.add(99, nil) }},
		{"malformed message", func(l *rawLog) { l.add(offline.KindMessage, []byte("hello")) }},
		{"malformed record", func(l *rawLog) { l.add(offline.KindPositions, []byte("hello")) }},
		{"the message says that it lies at", func(l *rawLog) {
			b := l.msg(0, 0, 0)
			message.PatchOffsets(b, 0, 0, 1234)
			l.add(offline.KindMessage, b)
		}},
		{"1 bytes follow the message", func(l *rawLog) { l.add(offline.KindMessage, append(l.msg(0, 0, 0), 0)) }},
		{"body does not match its checksum", func(l *rawLog) {
			b := l.msg(0, 0, 0)
			b[90] ^= 1
			l.add(offline.KindMessage, b)
		}},
		{`there is no queue 0 of topic "orders"`, func(l *rawLog) { l.add(offline.KindMessage, l.msg(0, 0, 0)) }},
		{`there is no queue 2 of topic "orders"`, func(l *rawLog) { l.topic(); l.add(offline.KindMessage, l.msg(2, 0, 0)) }},
		{`offsets 0 to 4 of queue 1 of topic "orders" are missing`, func(l *rawLog) {
			l.topic()
			l.add(offline.KindMessage, l.msg(1, 5, 0))
		}},
		{`offset 0 of queue 1 of topic "orders" is used twice`, func(l *rawLog) {
			l.topic()
			l.add(offline.KindMessage, l.msg(1, 0, 0))
			l.add(offline.KindMessage, l.msg(1, 0, 0))
		}},
		{"there is no delayed message at 0", func(l *rawLog) { l.topic(); l.add(offline.KindFired, l.msg(1, 0, 0)) }},
		{"there is no undecided half message at 7", func(l *rawLog) { l.add(offline.KindRolledBack, record.Decided{Half: 7}.Append(nil)) }},
		{"there is no undecided half message at 0", func(l *rawLog) {
			at := l.add(offline.KindHalf, l.msg(0, 0, 0))
			l.add(offline.KindRolledBack, record.Decided{Half: at}.Append(nil))
			l.add(offline.KindRolledBack, record.Decided{Half: at}.Append(nil))
		}},
		{"there is no undecided half message at 9", func(l *rawLog) { l.add(offline.KindParked, record.Park{Half: 9}.Append(nil)) }},
		{"has queues with the numbers", func(l *rawLog) {
			l.topic()
			l.add(offline.KindTopicCreated, record.Topic{Name: "orders", Queues: 2, IDs: []uint32{4, 5}}.Append(nil))
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			l := newRawLog(t)
			c.do(l)
			l.close()
			r, err := offline.Verify(t.Context(), l.disk)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && len(r.Damage) > 0:
				t.Errorf("got %+v", r.Damage)
			case c.want != "" && (len(r.Damage) != 1 || !strings.Contains(r.Damage[0].Reason, c.want)):
				t.Errorf("got %+v, want %q", r.Damage, c.want)
			}
		})
	}
}

// shifted is the message of a delayed frame.
func (l *rawLog) shifted() []byte { return l.msg(1, 0, 0) }

// What is shown is what was stored.
func TestDump_Content(t *testing.T) {
	t.Parallel()
	l := newRawLog(t)
	l.topic()
	delayed := l.add(offline.KindDelayed, append(record.AppendDue(nil, 7), l.shifted()...))
	fired := l.add(offline.KindFired, l.msg(1, 0, delayed))
	parked := l.add(offline.KindParked, record.Park{Half: 8, At: 5, Checks: 3}.Append(nil))
	positions := l.add(offline.KindPositions, record.GroupPositions{
		Group: "g", Topic: "t", Client: "c", Lanes: []record.LanePosition{{Queue: record.RetryLane, Next: 9, Unsettled: []int64{4, 6}}},
	}.Append(nil))
	settings := l.add(offline.KindSettings, record.Setting{Scope: record.OfTopic, Name: "t", Value: []byte("v\x00")}.Append(nil))
	ofGroup := l.add(offline.KindSettings, record.Setting{Scope: record.OfGroup, Name: "g"}.Append(nil))
	deleted := l.add(offline.KindGroupDeleted, record.AppendName(nil, "g"))
	unknown := l.add(77, []byte{1})
	l.close()
	got := map[int64]offline.Frame{}
	err := offline.Dump(t.Context(), l.disk, func(f offline.Frame) error {
		got[f.Pos] = f
		if f.File != "00000000000000000000.log" || f.Offset != f.Pos {
			t.Errorf("frame at %d is in %s at %d", f.Pos, f.File, f.Offset)
		}
		if f.Message != nil {
			if string(f.Message.Body) != "body" {
				t.Errorf("body %q", f.Message.Body)
			}
			f.Message.Body, f.Message.Properties = nil, ""
		}
		return nil
	})
	if !errors.Is(err, offline.ErrDamaged) {
		t.Errorf("answered %v", err)
	}
	m := offline.Message{
		Topic: "orders", Queue: 1, ID: "id", Keys: []string{"a", "b"}, Tag: "tag", OrderingKey: "key", Group: "group",
		Born: time.UnixMilli(1), Stored: time.UnixMilli(2), Failures: 3,
	}
	first, second := m, m
	first.Due, first.Ends, second.Ends = time.UnixMilli(7), -1, delayed
	for pos, want := range map[int64]any{
		0:         &offline.Topic{Name: "orders", Queues: 2, IDs: []uint32{0, 1}},
		delayed:   &first,
		fired:     &second,
		parked:    &offline.Decision{Half: 8, At: time.UnixMilli(5), Checks: 3},
		positions: &offline.Positions{Group: "g", Topic: "t", Client: "c", Lanes: []offline.LanePosition{{Queue: -1, Next: 9, Unsettled: []int64{4, 6}}}},
		settings:  &offline.Settings{Topic: true, Name: "t", Value: "v\x00"},
		ofGroup:   &offline.Settings{Name: "g"},
		deleted:   &offline.Settings{Name: "g"},
	} {
		f := got[pos]
		if !reflect.DeepEqual(want, any(f.Message)) && !reflect.DeepEqual(want, any(f.Topic)) &&
			!reflect.DeepEqual(want, any(f.Decision)) && !reflect.DeepEqual(want, any(f.Positions)) && !reflect.DeepEqual(want, any(f.Settings)) {
			t.Errorf("at %d: got %+v, want %+v", pos, f, want)
		}
	}
	if f := got[unknown]; f.Kind.String() != "kind-77" || f.Reason == "" {
		t.Errorf("got %+v", f)
	}
}

// The end of ctx, and an error of the caller, come back as they are.
func TestDump_Stops(t *testing.T) {
	t.Parallel()
	l := newRawLog(t)
	for range 10 {
		l.topic()
	}
	l.close()
	enough := errors.New("enough")
	n := 0
	if err := offline.Dump(t.Context(), l.disk, func(offline.Frame) error { n++; return enough }); err != enough || n != 1 { //nolint:errorlint // it is that one
		t.Errorf("answered %v after %d", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n = 0
	err := offline.Dump(ctx, l.disk, func(offline.Frame) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("answered %v after %d", err, n)
	}
	if _, err := offline.Verify(ctx, l.disk); !errors.Is(err, context.Canceled) {
		t.Errorf("verify answered %v", err)
	}
}
