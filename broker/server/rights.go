package server

import (
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// kind is what a permission is about.
type kind uint8

const (
	topicKind kind = iota
	groupKind
)

// String returns "topic" or "group".
func (k kind) String() string {
	if k == groupKind {
		return "group"
	}
	return "topic"
}

// right is what a request needs of the account that sends it. The zero value
// needs an account.
type right struct {
	admin  bool
	fields []fieldClaim
	body   func(body []byte, need func(k kind, name string, p perm) error) error
}

// fieldClaim is a topic or group that a field of the header names.
type fieldClaim struct {
	field  string
	kind   kind
	need   perm
	either bool // one of the permissions in need is enough
}

// anyAccount is the right of requests that show nothing of topics or groups.
func anyAccount() right { return right{} }

// adminOnly is the right of requests that change what others see.
func adminOnly() right { return right{admin: true} }

// needs is the right of requests whose fields name topics and groups. Fields
// that are not there need nothing.
func needs(claims ...fieldClaim) right { return right{fields: claims} }

// onTopic needs all of p on the topic in a field.
func onTopic(field string, p perm) fieldClaim { return fieldClaim{field, topicKind, p, false} }

// seesTopic needs PUB or SUB on the topic in a field.
func seesTopic(field string) fieldClaim { return fieldClaim{field, topicKind, pub | sub, true} }

// onGroup needs SUB on the group in a field.
func onGroup(field string) fieldClaim { return fieldClaim{field, groupKind, sub, false} }

// asker answers whether an account has a permission.
type asker func(k kind, name string, need perm, either bool) error

// claims asks for everything that req needs; the first refusal counts.
func (r right) claims(s *Server, req *remoting.Command, ask asker) error {
	for _, f := range r.fields {
		name, ok := req.Fields.Lookup(f.field)
		if !ok {
			continue
		}
		if err := claimName(s, f.kind, name, f.need, f.either, ask); err != nil {
			return err
		}
	}
	if r.body == nil {
		return nil
	}
	return r.body(req.Body, func(k kind, name string, p perm) error {
		return claimName(s, k, name, p, false, ask)
	})
}

// claimName asks for one name. The topics for retries and dead letters of a
// group are the group's own, so they take what the group takes; the server's
// own topics take an account.
func claimName(s *Server, k kind, name string, need perm, either bool, ask asker) error {
	if k == topicKind {
		if group, ok := ownerOf(name); ok {
			return ask(groupKind, group, sub, false)
		}
		if (either || need == pub) && s.common(name) {
			return nil
		}
	}
	return ask(k, name, need, either)
}

// ownerOf is the group that a topic for retries or dead letters belongs to.
func ownerOf(topic string) (group string, ok bool) {
	if group, ok = strings.CutPrefix(topic, retryPrefix); ok {
		return group, true
	}
	return strings.CutPrefix(topic, deadPrefix)
}

// common reports whether every account may see the route of a topic, and write
// to it: clients ask for the template, and write replies and traces.
func (s *Server) common(topic string) bool {
	switch topic {
	case message.AutoCreateTopic, message.TraceTopic, s.cfg.Cluster, s.cfg.Broker, s.replyTopic():
		return true
	default:
		return false
	}
}
