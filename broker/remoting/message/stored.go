package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net/netip"
)

// Magic numbers of a record.
const (
	// MagicV1 begins a record whose topic length has one byte.
	MagicV1 uint32 = 0xDAA320A7
	// MagicV2 begins a record whose topic length has two bytes.
	MagicV2 uint32 = 0xDAA320AB
	// MagicBlank begins the filler at the end of a RocketMQ commit log file;
	// it is never sent to clients.
	MagicBlank uint32 = 0xCBD43194
)

// LeastSize is the size of the smallest record in bytes.
const LeastSize = fixedSize

// Limits of the layout. A broker may set smaller ones.
const (
	// MaxTopicV1 is the longest topic in bytes that the first magic can hold:
	// Java reads its length as a signed byte.
	MaxTopicV1 = math.MaxInt8
	// MaxTopic is the longest topic in bytes.
	MaxTopic = math.MaxInt16
	// MaxProperties is the longest string of properties in bytes.
	MaxProperties = math.MaxInt16
	// MaxBody is the longest body in bytes.
	MaxBody = 1 << 30
)

const (
	fixedSize = 91 // IPv4 hosts, first magic, nothing in the three variable parts
	headSize  = 88 // what stands before the body, with IPv4 hosts
	v6Extra   = 12
	crcMask   = 0x7FFFFFFF

	atQueueID     = 12
	atQueueOffset = 20
	atPhysical    = 28
	atSysFlag     = 36
	atBornHost    = 48
)

// Errors of this package; those that are returned wrap them with details.
var (
	// ErrMalformed: the bytes are not what they should be.
	ErrMalformed = errors.New("malformed message")
	// ErrBodyCRC: the body does not match its checksum.
	ErrBodyCRC = errors.New("body does not match its checksum")
	// ErrTooLong: a part does not fit its length field.
	ErrTooLong = errors.New("too long for the message format")
)

// Stored is one stored message. Times are in milliseconds since 1970.
type Stored struct {
	Topic          string
	QueueID        int32
	QueueOffset    int64
	PhysicalOffset int64
	// Flag is the application's own.
	Flag int32
	// SysFlag holds the Sys… bits. AppendTo writes those about hosts as the
	// hosts are, whatever is set here.
	SysFlag        int32
	BornTimestamp  int64
	StoreTimestamp int64
	// BornHost and StoreHost are written as 0.0.0.0:0 when they are not valid.
	// IPv4 addresses in IPv6 form are written as IPv4.
	BornHost, StoreHost netip.AddrPort
	// ReconsumeTimes is how often the message failed before.
	ReconsumeTimes int32
	// PreparedTransactionOffset is, on the message of a committed transaction,
	// the physical offset of its half message, else 0.
	PreparedTransactionOffset int64
	// Body as stored, that is compressed if [SysCompressed] is set.
	Body []byte
	// Properties is the encoded string; see [ParseProperties] and [Property].
	Properties string
}

// Size is the size of the record in bytes.
func (s *Stored) Size() int {
	n := fixedSize + len(s.Body) + len(s.Topic) + len(s.Properties)
	if isV6(s.BornHost) {
		n += v6Extra
	}
	if isV6(s.StoreHost) {
		n += v6Extra
	}
	if len(s.Topic) > MaxTopicV1 {
		n++
	}
	return n
}

// AppendTo appends the record to b. It keeps nothing of b and of s. If a part
// is too long it answers b unchanged and an error that wraps [ErrTooLong].
func (s *Stored) AppendTo(b []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return b, err
	}
	b = s.appendHead(b)
	b = append(b, s.Body...)
	b = s.appendTopic(b, len(s.Properties))
	return append(b, s.Properties...), nil
}

// AppendAround appends to b what stands in a record before the body and behind
// it; the tail is b[head:]. A writer that takes parts thus copies a body once.
// The properties are those that encode appends, s.Properties is not looked at.
// If a part is too long it answers b unchanged and an error that wraps
// [ErrTooLong].
func (s *Stored) AppendAround(b []byte, encode func(b []byte) []byte) (around []byte, head int, err error) {
	start := len(b)
	around = s.appendHead(b)
	head = len(around)
	around = s.appendTopic(around, 0)
	at := len(around)
	around = encode(around)
	n := len(around) - at
	checked := Stored{Topic: s.Topic, Body: s.Body}
	if err := checked.check(); err != nil {
		return b, 0, err
	}
	if n > MaxProperties {
		return b, 0, propertiesTooLong(s.Topic, n)
	}
	binary.BigEndian.PutUint16(around[at-2:], uint16(n))
	binary.BigEndian.PutUint32(around[start:], uint32(len(around)-start+len(s.Body)))
	return around, head, nil
}

func propertiesTooLong(topic string, n int) error {
	return fmt.Errorf("encode message for %s: properties of %d bytes, at most %d: %w", topic, n, MaxProperties, ErrTooLong)
}

