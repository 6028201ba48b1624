package server

import (
	"log/slog"
	"sync"
	"time"
)

// seldomPause is how long a warning keeps further ones of its kind quiet: what
// peers cause they can cause all the time, and a log must not grow with it.
const seldomPause = 10 * time.Second

// seldom is what peers can cause as often as they like: of each kind there is one
// warning in a while, and what was quiet meanwhile is told by the next one, or
// when the while is over. It is safe for concurrent use.
type seldom struct {
	mu    sync.Mutex
	kinds map[string]*quiet
}

// quiet is one kind.
type quiet struct {
	last  time.Time
	count int // of those that were not told since last
	// msg and attrs are those of the last one that was not told.
	msg   string
	attrs []slog.Attr
}

// note answers whether this one of its kind is told now, and how many before it
// were not. The kinds are few: they are words of the program, not of its peers.
func (s *seldom) note(kind, msg string, attrs []slog.Attr) (unlogged int, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds == nil {
		s.kinds = map[string]*quiet{}
	}
	q := s.kinds[kind]
	if q == nil {
		q = &quiet{}
		s.kinds[kind] = q
	}
	now := time.Now()
	if !q.last.IsZero() && now.Sub(q.last) < seldomPause {
		q.count++
		q.msg, q.attrs = msg, attrs
		return 0, false
	}
	unlogged = q.count
	q.last, q.count, q.attrs = now, 0, nil
	return unlogged, true
}

// due takes those kinds whose while is over with something untold, or all that
// have something untold. left: there are others.
func (s *seldom) due(all bool) (due []quiet, left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, q := range s.kinds {
		switch {
		case q.count == 0:
		case all || now.Sub(q.last) >= seldomPause:
			due = append(due, *q)
			q.last, q.count, q.attrs = now, 0, nil
		default:
			left = true
		}
	}
	return due, left
}

// warn logs what peers can cause, unless its kind was logged a moment ago; then
// it is counted.
func (s *Server) warn(kind, msg string, attrs ...slog.Attr) {
	unlogged, tell := s.seldom.note(kind, msg, attrs)
	if tell {
		s.unlogged(msg, attrs, unlogged)
		return
	}
	select {
	case s.wake <- struct{}{}: // else it would wait for the next connection
	default:
	}
}

// tellQuiet logs what was counted only, once its while is over, or all of it. It
// answers whether more waits.
func (s *Server) tellQuiet(all bool) bool {
	due, left := s.seldom.due(all)
	for _, q := range due {
		s.unlogged(q.msg, q.attrs, q.count-1)
	}
	return left
}

func (s *Server) unlogged(msg string, attrs []slog.Attr, before int) {
	s.log.LogAttrs(s.root, slog.LevelWarn, msg, append(attrs[:len(attrs):len(attrs)], slog.Int("unlogged_before", before))...) //nolint:sloglint // it is a constant where it is called
}
