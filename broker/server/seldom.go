package server

import (
	"log/slog"
	"sync"
	"time"
)

// seldomPause is how long a warning keeps further ones of its kind quiet: what
// peers cause they can cause all the time, and a log must not grow with it.
const seldomPause = 10 * time.Second

// seldom is one kind of warning that peers can cause as often as they like. It
// is safe for concurrent use.
type seldom struct {
	mu    sync.Mutex
	last  time.Time
	quiet int // since last
}

// warn logs if nothing was logged for a while, with how often it was quiet.
func (w *seldom) warn(log *slog.Logger, msg string, args ...any) {
	w.mu.Lock()
	now := time.Now()
	if !w.last.IsZero() && now.Sub(w.last) < seldomPause {
		w.quiet++
		w.mu.Unlock()
		return
	}
	quiet := w.quiet
	w.last, w.quiet = now, 0
	w.mu.Unlock()
	log.Warn(msg, append(args, slog.Int("unlogged_before", quiet))...) //nolint:sloglint // it is a constant where it is called
}
