package record_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

func genPositions(t *rapid.T) record.GroupPositions {
	g := record.GroupPositions{
		Group: rapid.String().Draw(t, "group"), Topic: rapid.String().Draw(t, "topic"), Client: rapid.String().Draw(t, "client"),
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "lanes") {
		l := record.LanePosition{Queue: i - 1}
		for range rapid.IntRange(0, 20).Draw(t, "unsettled") {
			l.Next += rapid.Int64Range(0, 1000).Draw(t, "gap")
			l.Unsettled = append(l.Unsettled, l.Next)
			l.Next++
		}
		l.Next += rapid.Int64Range(0, 1<<40).Draw(t, "next")
		g.Lanes = append(g.Lanes, l)
	}
	return g
}

func TestPositions_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := genPositions(t)
		b := want.Append(nil)
		got, err := record.DecodePositions(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
		if _, err := record.DecodePositions(append(b, 0)); !errors.Is(err, record.ErrMalformed) {
			t.Fatalf("a byte behind the end: got %v, want ErrMalformed", err)
		}
		for cut := range b {
			if _, err := record.DecodePositions(b[:cut]); !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("cut to %d of %d bytes: got %v, want ErrMalformed", cut, len(b), err)
			}
		}
	})
}

func TestControlFrames_RoundTrip(t *testing.T) {
	t.Parallel()
	for _, topic := range []record.Topic{
		{Name: "%RETRY%group", Queues: 3, Origins: []string{"a", "b"}},
		{Name: "t", Queues: 3, IDs: []uint32{0, 7, math.MaxUint32}},
		{Name: "t", Queues: 2, Origins: []string{"a", "b"}, IDs: []uint32{4, 1}, Next: []int64{0, math.MaxInt64}},
	} {
		b := topic.Append(nil)
		if got, err := record.DecodeTopic(b); err != nil || !reflect.DeepEqual(got, topic) {
			t.Errorf("topic: got %+v, %v; want %+v", got, err, topic)
		}
		for cut := range b {
			if _, err := record.DecodeTopic(b[:cut]); !errors.Is(err, record.ErrMalformed) {
				t.Errorf("topic cut to %d of %d bytes: got %v, want ErrMalformed", cut, len(b), err)
			}
		}
	}
	if got, err := record.DecodeName(record.AppendName(nil, "bill-settled")); err != nil || got != "bill-settled" {
		t.Errorf("name: got %q, %v", got, err)
	}
	park := record.Park{Half: 1 << 40, At: 1764000000000, Checks: 15}
	if got, err := record.DecodePark(park.Append(nil)); err != nil || got != park {
		t.Errorf("park: got %+v, %v; want %+v", got, err, park)
	}
	decided := record.Decided{Half: 77}
	if got, err := record.DecodeDecided(decided.Append(nil)); err != nil || got != decided {
		t.Errorf("rollback: got %+v, %v; want %+v", got, err, decided)
	}
	due, rest, err := record.SplitDue(append(record.AppendDue(nil, 1764000000000), "message"...))
	if err != nil || due != 1764000000000 || string(rest) != "message" {
		t.Errorf("due: got %d, %q, %v", due, rest, err)
	}
	if _, _, err := record.SplitDue([]byte("short")); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("short delayed record: got %v, want ErrMalformed", err)
	}
}

func TestSetting_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := record.Setting{
			Scope: rapid.SampledFrom([]record.Scope{record.OfTopic, record.OfGroup}).Draw(t, "scope"), Name: rapid.String().Draw(t, "name"),
			Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value"),
		}
		b := want.Append(nil)
		got, err := record.DecodeSetting(b)
		if err != nil || got.Scope != want.Scope || got.Name != want.Name || !bytes.Equal(got.Value, want.Value) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
		if _, err := record.DecodeSetting(append(b, 0)); !errors.Is(err, record.ErrMalformed) {
			t.Fatalf("a byte behind the end: got %v, want ErrMalformed", err)
		}
		for cut := range b {
			if _, err := record.DecodeSetting(b[:cut]); !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("cut to %d of %d bytes: got %v, want ErrMalformed", cut, len(b), err)
			}
		}
	})
	for what, b := range map[string]string{"no scope": "\x01\x00\x01t\x00", "scope 3": "\x01\x03\x01t\x00", "scope 257": "\x01\x81\x02\x01t\x00", "version 2": "\x02\x01\x01t\x00"} {
		if got, err := record.DecodeSetting([]byte(b)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %+v, %v, want ErrMalformed", what, got, err)
		}
	}
}

