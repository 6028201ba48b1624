package message

import (
	"net/netip"
	"testing"
)

func TestFormatUniqueID_Vectors(t *testing.T) {
	t.Parallel()
	if got := formatUniqueID(netip.MustParseAddr("10.0.0.1"), 4242, 0x5FFD2B27, 1000, 0); got != "0A00000110925FFD2B27000003E80000" {
		t.Error(got)
	}
	if got := formatUniqueID(netip.MustParseAddr("fd00::2"), 11700, 0x5FFD2B27, 0x6B4E87FD, 0); got != "FD0000000000000000000000000000022DB45FFD2B276B4E87FD0000" {
		t.Error(got)
	}
}
