package message

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

const (
	offsetIDv4 = 32
	offsetIDv6 = 56
)

// OffsetID names the copy of a message that host stores at the physical offset
// pos: 32 upper case hex digits, 56 with an IPv6 host. An address that is not
// valid counts as 0.0.0.0:0.
func OffsetID(host netip.AddrPort, pos int64) string {
	b := make([]byte, 0, offsetIDv6/2)
	b = appendHost(b, host)
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(uint64(pos)>>shift))
	}
	return upperHex(b)
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

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
