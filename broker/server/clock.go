package server

import (
	"sync/atomic"
	"time"
)

// tick is how often deadlines are looked at, and so how exact they are: no
// request needs a timer of its own.
const tick = time.Second

// clock is the time of the last tick, for stamps that are taken with every
// request.
type clock struct {
	started time.Time
	last    atomic.Int64
}

func newClock() *clock {
	c := &clock{started: time.Now()}
	c.update()
	return c
}

// now is the time since the start in nanoseconds, at most a tick old while
// there are connections; it is never zero.
func (c *clock) now() int64 { return c.last.Load() }

// update reads the time.
func (c *clock) update() int64 {
	n := int64(time.Since(c.started)) + 1
	c.last.Store(n)
	return n
}
