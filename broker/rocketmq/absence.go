package rocketmq

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// awayAfter is how long a server says nothing before that is told; one that
	// starts again takes less.
	awayAfter = 3 * time.Second
	// awayAgain is the pause before it is told again. What is not told yet, and
	// goes on after such a pause only, is two failures and no absence.
	awayAgain = time.Minute
	// awayForgotten is when a server that nobody asks any more is forgotten; its
	// broker has mostly another address by now.
	awayForgotten = time.Hour
)

// absences are the servers that do not answer, by address. They are told by who
// asks: of an address that nobody asks any more nothing is said.
type absences struct {
	log *slog.Logger

	mu     sync.Mutex
	away   map[string]*absence
	closed bool // nothing is told any more
}

// absence is a time in which nothing came from a server that was asked.
type absence struct {
	since, last time.Time // the first failure, and that which came last
	told        time.Time // zero if it was not told
}

// over reports whether it is long ago that the server was asked.
func (a *absence) over(now time.Time) bool {
	keep := awayForgotten
	if a.told.IsZero() {
		keep = awayAgain
	}
	return now.Sub(a.last) > keep
}

func newAbsences(log *slog.Logger) *absences {
	return &absences{log: log, away: map[string]*absence{}}
}

// missed notes that a server could not be reached, or has said nothing since
// then.
func (s *absences) missed(addr string, since time.Time, err error) {
	now := time.Now()
	s.mu.Lock()
	a := s.away[addr]
	if a == nil || a.over(now) {
		for other, b := range s.away {
			if b.over(now) {
				delete(s.away, other)
			}
		}
		a = &absence{since: since}
		s.away[addr] = a
	}
	a.last = now
	took := now.Sub(a.since)
	tell := !s.closed && took >= awayAfter && (a.told.IsZero() || now.Sub(a.told) >= awayAgain)
	if tell {
		a.told = now
	}
	s.mu.Unlock()
	if tell {
		s.log.Warn("a server does not answer", slog.String("addr", addr), slog.Duration("away", took.Round(time.Millisecond)), slog.Any("error", err))
	}
}

// answered notes that something came from a server.
func (s *absences) answered(addr string) {
	s.mu.Lock()
	a := s.away[addr]
	delete(s.away, addr)
	tell := a != nil && !a.told.IsZero() && !s.closed
	s.mu.Unlock()
	if tell {
		s.log.Info("a server answers again", slog.String("addr", addr), slog.Duration("away", time.Since(a.since).Round(time.Millisecond)))
	}
}

// close ends what is told: who leaves does not wait for servers.
func (s *absences) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}