func TestTopic_Malformed(t *testing.T) {
	t.Parallel()
	for what, b := range map[string][]byte{
		"fewer ids than queues":     record.Topic{Name: "t", Queues: 3, IDs: []uint32{0, 7}}.Append(nil),
		"more ids than queues":      record.Topic{Name: "t", Queues: 1, IDs: []uint32{0, 7}}.Append(nil),
		"fewer offsets than queues": record.Topic{Name: "t", Queues: 2, IDs: []uint32{0, 7}, Next: []int64{1}}.Append(nil),
		"offsets without ids":       record.Topic{Name: "t", Queues: 1, Next: []int64{1}}.Append(nil),
		"an id of 33 bits":          []byte("\x02\x01t\x01\x00\x01\x80\x80\x80\x80\x10\x00"),
		"ids in version 1":          []byte("\x01\x01t\x01\x00\x01\x05\x00"),
		"version 3":                 []byte("\x03\x01t\x01\x00"),
		"nothing":                   nil,
	} {
		if got, err := record.DecodeTopic(b); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %+v, %v, want ErrMalformed", what, got, err)
		}
	}
}

// The bytes on disk must not change by accident.
func TestControlFrames_Golden(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ got, want []byte }{
		"topic": {record.Topic{Name: "t", Queues: 4, Origins: []string{"o"}}.Append(nil), []byte("\x01\x01t\x04\x01\x01o")},
		"topic v2": {
			record.Topic{Name: "t", Queues: 2, Origins: []string{"o"}, IDs: []uint32{1, 300}, Next: []int64{5, 0}}.Append(nil),
			[]byte("\x02\x01t\x02\x01\x01o\x02\x01\xac\x02\x02\x05\x00"),
		},
		"settings": {record.Setting{Scope: record.OfGroup, Name: "g", Value: []byte("{}")}.Append(nil), []byte("\x01\x02\x01g\x02{}")},
		"name":     {record.AppendName(nil, "t"), []byte("\x01\x01t")},
		"rollback": {record.Decided{Half: 300}.Append(nil), []byte("\x01\xac\x02")},
		"park":     {record.Park{Half: 1, At: 2, Checks: 3}.Append(nil), []byte("\x01\x01\x02\x03")},
		"positions": {record.GroupPositions{Group: "g", Topic: "t", Lanes: []record.LanePosition{
			{Queue: record.RetryLane, Next: 9, Unsettled: []int64{2, 5}},
		}}.Append(nil), []byte("\x01\x01g\x01t\x00\x01\x00\x09\x02\x02\x03")},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: got %q, want %q", what, c.got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x01\x01g\x01t\x00\x01\x00\x09\x02\x02\x03"))
	f.Add([]byte("\x01\x01t\x04\x01\x01o"))
	f.Add([]byte("\x02\x01t\x02\x01\x01o\x02\x01\xac\x02\x02\x05\x00"))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := record.DecodePositions(b); err == nil {
			again, err := record.DecodePositions(g.Append(nil))
			if err != nil || !reflect.DeepEqual(again, g) {
				t.Errorf("positions %+v came back as %+v, %v", g, again, err)
			}
			for _, l := range g.Lanes {
				if p := l.Position(); p < 0 || p > l.Next {
					t.Errorf("position %d of %+v", p, l)
				}
			}
		}
		if topic, err := record.DecodeTopic(b); err == nil {
			again, err := record.DecodeTopic(topic.Append(nil))
			if err != nil || !reflect.DeepEqual(again, topic) {
				t.Errorf("topic %+v came back as %+v, %v", topic, again, err)
			}
		}
		_, _ = record.DecodeName(b)
		_, _ = record.DecodePark(b)
		_, _ = record.DecodeDecided(b)
		_, _, _ = record.SplitDue(b)
	})
}
