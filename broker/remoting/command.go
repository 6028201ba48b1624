package remoting

import (
	"encoding/binary"
	"fmt"
)

// Bits of [Command.Flag].
const (
	// FlagResponse marks a response.
	FlagResponse int32 = 1
	// FlagOneWay marks a request that wants no response.
	FlagOneWay int32 = 2
)

// Command is one frame: a request or a response.
type Command struct {
	// Code is a Req… of requests and a Res… of responses.
	Code     int
	Language Language
	// Version is the release of the sender; see [Version].
	Version int
	// Opaque pairs a response with its request. It may be negative.
	Opaque int32
	// Flag holds [FlagResponse] and [FlagOneWay].
	Flag int32
	// Remark is a text for people. Whether a command failed is in Code alone.
	Remark string
	Fields Fields
	Body   []byte
	// Binary is the form of the header: true for ROCKETMQ, false for JSON.
	Binary bool
}

// IsResponse reports whether c answers a request.
func (c *Command) IsResponse() bool { return c.Flag&FlagResponse != 0 }

// IsOneWay reports whether the sender of c waits for no response.
func (c *Command) IsOneWay() bool { return c.Flag&FlagOneWay != 0 }

// Reset empties c and keeps the memory of its fields.
func (c *Command) Reset() { *c = Command{Fields: c.Fields[:0]} }

// Decode reads the content of a frame, that is without the four bytes of its
// length, into c, whatever c held before. The memory of c.Fields is used again;
// c.Body is a part of frame, everything else is copied, with two allocations at
// most where the text is UTF-8. The error is a [*FrameError] about lengths and
// the form, or wraps a [*SyntaxError] about the header; c is then undefined.
func Decode(frame []byte, c *Command, l Limits) error {
	c.Reset()
	l = l.withDefaults()
	if len(frame) < 4 || len(frame) > l.Frame {
		return &FrameError{What: "frame", Size: int64(len(frame)), Least: 4, Most: int64(l.Frame)}
	}
	mark := binary.BigEndian.Uint32(frame)
	size, err := headerSize(mark, len(frame), l)
	if err != nil {
		return err
	}
	header, body := frame[4:4+size], frame[4+size:]
	if mark>>24 == formBinary {
		err = decodeBinaryHeader(header, c, l)
	} else {
		err = decodeJSONHeader(header, c, l)
	}
	if err != nil {
		return fmt.Errorf("decode %s header: %w", formNames[mark>>24], err)
	}
	if len(body) > 0 {
		c.Body = body
	}
	return nil
}

// AppendFrame appends the whole frame of c, its length included, in the form
// that c.Binary says. In JSON an empty remark and an empty list of fields are
// left out; in the binary form fields without a name or a value are, because
// no reader would see them. What does not fit the form or [DefaultFrame] answers b
// unchanged and a [*FrameError].
func AppendFrame(b []byte, c *Command) ([]byte, error) {
	out, err := AppendFrameHead(b, c, len(c.Body))
	if err != nil {
		return b, err
	}
	return append(out, c.Body...), nil
}

// AppendFrameHead is [AppendFrame] for a frame with a body of bodyLen bytes
// that is written apart; c.Body is not looked at.
func AppendFrameHead(b []byte, c *Command, bodyLen int) ([]byte, error) {
	start := len(b)
	form := uint32(formJSON)
	out := append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	if c.Binary {
		form = formBinary
		var err error
		if out, err = appendBinaryHeader(out, c); err != nil {
			return b, err
		}
	} else {
		out = appendJSONHeader(out, c)
	}
	size := len(out) - start - 8
	total := int64(4) + int64(size) + int64(bodyLen)
	if size > maxHeader24 {
		return b, &FrameError{What: "header", Size: int64(size), Most: maxHeader24}
	}
	if bodyLen < 0 || total > DefaultFrame {
		return b, &FrameError{What: "frame", Size: total, Least: 4, Most: DefaultFrame}
	}
	binary.BigEndian.PutUint32(out[start:], uint32(total))
	binary.BigEndian.PutUint32(out[start+4:], form<<24|uint32(size))
	return out, nil
}
