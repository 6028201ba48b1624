// Package ledger counts what was sent, what its sender was told, and how often
// each stored copy of it was received, and finds what that does not explain.
package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// Ledger is the account of one load. It is safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex
	messages map[string]*message
}

// message is one message over all attempts to send it.
type message struct {
	// attempts that are under way or that nobody was told of, that were
	// acknowledged, and that may have been done.
	open, acknowledged, maybe int
	copies                    map[string][]Life // by the place where the copy is stored
}

// Life is one term of a lane with one member, from Assigned to its end.
type Life int64

// New makes an empty ledger.
func New() *Ledger { return &Ledger{messages: map[string]*message{}} }

func (l *Ledger) message(body string) *message {
	m := l.messages[body]
	if m == nil {
		m = &message{copies: map[string][]Life{}}
		l.messages[body] = m
	}
	return m
}

// Sending notes an attempt before it is made.
func (l *Ledger) Sending(body string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.message(body).open++
}

// Told notes how an attempt ended.
func (l *Ledger) Told(body string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.message(body)
	m.open--
	de, ok := errors.AsType[*driver.Error](err)
	switch {
	case err == nil:
		m.acknowledged++
	case ok && !de.MaybeDone: // it was not done
	default:
		m.maybe++
	}
}

// Received notes a delivery: of which copy, and in which life of its lane.
func (l *Ledger) Received(body, place string, life Life) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.message(body)
	m.copies[place] = append(m.copies[place], life)
}

// Missing is how many acknowledged messages were not received yet.
func (l *Ledger) Missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, m := range l.messages {
		if m.acknowledged > 0 && len(m.copies) == 0 {
			n++
		}
	}
	return n
}

// Verdict is what a ledger says in the end.
type Verdict struct {
	// Sent, Acknowledged and Received count messages, Maybe attempts that may
	// have been done.
	Sent, Acknowledged, Received, Maybe int
	// AgainMaybe counts further copies of messages with an attempt that may have
	// been done, AgainPosition deliveries of a copy in another life of its lane:
	// the position behind it was not kept.
	AgainMaybe, AgainPosition int
	// Lost were acknowledged and never received. Phantoms were received although
	// no attempt was acknowledged or may have been done. Unexplained came more
	// often than there is a reason for.
	Lost, Phantoms, Unexplained []string
}

// Verdict counts.
func (l *Ledger) Verdict() Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	var v Verdict
	for body, m := range l.messages {
		v.add(body, m)
	}
	slices.Sort(v.Lost)
	slices.Sort(v.Phantoms)
	slices.Sort(v.Unexplained)
	return v
}

func (v *Verdict) add(body string, m *message) {
	may := m.maybe + m.open
	if m.acknowledged+may > 0 || len(m.copies) == 0 {
		v.Sent++
	}
	v.Maybe += may
	if m.acknowledged > 0 {
		v.Acknowledged++
	}
	switch {
	case len(m.copies) == 0:
		if m.acknowledged > 0 {
			v.Lost = append(v.Lost, body)
		}
		return
	case m.acknowledged+may == 0:
		v.Phantoms = append(v.Phantoms, body)
		return
	}
	v.Received++
	if n := len(m.copies); n > m.acknowledged+may {
		v.Unexplained = append(v.Unexplained, fmt.Sprintf("%s: %d copies of %d", body, n, m.acknowledged+may))
	} else if n > 1 {
		v.AgainMaybe += n - 1
	}
	for place, lives := range m.copies {
		slices.Sort(lives)
		if different := len(slices.Compact(slices.Clone(lives))); different < len(lives) {
			v.Unexplained = append(v.Unexplained, fmt.Sprintf("%s: the copy at %s came twice in one life of its lane", body, place))
		} else {
			v.AgainPosition += different - 1
		}
	}
}

// Err is nil if nothing was lost and everything that came is explained.
func (v Verdict) Err() error {
	var errs []error
	for what, list := range map[string][]string{"lost": v.Lost, "phantoms": v.Phantoms, "unexplained": v.Unexplained} {
		if len(list) > 0 {
			errs = append(errs, fmt.Errorf("%d %s: %s", len(list), what, strings.Join(list[:min(len(list), 5)], ", ")))
		}
	}
	return errors.Join(errs...)
}

// String is a line for a table.
func (v Verdict) String() string {
	return fmt.Sprintf("%d sent, %d acknowledged, %d lost; again: %d MaybeDone, %d position not kept, %d unexplained",
		v.Sent, v.Acknowledged, len(v.Lost), v.AgainMaybe, v.AgainPosition, len(v.Phantoms)+len(v.Unexplained))
}
