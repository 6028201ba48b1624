package server

import (
	"testing"

	"github.com/sluicemq/sluice/broker/embedded"
)

func TestTopics_Settings(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	put := func(cfg topicConfig, queues int) {
		t.Helper()
		settings, err := cfg.settings()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.store.PutTopic(t.Context(), embedded.Topic{Name: cfg.Name, Queues: queues, Settings: settings}); err != nil {
			t.Fatal(err)
		}
	}
	cfg := defaultTopic("T", 8)
	cfg.WriteQueues, cfg.Perm, cfg.Order, cfg.Attributes = 3, 4, true, map[string]string{"message.type": "NORMAL"}
	put(cfg, 8)
	for range 2 { // decoded, and kept
		got, ok := s.topics.find("T")
		if !ok || got.ReadQueues != 8 || got.WriteQueues != 3 || got.writable() || !got.readable() || !got.Order || got.Attributes["message.type"] != "NORMAL" || got.FilterType != "SINGLE_TAG" {
			t.Fatalf("%+v, %v", got, ok)
		}
	}
	cfg.WriteQueues, cfg.ReadQueues = 100, -1
	put(cfg, 8)
	if got, _ := s.topics.find("T"); got.WriteQueues != 8 || got.ReadQueues != 0 {
		t.Errorf("there are 8 queues, but settings make it %d to write and %d to read", got.WriteQueues, got.ReadQueues)
	}
	if err := s.store.PutTopic(t.Context(), embedded.Topic{Name: "T", Queues: 8, Settings: []byte("{later")}); err != nil {
		t.Fatal(err)
	}
	if got, ok := s.topics.find("T"); !ok || got.Perm != 6 || got.WriteQueues != 8 {
		t.Errorf("settings that cannot be read: %+v", got)
	}
	if _, ok := s.topics.find("U"); ok {
		t.Error("a topic that nobody has made is there")
	}
	if err := s.store.DeleteTopic(t.Context(), "T"); err != nil {
		t.Fatal(err)
	}
	s.topics.forget("T")
	if _, ok := s.topics.find("T"); ok {
		t.Error("a deleted topic is there")
	}
}

func TestGroups_Settings(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	if got := s.groups.find("G"); !got.Consume || !got.Notify || got.RetryMax != 16 || got.Name != "G" {
		t.Errorf("defaults %+v", got)
	}
	cfg := defaultGroup("G")
	cfg.Consume, cfg.RetryMax = false, 3
	if err := s.groups.put(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	again := newGroupConfigs(s.store) // as after a restart
	for _, g := range []*groupConfigs{s.groups, again} {
		if got := g.find("G"); got.Consume || got.RetryMax != 3 || !got.Broadcast || got.Name != "G" {
			t.Errorf("%+v", got)
		}
	}
	if all := s.groups.all([]string{"Z", "A", "G"}); len(all) != 3 || all[0].Name != "A" || all[1].RetryMax != 3 || all[2].Name != "Z" {
		t.Errorf("all groups: %+v", all)
	}
	if err := s.groups.delete(t.Context(), "G", true); err != nil {
		t.Fatal(err)
	}
	if got := s.groups.find("G"); !got.Consume {
		t.Errorf("after its deletion: %+v", got)
	}
}
