package server

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/remoting"
)

// Bounds of the table of 100 to 102: RocketMQ uses it for the queues of ordered
// topics, one small entry each.
const (
	kvEntriesMost = 4096
	kvTextMost    = 4 << 10
)

// kvTable holds the values of a name server's namespaces. It is in memory, and
// so lasts until the next start. It is safe for concurrent use.
type kvTable struct {
	mu      sync.Mutex
	spaces  map[string]map[string]string
	entries int
}

// put keeps a value.
func (t *kvTable) put(space, key, value string) error {
	if space == "" || key == "" || len(space) > kvTextMost || len(key) > kvTextMost || len(value) > kvTextMost {
		return refuse(remoting.ResSystemError, "namespace, key and value take 1, 1 and 0 to %d bytes", kvTextMost)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// Copies, so that none holds on to a whole request.
	space, key, value = strings.Clone(space), strings.Clone(key), strings.Clone(value)
	m := t.spaces[space]
	if _, there := m[key]; !there {
		if t.entries >= kvEntriesMost {
			return refuse(remoting.ResSystemError, "there are %d values, as many as are kept", t.entries)
		}
		t.entries++
	}
	if m == nil {
		if t.spaces == nil {
			t.spaces = map[string]map[string]string{}
		}
		m = map[string]string{}
		t.spaces[space] = m
	}
	m[key] = value
	return nil
}

// get answers a value.
func (t *kvTable) get(space, key string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.spaces[space][key]
	return v, ok
}

// delete forgets a value.
func (t *kvTable) delete(space, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.spaces[space]
	if _, there := m[key]; !there {
		return
	}
	t.entries--
	delete(m, key)
	if len(m) == 0 {
		delete(t.spaces, space)
	}
}

// list answers the values of a namespace in the order of their keys, false if
// there are none.
func (t *kvTable) list(space string) (remoting.Fields, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.spaces[space]
	var all remoting.Fields
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all.Add(key, m[key])
	}
	return all, len(all) > 0
}
