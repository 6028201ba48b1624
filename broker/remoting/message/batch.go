package message

import (
	"encoding/binary"
	"fmt"
)

const batchFixed = 22

// BatchElement is one message in the body of a batch.
type BatchElement struct {
	Flag       int32
	Body       []byte
	Properties string
}

// AppendBatch appends e to the body of a batch.
func AppendBatch(b []byte, e BatchElement) ([]byte, error) {
	if len(e.Properties) > MaxProperties || len(e.Body) > MaxBody {
		return b, fmt.Errorf("encode batch: body of %d and properties of %d bytes, at most %d and %d: %w",
			len(e.Body), len(e.Properties), MaxBody, MaxProperties, ErrTooLong)
	}
	be := binary.BigEndian
	b = be.AppendUint32(b, uint32(batchFixed+len(e.Body)+len(e.Properties)))
	b = be.AppendUint32(b, 0) // magic and checksum are the broker's
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, uint32(e.Flag))
	b = be.AppendUint32(b, uint32(len(e.Body)))
	b = append(b, e.Body...)
	b = be.AppendUint16(b, uint16(len(e.Properties)))
	return append(b, e.Properties...), nil
}

// DecodeBatch reads the body of a batch of at most limit messages; bodies are
// parts of b. A limit below 1 is no limit but the length of b.
func DecodeBatch(b []byte, limit int) ([]BatchElement, error) { return AppendBatchOf(nil, b, limit) }

// AppendBatchOf is [DecodeBatch] into memory that out has: it answers out with
// the messages behind what is there, or nil and an error. The limit counts both.
func AppendBatchOf(out []BatchElement, b []byte, limit int) ([]BatchElement, error) {
	for len(b) > 0 {
		if limit > 0 && len(out) == limit {
			return nil, fmt.Errorf("decode batch: more than %d messages: %w", limit, ErrTooLong)
		}
		if len(b) < batchFixed {
			return nil, fmt.Errorf("decode batch: %w: %d bytes behind message %d", ErrMalformed, len(b), len(out))
		}
		n := binary.BigEndian.Uint32(b)
		if n < batchFixed || uint64(n) > uint64(len(b)) {
			return nil, fmt.Errorf("decode batch: %w: message %d has size %d, between %d and %d is possible", ErrMalformed, len(out), n, batchFixed, len(b))
		}
		c := cursor{b: b[12:n]}
		e := BatchElement{Flag: int32(c.u32())}
		e.Body = c.bytes(int(int32(c.u32())))
		e.Properties = string(c.bytes(int(int16(c.u16()))))
		if c.bad || len(c.b) != 0 {
			return nil, fmt.Errorf("decode batch: %w: the parts of message %d do not fill its size of %d", ErrMalformed, len(out), n)
		}
		out = append(out, e)
		b = b[n:]
	}
	return out, nil
}

// IsInnerBatch reports whether the body of s is a batch that clients take
// apart.
func (s *Stored) IsInnerBatch() bool {
	const both = SysNeedUnwrap | SysInnerBatch
	return s.SysFlag&both == both
}

// Unwrap takes an inner batch apart, into at most limit messages; a limit
// below 1 is none. Element i has the queue offset of s plus i, and its own flag,
// body and properties; all else is that of s, the system flag included, so what
// comes out is not to be unwrapped again. Bodies are parts of that of s.
func (s *Stored) Unwrap(limit int) ([]Stored, error) {
	elements, err := DecodeBatch(s.Body, limit)
	if err != nil {
		return nil, fmt.Errorf("unwrap message at offset %d of topic %s: %w", s.QueueOffset, s.Topic, err)
	}
	out := make([]Stored, len(elements))
	for i, e := range elements {
		out[i] = *s
		out[i].QueueOffset += int64(i)
		out[i].Flag, out[i].Body, out[i].Properties = e.Flag, e.Body, e.Properties
	}
	return out, nil
}
