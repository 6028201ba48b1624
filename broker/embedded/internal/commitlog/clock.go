package commitlog

import (
	"sync/atomic"
	"time"
)

// clock is the time of the broker: a wall time that was right once, and the
// monotonic time since. It never goes back, in one process or, thanks to the
// high water in the manifest, from one to the next.
type clock struct{ anchor atomic.Pointer[anchor] }

type anchor struct {
	wall time.Time // without monotonic reading
	mono time.Time // with one
}

func newClock(highWater int64) *clock {
	c := &clock{}
	now := time.Now()
	wall := now.Round(0)
	if h := time.Unix(0, highWater); h.After(wall) {
		// The wall clock was set back: the time of the broker waits for it.
		wall = h
	}
	c.anchor.Store(&anchor{wall: wall, mono: now})
	return c
}

func (c *clock) now() time.Time {
	a := c.anchor.Load()
	return a.wall.Add(time.Since(a.mono))
}

func (c *clock) raise(t time.Time) {
	t = t.Round(0)
	for {
		old := c.anchor.Load()
		now := time.Now()
		if !t.After(old.wall.Add(now.Sub(old.mono))) {
			return
		}
		if c.anchor.CompareAndSwap(old, &anchor{wall: t, mono: now}) {
			return
		}
	}
}
