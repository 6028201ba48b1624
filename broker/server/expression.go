package server

import (
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// selection is what is to be read of a queue for s; nil selects everything.
func (s *subscription) selection(messages, bytes int) embedded.Selection {
	sel := embedded.Selection{Messages: messages, Bytes: bytes}
	if s == nil {
		return sel
	}
	sel.Tags = s.tags
	if expr := s.expr; expr != nil {
		sel.Match = func(v *message.View) bool {
			return expr.Match(func(name string) (string, bool) { return property(v.PropertyBytes, name) })
		}
	}
	return sel
}

// property finds a property in its encoded form; the last one counts.
func property(encoded []byte, name string) (value string, ok bool) {
	var last []byte
	for k, v := range message.PropertiesOf(encoded) {
		if string(k) == name {
			last = v
		}
	}
	return string(last), last != nil
}

// expressions remembers the filters that came with pulls, so that one is parsed
// once and not with each pull.
type expressions struct {
	mu    sync.Mutex
	known map[expressionKey]*subscription
}

type expressionKey struct{ kind, text string }

// expressionsMost is how many are remembered. Beyond it all are forgotten:
// whoever makes new ones all the time gains nothing by them.
const expressionsMost = 1024

// expressionLongest is the longest expression in bytes that is remembered.
const expressionLongest = 1 << 10

// get compiles an expression, or remembers it; nil selects everything.
func (m *expressions) get(text, kind string) (*subscription, error) {
	if kind == remoting.ExpressionTag && (text == "" || text == "*") {
		return nil, nil //nolint:nilnil // everything is no error
	}
	k := expressionKey{kind, text}
	m.mu.Lock()
	sub, ok := m.known[k]
	m.mu.Unlock()
	if ok {
		return sub, nil
	}
	k = expressionKey{strings.Clone(kind), strings.Clone(text)} // not the whole request
	if sub = newSubscription("", k.text, k.kind, nil, 0); sub.bad != nil {
		return nil, sub.bad
	}
	if len(text) > expressionLongest {
		return sub, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= expressionsMost {
		m.known = map[expressionKey]*subscription{}
	}
	m.known[k] = sub
	return sub, nil
}
