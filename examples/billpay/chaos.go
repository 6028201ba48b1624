package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// errChaos is the cause of every failure that -chaos makes up.
var errChaos = errors.New("chaos")

// chaos decides which bills meet which fault. A decision is a pure function of
// the seed, the fault and the bill, so that a run can be repeated, and so that a
// second run on the same folder makes up the same faults. The zero value makes
// up none.
type chaos struct {
	share float64
	seed  uint64
}

// hits reports whether the bill is among the share that meets the fault.
func (c chaos) hits(fault, billID string) bool {
	return c.share > 0 && c.draw(fault, billID) < c.share
}

// draw is uniform over [0, 1).
func (c chaos) draw(fault, billID string) float64 {
	h := fnv.New64a()
	var seed [8]byte
	binary.LittleEndian.PutUint64(seed[:], c.seed)
	for _, part := range [][]byte{seed[:], []byte(fault), {0}, []byte(billID)} {
		_, _ = h.Write(part) // a hash never fails
	}
	x := h.Sum64()
	// FNV mixes the last bytes badly; this is the finalizer of SplitMix64.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / (1 << 53)
}

// rollBack reports whether the local transaction of the bill is to fail.
func (c chaos) rollBack(billID string) bool { return c.hits("roll back", billID) }

// stop tells where the sender of the bill stops as if it had died.
func (c chaos) stop(billID string) stopPoint {
	switch {
	case !c.hits("stop", billID):
		return stopNowhere
	case c.draw("stop where", billID) < 0.25:
		return stopBeforeLocal
	case c.draw("stop where", billID) < 0.5:
		return stopAndWake
	default:
		return stopBeforeEnd
	}
}

// resend reports whether the settled bill is announced a second time. A sender
// that stops does not come to it.
func (c chaos) resend(billID string) bool {
	return c.hits("resend", billID) && c.stop(billID) == stopNowhere
}

// handle fails or panics on the first attempt of the share of bills that the
// handler is to stumble over.
func (c chaos) handle(handler, billID string, attempt int) error {
	fault := "handle " + handler
	if attempt > 1 || !c.hits(fault, billID) {
		return nil
	}
	if c.draw(fault+" how", billID) < 0.5 {
		panic(fmt.Sprintf("chaos: %s panics over bill %s", handler, billID))
	}
	return fmt.Errorf("%s stumbles over bill %s: %w", handler, billID, errChaos)
}

// stopPoint is a place between a half message and its END.
type stopPoint int

const (
	stopNowhere     stopPoint = iota
	stopBeforeLocal           // the half message is stored, the local transaction never runs
	stopAndWake               // the same, but it wakes up after the check-back and goes on as if nothing had happened
	stopBeforeEnd             // the local transaction is committed, the broker never hears of it
)
