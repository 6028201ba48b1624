package server

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// How many addresses may be trusted that are not private: an IPv4 network of 8
// bits, the largest that anybody has had, and an IPv6 network of 24 bits. By 6to4
// (2002::/16) such a network stands for the same IPv4 network.
const (
	strangers4 = 1 << 24
	strangers6 = 1 << 40 // networks of 64 bits, each of which is one site's
)

// private4 are the IPv4 addresses that nobody comes from who is not near: private,
// link-local and loopback ones. They do not overlap.
func private4() []addressPattern {
	return []addressPattern{
		{prefix: netip.MustParsePrefix("10.0.0.0/8")},
		{prefix: netip.MustParsePrefix("127.0.0.0/8")},
		{prefix: netip.MustParsePrefix("169.254.0.0/16")},
		{prefix: netip.MustParsePrefix("172.16.0.0/12")},
		{prefix: netip.MustParsePrefix("192.168.0.0/16")},
	}
}

// private6 are those of IPv6.
func private6() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10")}
}

// strangers reports whether patterns, taken together, match more addresses that
// are not private than anybody knows the users of.
func strangers(patterns []addressPattern) bool {
	all := slices.ContainsFunc(patterns, func(p addressPattern) bool { return p.all })
	return all || public4(patterns) > strangers4 || public6(patterns) > strangers6
}

// public4 counts the IPv4 addresses that match a pattern and are not private.
func public4(patterns []addressPattern) uint64 {
	return union4(append(private4(), patterns...)) - union4(private4())
}

// union4 counts the IPv4 addresses that match a pattern.
func union4(patterns []addressPattern) uint64 {
	var boxes []*[4][]span
	for _, p := range patterns {
		if p.octets != nil {
			boxes = append(boxes, p.octets)
		} else if p.prefix.Addr().Is4() {
			boxes = append(boxes, octetsOf(p.prefix))
		}
	}
	return countOctets(boxes, 0)
}

// octetsOf writes a prefix as a range of each octet.
func octetsOf(p netip.Prefix) *[4][]span {
	var octets [4][]span
	first := p.Addr().As4()
	hosts := uint32(uint64(1)<<(32-p.Bits()) - 1)
	var last [4]byte
	binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(first[:])|hosts)
	for i := range octets {
		octets[i] = []span{{first[i], last[i]}}
	}
	return &octets
}

// countOctets counts the addresses in a box whose octets before the one at depth
// are given: for each value of that octet it counts in the boxes which have it.
func countOctets(boxes []*[4][]span, depth int) uint64 {
	rest := uint64(1) << (8 * (4 - depth))
	if slices.ContainsFunc(boxes, func(b *[4][]span) bool { return wholeFrom(b, depth) }) {
		return rest
	}
	var having [256][]*[4][]span
	for _, b := range boxes {
		for _, s := range b[depth] {
			for n := int(s.from); n <= int(s.to); n++ {
				if k := len(having[n]); k == 0 || having[n][k-1] != b { // {1,1} names a value twice
					having[n] = append(having[n], b)
				}
			}
		}
	}
	var sum, last uint64
	for n, these := range having {
		switch {
		case len(these) == 0:
			last = 0
		case n == 0 || !slices.Equal(these, having[n-1]): // else it is what it was: ranges are long
			last = countOctets(these, depth+1)
		}
		sum += last
	}
	return sum
}

// wholeFrom reports whether a box has every value of the octets from depth on.
func wholeFrom(box *[4][]span, depth int) bool {
	for _, spans := range box[depth:] {
		if !slices.Contains(spans, span{0, 255}) {
			return false
		}
	}
	return true
}

// public6 counts the IPv6 networks of 64 bits with addresses that match a pattern
// and are not private. No pattern is a part of IPv6 and of a private network
// alike: what has one of them and more is too much by itself, but for ::1.
func public6(patterns []addressPattern) uint64 {
	var nets []netip.Prefix
	for _, p := range patterns {
		if p.octets != nil || p.all || !p.prefix.Addr().Is6() || within(p.prefix, private6()) {
			continue
		}
		nets = append(nets, netip.PrefixFrom(p.prefix.Addr(), min(p.prefix.Bits(), 64)).Masked())
	}
	slices.SortFunc(nets, netip.Prefix.Compare)
	var sum uint64
	var before netip.Prefix
	for _, n := range nets { // in this order one that has others stands before them
		if before.IsValid() && before.Overlaps(n) {
			continue
		}
		before = n
		sum += min(uint64(1)<<(64-max(n.Bits(), 1)), 2*strangers6)
	}
	return sum
}

// within reports whether a network is a part of one of nets.
func within(p netip.Prefix, nets []netip.Prefix) bool {
	return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Bits() <= p.Bits() && n.Contains(p.Addr()) })
}
