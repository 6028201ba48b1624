package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/embedded"
)

// groupConfig is the configuration of a consumer group. Its JSON is what the
// store keeps as the settings of a group that a client has configured; other
// groups have the defaults, which are RocketMQ's.
type groupConfig struct {
	Name string `json:"-"`
	// Consume: pulls are served.
	Consume bool `json:"consume"`
	// Broadcast: pulls of broadcasting members are served.
	Broadcast bool `json:"broadcast"`
	// FromMin is kept for those who ask.
	FromMin bool `json:"from_min"`
	// Orderly is kept for those who ask.
	Orderly bool `json:"orderly,omitempty"`
	// RetryQueues is the number of queues of the retry topic.
	RetryQueues int `json:"retry_queues"`
	// RetryMax is the number of redeliveries before a message is a dead letter,
	// for clients that name none.
	RetryMax int `json:"retry_max"`
	// BrokerID and WhichBroker suggest replicas; they are kept for those who
	// ask.
	BrokerID    int64 `json:"broker_id,omitempty"`
	WhichBroker int64 `json:"which_broker"`
	// Notify: members hear of each other's coming and going.
	Notify bool `json:"notify"`
	// TimeoutMinutes is kept for those who ask.
	TimeoutMinutes int               `json:"timeout_minutes"`
	SysFlag        int               `json:"flag,omitempty"`
	Attributes     map[string]string `json:"attributes,omitempty"`
	// RetryPolicy is kept for those who ask, as they have sent it.
	RetryPolicy json.RawMessage `json:"retry_policy,omitempty"`
	// Forbidden are topics that an operator keeps the group from reading.
	Forbidden []string `json:"forbidden,omitempty"`
}

// defaultGroup is the configuration of a group that has no settings.
func defaultGroup(name string) groupConfig {
	return groupConfig{
		Name: name, Consume: true, Broadcast: true, FromMin: true, RetryQueues: 1, RetryMax: 16,
		WhichBroker: 1, Notify: true, TimeoutMinutes: 15,
	}
}

// settings are what the store keeps of c.
func (c groupConfig) settings() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode settings of group %s: %w", c.Name, err)
	}
	return b, nil
}

// groupConfigs holds the configurations of the groups that have one. The
// server is the only one who writes them into the store, so what it has read at
// its start stays true.
type groupConfigs struct {
	store *embedded.Store
	mu    sync.RWMutex
	set   map[string]groupConfig
}

func newGroupConfigs(store *embedded.Store) *groupConfigs {
	g := &groupConfigs{store: store, set: map[string]groupConfig{}}
	for _, stored := range store.Groups() {
		if len(stored.Settings) > 0 {
			g.set[stored.Name] = decodeGroup(stored.Name, stored.Settings)
		}
	}
	return g
}

// find answers the configuration of a group; one that nobody has configured
// has the defaults.
func (g *groupConfigs) find(name string) groupConfig {
	g.mu.RLock()
	cfg, ok := g.set[name]
	g.mu.RUnlock()
	if !ok {
		return defaultGroup(name)
	}
	return cfg
}

// put keeps the configuration of a group. It is durable when it returns.
func (g *groupConfigs) put(ctx context.Context, cfg groupConfig) error {
	settings, err := cfg.settings()
	if err != nil {
		return err
	}
	if err := g.store.PutGroup(ctx, embedded.Group{Name: cfg.Name, Settings: settings}); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	// From what is stored: cfg may hold on to parts of a large request.
	g.set[strings.Clone(cfg.Name)] = decodeGroup(strings.Clone(cfg.Name), settings)
	return nil
}

// delete forgets a group, with its positions if it is told to.
func (g *groupConfigs) delete(ctx context.Context, name string, positions bool) error {
	if err := g.store.DeleteGroup(ctx, name, positions); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.set, name)
	return nil
}

// all answers the configurations of every group that is known: configured,
// with positions, or registered now.
func (g *groupConfigs) all(registered []string) []groupConfig {
	names := map[string]bool{}
	for _, stored := range g.store.Groups() {
		names[stored.Name] = true
	}
	for _, name := range registered {
		names[name] = true
	}
	out := make([]groupConfig, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, g.find(name))
	}
	return out
}

// decodeGroup reads settings. Those that cannot be read, such as those of a
// later release, count as none.
func decodeGroup(name string, raw []byte) groupConfig {
	cfg := defaultGroup(name)
	if json.Unmarshal(raw, &cfg) != nil {
		return defaultGroup(name)
	}
	cfg.Name = name
	return cfg
}
