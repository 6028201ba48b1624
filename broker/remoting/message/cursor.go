package message

import (
	"encoding/binary"
	"net/netip"
)

// cursor reads fields one after the other and remembers, rather than reports,
// that it ran out of bytes; afterwards it answers zeros.
type cursor struct {
	b   []byte
	bad bool
}

// bytes answers the next n bytes without copying; nil for none.
func (c *cursor) bytes(n int) []byte {
	if c.bad || n < 0 || n > len(c.b) {
		c.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) u8() uint8 {
	if p := c.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if p := c.bytes(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if p := c.bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if p := c.bytes(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// host reads an address and a port of four bytes. A port above 65535 is not
// one and makes the record malformed.
func (c *cursor) host(v6 bool) netip.AddrPort {
	n := 4
	if v6 {
		n = 16
	}
	addr, ok := netip.AddrFromSlice(c.bytes(n))
	port := c.u32()
	if !ok || port > 0xFFFF {
		c.bad = true
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, uint16(port))
}
