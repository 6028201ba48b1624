package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	retryPrefix = "%RETRY%"
	deadPrefix  = "%DLQ%"

	permReadWrite = int(remoting.PermRead | remoting.PermWrite)

	// Queues of the topics that RocketMQ makes at its start.
	templateQueues = 8
	clusterQueues  = 16
	selfTestTopic  = "SELF_TEST_TOPIC"
	movedTopic     = "OFFSET_MOVED_EVENT"
)

// topicConfig is what clients see of a topic. Its JSON is what the store keeps
// as the settings of a topic whose configuration was set by a client; a topic
// without settings has the defaults.
type topicConfig struct {
	Name string `json:"-"`
	// ReadQueues and WriteQueues are how many queues clients read and write.
	// The store never takes queues away, so they can be fewer than there are.
	ReadQueues  int `json:"read"`
	WriteQueues int `json:"write"`
	// Perm has the bits remoting.PermRead, PermWrite and PermInherit.
	Perm int `json:"perm"`
	// FilterType is SINGLE_TAG or MULTI_TAG; it is kept for those who ask.
	FilterType string            `json:"filter,omitempty"`
	SysFlag    int               `json:"flag,omitempty"`
	Order      bool              `json:"order,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// virtual: the topic is there for clients, but not in the store.
	virtual bool
}

// settings are what the store keeps of c.
func (c topicConfig) settings() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode settings of topic %s: %w", c.Name, err)
	}
	return b, nil
}

func (c topicConfig) readable() bool { return c.Perm&int(remoting.PermRead) != 0 }
func (c topicConfig) writable() bool { return c.Perm&int(remoting.PermWrite) != 0 }
func (c topicConfig) inherits() bool { return c.Perm&int(remoting.PermInherit) != 0 }

// defaultTopic is the configuration of a topic that has no settings.
func defaultTopic(name string, queues int) topicConfig {
	return topicConfig{Name: name, ReadQueues: queues, WriteQueues: queues, Perm: permReadWrite, FilterType: remoting.FilterSingleTag}
}

// topics reads the configurations of topics, and keeps what it has decoded.
type topics struct {
	store   *embedded.Store
	system  map[string]topicConfig // does not change
	decoded sync.Map               // of decodedTopic, by name
}

type decodedTopic struct {
	raw []byte // the settings that were decoded; the store never changes them in place
	cfg topicConfig
}

// newTopics knows the topics of the store, and those that a RocketMQ broker
// always has.
func newTopics(store *embedded.Store, cfg Config) *topics {
	t := &topics{store: store, system: map[string]topicConfig{}}
	add := func(name string, queues, perm int) {
		c := defaultTopic(name, queues)
		c.Perm, c.virtual = perm, true
		t.system[name] = c
	}
	inherited := permReadWrite | int(remoting.PermInherit)
	if cfg.AutoCreate {
		add(message.AutoCreateTopic, templateQueues, inherited)
	}
	add(cfg.Cluster, clusterQueues, inherited)
	add(cfg.Broker, 1, inherited)
	add(message.ReplyTopic(cfg.Cluster), 1, permReadWrite)
	add(message.TraceTopic, 1, permReadWrite)
	add(message.ScheduleTopic, len(cfg.DelayLevels), permReadWrite)
	add(message.HalfTopic, 1, permReadWrite)
	add(message.OpHalfTopic, 1, permReadWrite)
	add(message.CheckMaxTimeTopic, 1, permReadWrite)
	add(selfTestTopic, 1, permReadWrite)
	add(movedTopic, 1, permReadWrite)
	return t
}

func (s *Server) replyTopic() string { return message.ReplyTopic(s.cfg.Cluster) }

// find answers the configuration of a topic, one of those that are always
// there included. It is cheap enough to be asked for each request.
func (t *topics) find(name string) (topicConfig, bool) {
	stored, ok := t.store.Topic(name)
	if !ok {
		c, ok := t.system[name]
		return c, ok
	}
	return t.config(stored), true
}

// config reads the settings of a stored topic. Settings that cannot be read,
// such as those of a later release, count as none.
func (t *topics) config(stored embedded.Topic) topicConfig {
	if len(stored.Settings) == 0 {
		return defaultTopic(stored.Name, stored.Queues)
	}
	if v, ok := t.decoded.Load(stored.Name); ok {
		if d, ok := v.(*decodedTopic); ok && &d.raw[0] == &stored.Settings[0] && len(d.raw) == len(stored.Settings) {
			return d.cfg
		}
	}
	cfg := defaultTopic(stored.Name, stored.Queues)
	if err := json.Unmarshal(stored.Settings, &cfg); err != nil {
		cfg = defaultTopic(stored.Name, stored.Queues)
	}
	cfg.ReadQueues, cfg.WriteQueues = min(max(cfg.ReadQueues, 0), stored.Queues), min(max(cfg.WriteQueues, 0), stored.Queues)
	t.decoded.Store(stored.Name, &decodedTopic{stored.Settings, cfg})
	return cfg
}

// forget drops what was decoded of a topic that was deleted.
func (t *topics) forget(name string) { t.decoded.Delete(name) }

// all answers every topic, in the order of the names.
func (t *topics) all() []topicConfig {
	byName := maps.Clone(t.system)
	for _, stored := range t.store.Topics() {
		byName[stored.Name] = t.config(stored)
	}
	out := make([]topicConfig, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}

// isSystem reports whether a topic belongs to the broker itself.
func (t *topics) isSystem(name string) bool {
	_, ok := t.system[name]
	return ok || name == message.AutoCreateTopic || strings.HasPrefix(name, "rmq_sys_")
}

// validTopic refuses a name that is none, with the accepted form.
func validTopic(name string) error {
	if err := driver.ValidTopic(name); err != nil {
		return refuse(remoting.ResMessageIllegal, "%v", err)
	}
	if group, owned := ownerOf(name); owned {
		if err := validGroup(group); err != nil {
			return refuse(remoting.ResMessageIllegal, "topic name %s: after the prefix: %s", name, remarkOf(err))
		}
	}
	return nil
}

// Longest names of groups in bytes: a consumer group leaves room for the
// prefix of its retry topic, as in RocketMQ 5; clients make longer names of
// producer groups, for traces, out of those of consumer groups.
const (
	groupNameMost    = 120
	producerNameMost = 255
)

// validGroup refuses a name that is none, with the accepted form.
func validGroup(name string) error { return validGroupName(name, groupNameMost) }

// validProducer is validGroup for producer groups.
func validProducer(name string) error { return validGroupName(name, producerNameMost) }

func validGroupName(name string, most int) error {
	if len(name) > most {
		return refuse(remoting.ResInvalidParameter, "group name %.40q… has %d characters; at most %d are allowed", name, len(name), most)
	}
	// The rule for characters is that of the driver, which takes shorter names.
	for rest := name; ; {
		head := rest[:min(len(rest), groupNameMost)]
		if err := driver.ValidGroup(head); err != nil {
			return refuse(remoting.ResInvalidParameter, "%v", err)
		}
		if rest = rest[len(head):]; rest == "" {
			return nil
		}
	}
}
