package remoting

import (
	"math"
	"strconv"
	"strings"
)

// QueuePosition is a position on a queue.
type QueuePosition struct {
	MessageQueue
	Offset int64
}

// positions reads an object with queues as names, or the list of objects that
// C++ clients get, or one of pairs.
func (s *scanner) positions() []QueuePosition {
	var out []QueuePosition
	if s.peek() == '[' {
		for range s.elements() {
			var p QueuePosition
			if s.peek() == '[' {
				s.pair(&p)
			} else {
				s.position(&p)
			}
			appendTo(s, &out, p)
		}
		return out
	}
	for key := range s.members() {
		p := QueuePosition{s.queueName(key), s.int64()}
		appendTo(s, &out, p)
	}
	return out
}

func (s *scanner) pair(x *QueuePosition) {
	n := 0
	for range s.elements() {
		switch n++; n {
		case 1:
			s.queue(&x.MessageQueue)
		case 2:
			x.Offset = s.int64()
		default:
			s.fail("more than a pair")
		}
	}
	if n < 2 {
		s.fail("less than a pair")
	}
}

func (s *scanner) position(x *QueuePosition) {
	for name := range s.members() {
		switch {
		case name == "offset":
			x.Offset = s.int64()
		case !s.queueMember(name, &x.MessageQueue):
			s.skip()
		}
	}
}

func (w *writer) positions(list []QueuePosition) {
	w.open('{')
	for _, p := range list {
		w.queueName(p.MessageQueue)
		w.element(p.Offset)
	}
	w.close('}')
}

// element writes a number behind a name.
func (w *writer) element(n int64) { w.b = strconv.AppendInt(w.b, n, 10) }

// OffsetTable is the body of [ReqResetConsumerClientOffset] and of the
// response to [ReqInvokeBrokerToResetOffset].
type OffsetTable struct{ Queues []QueuePosition }

// DecodeOffsetTable reads positions in every form that occurs.
func DecodeOffsetTable(b []byte) (OffsetTable, error) {
	return decodeBody("offset table", b, func(s *scanner, x *OffsetTable) {
		for name := range s.members() {
			if name == "offsetTable" {
				x.Queues = s.positions()
				continue
			}
			s.skip()
		}
	})
}

// AppendTo appends the body with queues as names, which Java clients, admin
// tools and Apache's Go client read.
func (x OffsetTable) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.name("offsetTable")
	w.positions(x.Queues)
	w.close('}')
	return w.b
}

// AppendList appends the body as C++ clients read it.
func (x OffsetTable) AppendList(b []byte) []byte {
	w := writer{b}
	w.open('{')
	array(&w, "offsetTable", x.Queues, func(w *writer, p *QueuePosition) {
		w.open('{')
		w.text("brokerName", p.Broker)
		w.int("offset", p.Offset)
		w.int("queueId", int64(p.Queue))
		w.text("topic", p.Topic)
		w.close('}')
	})
	w.close('}')
	return w.b
}

// ConsumerStatus is the body of the responses to
// [ReqGetConsumerStatusFromClient], which has Queues, and
// [ReqInvokeBrokerToGetConsumerStatus], which has Clients.
type ConsumerStatus struct {
	Queues  []QueuePosition
	Clients []ClientPositions
}

// ClientPositions are the positions of one client.
type ClientPositions struct {
	ClientID string
	Queues   []QueuePosition
}

