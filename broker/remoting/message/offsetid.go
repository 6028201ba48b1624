package message

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
)

const (
	offsetIDv4 = 32
	offsetIDv6 = 56
)

// OffsetID names the copy of a message that host stores at the physical offset
// pos: 32 upper case hex digits, 56 with an IPv6 host. An address that is not
// valid counts as 0.0.0.0:0.
func OffsetID(host netip.AddrPort, pos int64) string {
	var b [offsetIDv6]byte
	return string(AppendOffsetID(b[:0], host, pos))
}

// AppendOffsetID appends [OffsetID] to b.
func AppendOffsetID(b []byte, host netip.AddrPort, pos int64) []byte {
	var raw [offsetIDv6 / 2]byte
	r := appendHost(raw[:0], host)
	return appendUpperHex(b, binary.BigEndian.AppendUint64(r, uint64(pos)))
}

// OffsetIDLen is the length of the offset ids of host.
func OffsetIDLen(host netip.AddrPort) int {
	if isV6(host) {
		return offsetIDv6
	}
	return offsetIDv4
}

// ParseOffsetID is the inverse of [OffsetID]; digits of either case are read.
// A unique id may parse as well, with a nonsensical port: such ones are refused.
func ParseOffsetID(id string) (host netip.AddrPort, pos int64, err error) {
	if len(id) != offsetIDv4 && len(id) != offsetIDv6 {
		return host, 0, fmt.Errorf("parse offset id %.64q: %w: %d characters, it has %d or %d", id, ErrMalformed, len(id), offsetIDv4, offsetIDv6)
	}
	b, err := hex.DecodeString(id)
	if err != nil {
		return host, 0, fmt.Errorf("parse offset id %q: %w: not hexadecimal", id, ErrMalformed)
	}
	c := cursor{b: b}
	host = c.host(len(id) == offsetIDv6)
	pos = int64(c.u64())
	if c.bad || pos < 0 {
		return netip.AddrPort{}, 0, fmt.Errorf("parse offset id %q: %w: it holds no port and offset", id, ErrMalformed)
	}
	return host, pos, nil
}

func appendUpperHex(b, raw []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range raw {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}
