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
func DecodeBatch(b []byte, limit int) ([]BatchElement, error) {
	var out []BatchElement
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