// DecodeConsumerStatus reads positions of clients.
func DecodeConsumerStatus(b []byte) (ConsumerStatus, error) {
	return decodeBody("consumer status", b, func(s *scanner, x *ConsumerStatus) {
		for name := range s.members() {
			switch name {
			case "consumerTable":
				for id := range s.members() {
					c := ClientPositions{id, s.positions()}
					appendTo(s, &x.Clients, c)
				}
			case "messageQueueTable":
				x.Queues = s.positions()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x ConsumerStatus) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.name("consumerTable")
	w.open('{')
	for _, c := range x.Clients {
		w.name(c.ClientID)
		w.positions(c.Queues)
	}
	w.close('}')
	w.name("messageQueueTable")
	w.positions(x.Queues)
	w.close('}')
	return w.b
}

// NumberedOffset is an offset by a number: of a queue, or of a delay level.
type NumberedOffset struct {
	Number int
	Offset int64
}

func (s *scanner) numbered() []NumberedOffset {
	var out []NumberedOffset
	for name := range s.members() {
		o := NumberedOffset{int(s.ordinal(name, math.MaxInt32)), s.int64()}
		appendTo(s, &out, o)
	}
	return out
}

func (w *writer) numbered(list []NumberedOffset) {
	w.open('{')
	for _, o := range list {
		w.bare(int64(o.Number))
		w.element(o.Offset)
	}
	w.close('}')
}

func decodeNumbered(what, member string, b []byte) ([]NumberedOffset, error) {
	return decodeBody(what, b, func(s *scanner, x *[]NumberedOffset) {
		for name := range s.members() {
			if name == member {
				*x = s.numbered()
				continue
			}
			s.skip()
		}
	})
}

func appendNumbered(b []byte, member string, list []NumberedOffset) []byte {
	w := writer{b}
	w.open('{')
	w.name(member)
	w.numbered(list)
	w.close('}')
	return w.b
}

// CorrectionOffsets is the body of the response to [ReqQueryCorrectionOffset].
type CorrectionOffsets struct{ Offsets []NumberedOffset }

// DecodeCorrectionOffsets reads the response to [ReqQueryCorrectionOffset].
func DecodeCorrectionOffsets(b []byte) (CorrectionOffsets, error) {
	list, err := decodeNumbered("correction offsets", "correctionOffsets", b)
	return CorrectionOffsets{list}, err
}

// AppendTo appends the body.
func (x CorrectionOffsets) AppendTo(b []byte) []byte {
	return appendNumbered(b, "correctionOffsets", x.Offsets)
}

// DelayOffsets is the body of the response to [ReqGetAllDelayOffset].
type DelayOffsets struct{ Levels []NumberedOffset }

// DecodeDelayOffsets reads the response to [ReqGetAllDelayOffset].
func DecodeDelayOffsets(b []byte) (DelayOffsets, error) {
	list, err := decodeNumbered("delay offsets", "offsetTable", b)
	return DelayOffsets{list}, err
}

// AppendTo appends the body.
func (x DelayOffsets) AppendTo(b []byte) []byte { return appendNumbered(b, "offsetTable", x.Levels) }

// ConsumerOffsets is the body of the response to [ReqGetAllConsumerOffset].
type ConsumerOffsets struct {
	// Version is left out if it is zero.
	Version DataVersion
	Groups  []GroupOffsets
}

// GroupOffsets are the positions of a group on a topic by queue.
type GroupOffsets struct {
	Topic, Group string
	Queues       []NumberedOffset
}

// DecodeConsumerOffsets reads the response to [ReqGetAllConsumerOffset].
func DecodeConsumerOffsets(b []byte) (ConsumerOffsets, error) {
	return decodeBody("consumer offsets", b, func(s *scanner, x *ConsumerOffsets) {
		for name := range s.members() {
			switch name {
			case "dataVersion":
				s.dataVersion(&x.Version)
			case "offsetTable":
				for key := range s.members() {
					topic, group, ok := strings.Cut(key, "@")
					if !ok {
						s.fail("no topic@group as a name")
					}
					g := GroupOffsets{topic, group, s.numbered()}
					appendTo(s, &x.Groups, g)
				}
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x ConsumerOffsets) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	if x.Version != (DataVersion{}) {
		w.name("dataVersion")
		w.dataVersion(x.Version)
	}
	w.name("offsetTable")
	w.open('{')
	for _, g := range x.Groups {
		w.name(g.Topic + "@" + g.Group)
		w.numbered(g.Queues)
	}
	w.close('}')
	w.close('}')
	return w.b
}