// check refuses parts that do not fit their length fields.
func (s *Stored) check() error {
	switch {
	case len(s.Topic) > MaxTopic:
		return fmt.Errorf("encode message: topic of %d bytes, at most %d: %w", len(s.Topic), MaxTopic, ErrTooLong)
	case len(s.Properties) > MaxProperties:
		return propertiesTooLong(s.Topic, len(s.Properties))
	case len(s.Body) > MaxBody:
		return fmt.Errorf("encode message for %s: body of %d bytes, at most %d: %w", s.Topic, len(s.Body), MaxBody, ErrTooLong)
	}
	return nil
}

// appendHead appends everything before the body.
func (s *Stored) appendHead(b []byte) []byte {
	magic := MagicV1
	if len(s.Topic) > MaxTopicV1 {
		magic = MagicV2
	}
	be := binary.BigEndian
	b = be.AppendUint32(b, uint32(s.Size()))
	b = be.AppendUint32(b, magic)
	b = be.AppendUint32(b, BodyCRC(s.Body))
	b = be.AppendUint32(b, uint32(s.QueueID))
	b = be.AppendUint32(b, uint32(s.Flag))
	b = be.AppendUint64(b, uint64(s.QueueOffset))
	b = be.AppendUint64(b, uint64(s.PhysicalOffset))
	b = be.AppendUint32(b, uint32(s.hostFlags()))
	b = be.AppendUint64(b, uint64(s.BornTimestamp))
	b = appendHost(b, s.BornHost)
	b = be.AppendUint64(b, uint64(s.StoreTimestamp))
	b = appendHost(b, s.StoreHost)
	b = be.AppendUint32(b, uint32(s.ReconsumeTimes))
	b = be.AppendUint64(b, uint64(s.PreparedTransactionOffset))
	return be.AppendUint32(b, uint32(len(s.Body)))
}

// appendTopic appends the topic and the length of the properties behind it.
func (s *Stored) appendTopic(b []byte, properties int) []byte {
	if len(s.Topic) > MaxTopicV1 {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s.Topic)))
	} else {
		b = append(b, byte(len(s.Topic)))
	}
	b = append(b, s.Topic...)
	return binary.BigEndian.AppendUint16(b, uint16(properties))
}

func (s *Stored) hostFlags() int32 {
	f := s.SysFlag &^ (SysBornHostV6 | SysStoreHostV6)
	if isV6(s.BornHost) {
		f |= SysBornHostV6
	}
	if isV6(s.StoreHost) {
		f |= SysStoreHostV6
	}
	return f
}

// Decode reads the record at the beginning of b and answers its size, so that
// b[n:] is the next one. The Body is a part of b; everything else is copied.
// Bytes that are no record answer an error that wraps [ErrMalformed], a body
// that was changed one that wraps [ErrBodyCRC]. The size is answered with an
// error too where it is known and lies within b, else it is 0.
func Decode(b []byte) (s Stored, n int, err error) {
	return DecodeOf("", b)
}

func checkBody(s *Stored, crc uint32) error {
	if got := BodyCRC(s.Body); got != crc {
		return fmt.Errorf("decode message of topic %s: %w: stored %08x, computed %08x", s.Topic, ErrBodyCRC, crc, got)
	}
	return nil
}

// DecodeOf is [Decode] for records that are probably of one topic, which costs
// no copy of its name.
func DecodeOf(topic string, b []byte) (s Stored, n int, err error) {
	var v View
	n, crc, err := v.decode(b)
	if err != nil {
		return Stored{}, n, err
	}
	s = v.Stored
	if s.Topic = topic; string(v.TopicBytes) != topic {
		s.Topic = string(v.TopicBytes)
	}
	s.Properties = string(v.PropertyBytes)
	if err := checkBody(&s, crc); err != nil {
		return Stored{}, n, err
	}
	return s, n, nil
}

// DecodeTrusted is [Decode] without the checksum of the body, for bytes that
// an outer checksum has proved already.
func DecodeTrusted(b []byte) (s Stored, n int, err error) {
	v, n, err := DecodeView(b)
	if err != nil {
		return Stored{}, n, err
	}
	v.Topic, v.Properties = string(v.TopicBytes), string(v.PropertyBytes)
	return v.Stored, n, nil
}

// View is a record whose variable parts lie in the bytes it was decoded from.
// Topic and Properties of the embedded Stored are empty.
type View struct {
	Stored
	// TopicBytes and PropertyBytes are parts of the record, as Body is.
	TopicBytes, PropertyBytes []byte
}

// DecodeView is [DecodeTrusted] without a copy of anything.
func DecodeView(b []byte) (v View, n int, err error) {
	n, _, err = v.decode(b)
	return v, n, err
}

