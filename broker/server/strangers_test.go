package server

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// TestACL_TrustsAll: it counts what every list trusts together, however that is
// written.
func TestACL_TrustsAll(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		global, own, other string
		want               bool
	}{
		{"*", "", "", true},
		{"", "*.*.*.*", "", true},
		{"0.0.0.0/0", "", "", true},
		{"0.0.0.0/1,128.0.0.0/1", "", "", true},
		{"0.0.0.0/1", "", "", true},
		{"1-126.*.*.*,127-255.*.*.*", "", "", true},
		{"1-223.*.*.*", "", "", true}, // all that anybody can come from
		{"11-12.*.*.*", "", "", true},
		{"*.*.*.{1,2}", "", "", true}, // a door for many all the same
		{"11.0.0.0/8,12.0.0.0/32", "", "", true},
		{"11.0.0.0/8", "12.7.0.1", "", true}, // every list counts
		{"", "11.0.0.0/8", "12.7.0.1", true},
		{"", "0.0.0.0/1", "128.0.0.0/1", true},
		{"::/0", "", "", true},
		{"::/1,8000::/1", "", "", true},
		{"", "::/1", "8000::/1", true},
		{"2000::/3", "", "", true},
		{"2002::/16", "", "", true}, // all of IPv4 by 6to4
		{"2001:db8::/24,2001:100::/64", "", "", true},
		{"f800::/5", "", "", true}, // private ones and others

		{"", "", "", false},
		{"10.0.0.0/8,127.*.*.*,172.16-31.*.*,192.168.0.0/16,169.254.*.*", "11.*.*.*", "11.7.0.0/16,fc00::/7", false},
		{"11.0-127.*.*,11.128.0.0/9", "11.7.0.{1,1}", "", false}, // all of it in one network
		{"fc00::/7,fe80::/10,::1", "2001:d00::/24", "2001:db8::/32,2001:db8:7::1", false},
	} {
		global := ""
		if test.global != "" {
			global = "globalWhiteRemoteAddresses: ['" + test.global + "']\n"
		}
		acl, err := ParseACL([]byte(global + "accounts:\n  - {accessKey: operators, secretKey: operators-secret, whiteRemoteAddress: '" + test.own + "'}\n" +
			"  - {accessKey: billing, secretKey: billing-secret, whiteRemoteAddress: '" + test.other + "'}\n"))
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		if got := acl.TrustsAll(); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// TestPublic4_Counts compares the count with one that asks for every address, or
// rather for one of each kind: every pattern changes its mind at an edge only.
func TestPublic4_Counts(t *testing.T) {
	t.Parallel()
	edges := []int{0, 10, 11, 16, 32, 127, 128, 168, 169, 170, 172, 173, 192, 193, 254, 255, 256}
	rapid.Check(t, func(t *rapid.T) {
		octet := rapid.Custom(func(t *rapid.T) []span {
			var spans []span
			for range rapid.IntRange(1, 2).Draw(t, "spans") {
				from := rapid.IntRange(0, len(edges)-2).Draw(t, "from")
				to := rapid.IntRange(from+1, len(edges)-1).Draw(t, "to")
				spans = append(spans, span{uint8(edges[from]), uint8(edges[to] - 1)})
			}
			return spans
		})
		whole := rapid.SampledFrom([]bool{true, true, false})
		var patterns []addressPattern
		for range rapid.IntRange(0, 5).Draw(t, "patterns") {
			if rapid.Bool().Draw(t, "prefix") {
				text := rapid.SampledFrom([]string{"0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/3", "16.0.0.0/4", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "254.254.0.0/16", "255.0.0.0/9", "10.10.10.0/28", "0.0.0.0/0"}).Draw(t, "network")
				patterns = append(patterns, addressPattern{prefix: netip.MustParsePrefix(text)})
				continue
			}
			var octets [4][]span
			for i := range octets {
				octets[i] = []span{{0, 255}}
				if !whole.Draw(t, "whole") {
					octets[i] = octet.Draw(t, "octet")
				}
			}
			patterns = append(patterns, addressPattern{octets: &octets})
		}
		var all, public uint64
		var a, width [4]int
		var ask func(depth int)
		ask = func(depth int) {
			if depth == 4 {
				addr := netip.AddrFrom4([4]byte{byte(a[0]), byte(a[1]), byte(a[2]), byte(a[3])})
				if matchAddress(patterns, addr) {
					n := uint64(width[0]) * uint64(width[1]) * uint64(width[2]) * uint64(width[3])
					all += n
					if !addr.IsPrivate() && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() {
						public += n
					}
				}
				return
			}
			for i, from := range edges[:len(edges)-1] {
				a[depth], width[depth] = from, edges[i+1]-from
				ask(depth + 1)
			}
		}
		ask(0)
		if got := union4(patterns); got != all {
			t.Fatalf("%d addresses, counted %d", all, got)
		}
		if got := public4(patterns); got != public {
			t.Fatalf("%d public addresses, counted %d", public, got)
		}
		if strangers(patterns) != (public > strangers4) {
			t.Fatalf("strangers with %d public addresses", public)
		}
	})
}

// TestPublic6_Counts does the same with networks that are near one another.
func TestPublic6_Counts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var patterns []addressPattern
		for range rapid.IntRange(0, 6).Draw(t, "patterns") {
			// 2001:0:0:x::/y for the last bits of x: 64 networks at the most.
			x, y := rapid.IntRange(0, 63).Draw(t, "x"), rapid.IntRange(58, 68).Draw(t, "y")
			addr := netip.AddrFrom16([16]byte{0x20, 0x01, 7: byte(x)})
			patterns = append(patterns, addressPattern{prefix: netip.PrefixFrom(addr, y).Masked()})
		}
		var want uint64
		for x := range 64 {
			if matchAddress(patterns, netip.AddrFrom16([16]byte{0x20, 0x01, 7: byte(x)})) {
				want++
			}
		}
		if got := public6(patterns); got != want {
			t.Fatalf("%d networks, counted %d", want, got)
		}
	})
}
