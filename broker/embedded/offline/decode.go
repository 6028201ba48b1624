package offline

import (
	"fmt"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// newFrame reads what f says. The body of a message shares memory with it.
func newFrame(f commitlog.Frame) Frame {
	fr := Frame{
		Pos: f.Pos, File: segmentName(f.Base), Offset: f.Pos - f.Base,
		Length: commitlog.FrameSize(len(f.Payload)), Kind: Kind(f.Kind),
	}
	if err := fr.read(f.Payload); err != nil {
		fr.Message, fr.Decision, fr.Topic, fr.Positions, fr.Settings = nil, nil, nil, nil, nil
		fr.Reason = err.Error()
	}
	return fr
}

func (f *Frame) read(b []byte) (err error) {
	switch f.Kind {
	case KindMessage, KindFired, KindCommitted, KindDelayed, KindHalf:
		f.Message, err = f.newMessage(b)
	case KindRolledBack:
		var d record.Decided
		d, err = record.DecodeDecided(b)
		f.Decision = &Decision{Half: d.Half}
	case KindParked:
		var p record.Park
		p, err = record.DecodePark(b)
		f.Decision = &Decision{Half: p.Half, At: time.UnixMilli(p.At), Checks: p.Checks}
	case KindTopicCreated:
		var t record.Topic
		t, err = record.DecodeTopic(b)
		f.Topic = newTopic(t)
	case KindTopicDeleted:
		f.Topic = &Topic{}
		f.Topic.Name, err = record.DecodeName(b)
	case KindPositions:
		var g record.GroupPositions
		g, err = record.DecodePositions(b)
		f.Positions = newPositions(g)
	case KindSettings:
		var r record.Setting
		r, err = record.DecodeSetting(b)
		f.Settings = &Settings{Topic: r.Scope == record.OfTopic, Name: r.Name, Value: string(r.Value)}
	case KindGroupDeleted:
		f.Settings = &Settings{}
		f.Settings.Name, err = record.DecodeName(b)
	default:
		err = fmt.Errorf("there is no kind %d of frames", uint8(f.Kind))
	}
	return err
}

func newTopic(t record.Topic) *Topic {
	return &Topic{Name: t.Name, Queues: t.Queues, Origins: t.Origins, IDs: t.IDs, Next: t.Next}
}

func newPositions(g record.GroupPositions) *Positions {
	p := &Positions{Group: g.Group, Topic: g.Topic, Client: g.Client}
	for _, l := range g.Lanes {
		p.Lanes = append(p.Lanes, LanePosition{Queue: l.Queue, Next: l.Next, Unsettled: l.Unsettled})
	}
	return p
}

func (f *Frame) newMessage(b []byte) (*Message, error) {
	m := &Message{Ends: -1}
	if f.Kind == KindDelayed {
		ms, stored, err := record.SplitDue(b)
		if err != nil {
			return nil, err
		}
		b, m.Due = stored, time.UnixMilli(ms)
	}
	s, n, err := message.Decode(b)
	switch {
	case err != nil:
		return nil, err
	case n != len(b):
		return nil, fmt.Errorf("%d bytes follow the message", len(b)-n)
	case s.PhysicalOffset != f.Pos:
		return nil, fmt.Errorf("the message says that it lies at %d", s.PhysicalOffset)
	}
	m.Topic, m.Queue, m.Offset = s.Topic, int(s.QueueID), s.QueueOffset
	m.Born, m.Stored = time.UnixMilli(s.BornTimestamp), time.UnixMilli(s.StoreTimestamp)
	m.Failures, m.Body, m.Properties = int(s.ReconsumeTimes), s.Body, s.Properties
	if f.Kind == KindFired || f.Kind == KindCommitted {
		m.Ends = s.PreparedTransactionOffset
	}
	for name, value := range message.Properties(s.Properties) {
		switch name {
		case message.UniqKey:
			m.ID = value
		case message.Keys:
			m.Keys = message.SplitKeys(value)
		case message.Tags:
			m.Tag = value
		case message.ShardingKey:
			m.OrderingKey = value
		case message.ProducerGroup:
			m.Group = value
		}
	}
	return m, nil
}
