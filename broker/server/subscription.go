package server

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

// tagsMost bounds the tags of one subscription: an index lookup for each
// message is cheap, a heartbeat of megabytes is not.
const tagsMost = 1024

// subscription is what a group wants of one topic. It does not change.
type subscription struct {
	topic string
	// text is the expression as the client has sent it.
	text string
	// kind is remoting.ExpressionTag, or another one.
	kind string
	// tags are the hashes of the wanted tags, nil for every message. They are
	// computed here: clients of some languages compute others.
	tags map[int32]struct{}
	// names are the wanted tags themselves, since hashes can be equal.
	names []string
	// expr is the compiled expression; nil for tags.
	expr *sql92.Expr
	// bad says why the expression cannot be used, with the accepted form; pulls
	// are refused then.
	bad error
	// version says which of two subscriptions is the newer one.
	version int64
}

// newSubscription compiles an expression. tags stand in for an expression that
// names none.
func newSubscription(topic, text, kind string, tags []string, version int64) *subscription {
	s := &subscription{topic: topic, text: text, kind: kind, version: version}
	switch {
	case kind == "" || kind == remoting.ExpressionTag:
		s.kind = remoting.ExpressionTag
		s.bad = s.readTags(tags)
	case kind == remoting.ExpressionSQL92 && strings.TrimSpace(text) == "":
		s.bad = errors.New("an SQL92 expression is empty")
	case kind == remoting.ExpressionSQL92:
		s.expr, s.bad = sql92.Parse(text)
	default:
		s.bad = fmt.Errorf("expression type %.40q is none of TAG and SQL92", kind)
	}
	return s
}

func (s *subscription) readTags(tags []string) error {
	text := strings.TrimSpace(s.text)
	if text == "*" || text == "" && len(tags) == 0 {
		return nil
	}
	if text != "" {
		tags = strings.Split(text, "||")
	}
	s.tags = map[int32]struct{}{}
	for _, tag := range tags {
		if tag = strings.TrimSpace(tag); tag != "" {
			s.tags[message.TagCode(tag)] = struct{}{}
			s.names = append(s.names, tag)
		}
	}
	if len(s.names) > tagsMost {
		return fmt.Errorf("the expression has %d tags, at most %d are accepted", len(s.names), tagsMost)
	}
	if len(s.names) == 0 {
		return fmt.Errorf("tag expression %.40q names no tag; it takes * or tags with || between", s.text)
	}
	return nil
}
