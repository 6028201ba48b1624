package server

import (
	"log/slog"
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/remoting"
)

// admission knows the consumer groups that may leave something in the store: a
// position, settings, a topic for retries or dead letters. Clients make groups
// up by naming them, so without a bound they could fill memory and disk. It is
// safe for concurrent use.
type admission struct {
	mu     sync.RWMutex
	groups map[string]struct{}
	looked int64 // when the store was last looked through, by the clock
}

// admitTopic refuses another topic when there are as many as clients may
// create. Topics for retries and dead letters come with their groups.
func (s *Server) admitTopic() error {
	n := 0
	for _, stored := range s.store.Topics() {
		if _, owned := ownerOf(stored.Name); !owned {
			n++
		}
	}
	if n < s.cfg.Limits.Topics {
		return nil
	}
	err := refuse(remoting.ResSystemError, "there are %d topics, as many as may be created by clients (%s)", n, s.cfg.setting("Limits.Topics"))
	// An operator has to hear of what nobody may create any more, but not each time.
	s.warn("topics", "a topic was refused", slog.Any("reason", err))
	return err
}

// unbounded reports whether what only an administrator can ask for is beyond
// the limits of what clients create. Without access control anybody can ask.
func (s *Server) unbounded() bool { return s.acl.Load() != nil }

// admitGroup refuses another group when there are as many as clients may create.
// It is cheap for a group that was admitted before.
func (s *Server) admitGroup(group string) error {
	a := &s.admission
	a.mu.RLock()
	_, known := a.groups[group]
	a.mu.RUnlock()
	if known {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// What is remembered may be gone, and what was there before the start is not
	// remembered. Looking takes a moment, so nobody can ask for it all the time.
	if now := s.clock.now(); a.groups == nil || len(a.groups) >= s.cfg.Limits.Groups && now != a.looked {
		a.groups, a.looked = s.existing(), now
	}
	if _, known := a.groups[group]; known {
		return nil
	}
	if n := len(a.groups); n >= s.cfg.Limits.Groups {
		err := refuse(remoting.ResSystemError, "there are %d consumer groups, as many as clients may create (%s)", n, s.cfg.setting("Limits.Groups"))
		s.warn("groups", "a consumer group was refused", slog.String("group", group), slog.Any("reason", err))
		return err
	}
	a.groups[strings.Clone(group)] = struct{}{}
	return nil
}

// existing are the groups that have left something in the store, or have a
// member on a connection.
func (s *Server) existing() map[string]struct{} {
	all := map[string]struct{}{}
	for _, name := range s.groupNames() {
		all[name] = struct{}{}
	}
	for _, t := range s.store.Topics() {
		if group, owned := ownerOf(t.Name); owned {
			all[group] = struct{}{}
		}
	}
	return all
}
