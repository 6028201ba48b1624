package remoting

import (
	"encoding/binary"
	"math"
)

// binaryFixed is the size of a binary header without remark and fields.
const binaryFixed = 21

func decodeBinaryHeader(h []byte, c *Command, l Limits) error {
	c.Binary = true
	if len(h) < binaryFixed {
		return &SyntaxError{At: len(h), Reason: "end of the header"}
	}
	be := binary.BigEndian
	c.Code = int(int16(be.Uint16(h)))
	c.Language = languageNumber(h[2])
	c.Version = int(int16(be.Uint16(h[3:])))
	c.Opaque = int32(be.Uint32(h[5:]))
	c.Flag = int32(be.Uint32(h[9:]))
	t := texts{raw: h, s: string(h[13:]), at: 13}
	var err error
	if c.Remark, err = t.next(4); err != nil {
		return err
	}
	if n := t.length(4); n != int64(len(h)-t.at) {
		return &SyntaxError{At: t.at, Reason: "the length of the fields is not that of the rest"}
	}
	for n := 1; t.at < len(h); n++ {
		if n > l.Fields {
			return &SyntaxError{At: t.at, Reason: "too many fields"}
		}
		if err := t.field(c, l); err != nil {
			return err
		}
	}
	return nil
}

// texts reads strings behind their lengths out of a header, as parts of one
// copy of it.
type texts struct {
	raw []byte
	s   string // of raw[13:]
	at  int    // in raw
}

// length reads a length of 2 or 4 bytes; -1 if there is none.
func (t *texts) length(size int) int64 {
	if len(t.raw)-t.at < size {
		return -1
	}
	b := t.raw[t.at:]
	t.at += size
	if size == 2 {
		return int64(int16(binary.BigEndian.Uint16(b)))
	}
	return int64(int32(binary.BigEndian.Uint32(b)))
}

func (t *texts) next(size int) (string, error) {
	n := t.length(size)
	if n < 0 || n > int64(len(t.raw)-t.at) {
		return "", &SyntaxError{At: t.at, Reason: "a length goes beyond the header"}
	}
	s := t.s[t.at-13:][:n]
	t.at += int(n)
	return validText(s), nil
}

// field reads one field. As in Java, no value is as good as no field, and
// takes an earlier one of that name with it.
func (t *texts) field(c *Command, l Limits) error {
	at := t.at
	name, err := t.next(2)
	if err != nil {
		return err
	}
	value, err := t.next(4)
	if err != nil {
		return err
	}
	switch {
	case len(name) > l.Name:
		return &SyntaxError{At: at, Reason: "the name of a field is too long"}
	case value == "":
		c.Fields.Delete(name)
	case name != "":
		c.Fields = append(c.Fields, Field{name, value})
	}
	return nil
}

func appendBinaryHeader(b []byte, c *Command) ([]byte, error) {
	if c.Code < math.MinInt16 || c.Code > math.MaxInt16 {
		return b, &FrameError{What: "code in a binary header", Size: int64(c.Code), Least: math.MinInt16, Most: math.MaxInt16}
	}
	if c.Version < math.MinInt16 || c.Version > math.MaxInt16 {
		return b, &FrameError{What: "version in a binary header", Size: int64(c.Version), Least: math.MinInt16, Most: math.MaxInt16}
	}
	be := binary.BigEndian
	b = be.AppendUint16(b, uint16(c.Code))
	b = append(b, byte(c.Language))
	b = be.AppendUint16(b, uint16(c.Version))
	b = be.AppendUint32(b, uint32(c.Opaque))
	b = be.AppendUint32(b, uint32(c.Flag))
	b = be.AppendUint32(b, uint32(len(c.Remark)))
	b = append(b, c.Remark...)
	b = be.AppendUint32(b, 0)
	start := len(b)
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.Name == "" || f.Value == "" {
			continue
		}
		if len(f.Name) > math.MaxInt16 {
			return b, &FrameError{What: "name of a field", Size: int64(len(f.Name)), Most: math.MaxInt16}
		}
		b = be.AppendUint16(b, uint16(len(f.Name)))
		b = append(b, f.Name...)
		b = be.AppendUint32(b, uint32(len(f.Value)))
		b = append(b, f.Value...)
	}
	be.PutUint32(b[start-4:], uint32(len(b)-start))
	return b, nil
}
