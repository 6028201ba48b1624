package server

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// addressPattern is a set of remote addresses.
type addressPattern struct {
	all    bool
	prefix netip.Prefix // of one address, too
	octets *[4][]span   // of IPv4; nil if prefix counts
}

// span is a range of numbers, both ends in it.
type span struct{ from, to uint8 }

// matchAddress reports whether one of the patterns has addr. An address that
// is none, as of a pipe, matches "*" only.
func matchAddress(patterns []addressPattern, addr netip.Addr) bool {
	for _, p := range patterns {
		if p.matches(addr) {
			return true
		}
	}
	return false
}

func (p addressPattern) matches(addr netip.Addr) bool {
	switch {
	case p.all:
		return true
	case p.octets == nil:
		return p.prefix.Contains(addr)
	case !addr.Is4():
		return false
	}
	for i, octet := range addr.As4() {
		if !inSpans(p.octets[i], octet) {
			return false
		}
	}
	return true
}

func inSpans(spans []span, n uint8) bool {
	for _, s := range spans {
		if s.from <= n && n <= s.to {
			return true
		}
	}
	return false
}

// parseAddresses reads a list of patterns with commas between.
func parseAddresses(text string) ([]addressPattern, error) {
	var patterns []addressPattern
	var errs []error
	for _, one := range splitOutside(text) {
		p, err := parseAddress(strings.TrimSpace(one))
		if err != nil {
			errs = append(errs, err)
		}
		patterns = append(patterns, p)
	}
	return patterns, errors.Join(errs...)
}

// splitOutside splits at the commas that are not within braces.
func splitOutside(text string) []string {
	var parts []string
	depth, from := 0, 0
	for i, r := range text {
		switch {
		case r == '{':
			depth++
		case r == '}':
			depth--
		case r == ',' && depth == 0:
			parts = append(parts, text[from:i])
			from = i + 1
		}
	}
	return append(parts, text[from:])
}

func parseAddress(text string) (addressPattern, error) {
	if text == "*" {
		return addressPattern{all: true}, nil
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		if prefix.Addr().Is4In6() { // peers have the IPv4 address that is in it, so it would match nobody
			return addressPattern{}, mapped(text, prefix)
		}
		return addressPattern{prefix: prefix.Masked()}, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return addressPattern{prefix: netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	wrong := fmt.Errorf("address %.64q is none of 10.0.0.1, 10.0.0.*, 10.0.0.1-9, 10.0.0.{1,2}, 10.0.0.0/8, 2001:db8::1, 2001:db8::/32 and *", text)
	parts := strings.Split(text, ".")
	if len(parts) != 4 {
		return addressPattern{}, wrong
	}
	var octets [4][]span
	for i, part := range parts {
		spans, ok := parseOctet(part)
		if !ok {
			return addressPattern{}, wrong
		}
		octets[i] = spans
	}
	return addressPattern{octets: &octets}, nil
}

// mapped refuses a network of IPv4 that is written as one of IPv6, with the form
// that is accepted.
func mapped(text string, prefix netip.Prefix) error {
	const before = 96 // bits in front of the IPv4 address
	if prefix.Bits() < before {
		return fmt.Errorf("address %.64q has IPv4 addresses and others; write networks of IPv4 as such, as in 10.0.0.0/8", text)
	}
	same := netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-before).Masked()
	return fmt.Errorf("address %.64q is a network of IPv4; write it as %s", text, same)
}

// parseOctet reads 7, *, 1-9 or {1,2}.
func parseOctet(text string) ([]span, bool) {
	if text == "*" {
		return []span{{0, 255}}, true
	}
	if inner, ok := strings.CutPrefix(text, "{"); ok {
		inner, ok = strings.CutSuffix(inner, "}")
		var spans []span
		for item := range strings.SplitSeq(inner, ",") {
			n, err := strconv.ParseUint(strings.TrimSpace(item), 10, 8)
			ok = ok && err == nil
			spans = append(spans, span{uint8(n), uint8(n)})
		}
		return spans, ok
	}
	from, to, ranged := strings.Cut(text, "-")
	if !ranged {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 8)
	b, errB := strconv.ParseUint(to, 10, 8)
	return []span{{uint8(a), uint8(b)}}, errA == nil && errB == nil && a <= b
}