func (v *View) decode(b []byte) (n int, crc uint32, err error) {
	if len(b) < fixedSize {
		return 0, 0, fmt.Errorf("decode message: %w: %d bytes, a record has at least %d", ErrMalformed, len(b), fixedSize)
	}
	total := binary.BigEndian.Uint32(b)
	if total < fixedSize || uint64(total) > uint64(len(b)) {
		return 0, 0, fmt.Errorf("decode message: %w: size %d, between %d and %d is possible", ErrMalformed, total, fixedSize, len(b))
	}
	n = int(total)
	magic := binary.BigEndian.Uint32(b[4:])
	if magic != MagicV1 && magic != MagicV2 {
		return n, 0, fmt.Errorf("decode message: %w: magic %08x", ErrMalformed, magic)
	}
	c := cursor{b: b[8:n]}
	crc = c.u32()
	v.QueueID = int32(c.u32())
	v.Flag = int32(c.u32())
	v.QueueOffset = int64(c.u64())
	v.PhysicalOffset = int64(c.u64())
	v.SysFlag = int32(c.u32())
	v.BornTimestamp = int64(c.u64())
	v.BornHost = c.host(v.SysFlag&SysBornHostV6 != 0)
	v.StoreTimestamp = int64(c.u64())
	v.StoreHost = c.host(v.SysFlag&SysStoreHostV6 != 0)
	v.ReconsumeTimes = int32(c.u32())
	v.PreparedTransactionOffset = int64(c.u64())
	v.Body = c.bytes(int(int32(c.u32())))
	if magic == MagicV2 {
		v.TopicBytes = c.bytes(int(int16(c.u16())))
	} else {
		v.TopicBytes = c.bytes(int(int8(c.u8())))
	}
	v.PropertyBytes = c.bytes(int(int16(c.u16())))
	switch {
	case c.bad:
		return n, 0, fmt.Errorf("decode message: %w: a field goes beyond the size of %d", ErrMalformed, n)
	case len(c.b) != 0:
		return n, 0, fmt.Errorf("decode message: %w: %d bytes behind the last field", ErrMalformed, len(c.b))
	}
	return n, crc, nil
}

// BodyCRC is the checksum of a body as records carry it: CRC-32 (IEEE) without
// the highest bit.
func BodyCRC(body []byte) uint32 { return crc32.ChecksumIEEE(body) & crcMask }

// PatchOffsets sets queue, queue offset and physical offset of the encoded
// record at the beginning of b, for a writer that learns them last. A b too
// short to be a record is left alone and answers false.
func PatchOffsets(b []byte, queueID int32, queueOffset, physicalOffset int64) bool {
	if len(b) < headSize {
		return false
	}
	binary.BigEndian.PutUint32(b[atQueueID:], uint32(queueID))
	binary.BigEndian.PutUint64(b[atQueueOffset:], uint64(queueOffset))
	binary.BigEndian.PutUint64(b[atPhysical:], uint64(physicalOffset))
	return true
}

// PatchStoreTimestamp sets the store timestamp, in milliseconds, of the encoded
// record at the beginning of b. A b too short to be a record is left alone and
// answers false.
func PatchStoreTimestamp(b []byte, ms int64) bool {
	if len(b) < headSize {
		return false
	}
	at := atBornHost + 8
	if int32(binary.BigEndian.Uint32(b[atSysFlag:]))&SysBornHostV6 != 0 {
		at += v6Extra
	}
	binary.BigEndian.PutUint64(b[at:], uint64(ms))
	return true
}

// PatchPrepared sets the prepared transaction offset of the encoded record at
// the beginning of b. A b too short to be a record is left alone and answers
// false.
func PatchPrepared(b []byte, pos int64) bool {
	if len(b) < headSize {
		return false
	}
	flags := int32(binary.BigEndian.Uint32(b[atSysFlag:]))
	at := atBornHost + 8 + 8 + 8 + 4
	if flags&SysBornHostV6 != 0 {
		at += v6Extra
	}
	if flags&SysStoreHostV6 != 0 {
		at += v6Extra
	}
	if len(b) < at+8 {
		return false
	}
	binary.BigEndian.PutUint64(b[at:], uint64(pos))
	return true
}

// PatchStoreHost sets the store host of the encoded record at the beginning of
// b to an IPv4 address. A record whose store host is IPv6, a host that is none
// of IPv4, and a b too short to be a record are left alone and answer false.
func PatchStoreHost(b []byte, host netip.AddrPort) bool {
	a := host.Addr().Unmap()
	if len(b) < headSize || !a.Is4() {
		return false
	}
	flags := int32(binary.BigEndian.Uint32(b[atSysFlag:]))
	at := atBornHost + 8 + 8
	if flags&SysBornHostV6 != 0 {
		at += v6Extra
	}
	if flags&SysStoreHostV6 != 0 || len(b) < at+8 {
		return false
	}
	ip := a.As4()
	copy(b[at:], ip[:])
	binary.BigEndian.PutUint32(b[at+4:], uint32(host.Port()))
	return true
}

func isV6(h netip.AddrPort) bool { return h.Addr().Is6() && !h.Addr().Is4In6() }

// appendHost writes address and port; the port takes four bytes.
func appendHost(b []byte, h netip.AddrPort) []byte {
	switch a := h.Addr().Unmap(); {
	case a.Is4():
		ip := a.As4()
		b = append(b, ip[:]...)
	case a.Is6():
		ip := a.As16()
		b = append(b, ip[:]...)
	default:
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint32(b, uint32(h.Port()))
}
