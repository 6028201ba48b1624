package rocketmq

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string][]string{
		"rocketmq://a:9876":           {"a:9876"},
		"rocketmq://a:9876/":          {"a:9876"},
		"rocketmq://a:9876,b:9877":    {"a:9876", "b:9877"},
		"rocketmq://a:9876;[::1]:1":   {"a:9876", "[::1]:1"},
		"rocketmq://a:9876, b:9876 ;": {"a:9876", "b:9876"},
	} {
		if got, err := parseURL(url); err != nil || !slices.Equal(got, want) {
			t.Errorf("parseURL(%q) = %q, %v; want %q", url, got, err, want)
		}
	}
	for _, url := range []string{"", "a:9876", "rocketmq:a", "rocketmq://", "rocketmq://,", "rocketmq://u:secret@a:1", "rocketmq://a:1?x=y", "rocketmq://a:1/b"} {
		_, err := parseURL(url)
		if err == nil || !strings.Contains(err.Error(), "rocketmq://host:port") {
			t.Errorf("parseURL(%q) = %v, want an error that shows the form", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error of %q shows the password: %v", url, err)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := Config{NameServers: []string{"localhost:9876"}}
	c, err := good.withDefaults()
	if err != nil || c.Timeout != 3*time.Second || c.Prefetch != 128 || c.Strategy.Name() != "AVG" || c.OffsetDir == "" {
		t.Errorf("defaults are %+v, %v", c, err)
	}
	edge := good
	edge.Linger, edge.BatchSize = time.Second, 4_128_768
	edge.Compression, edge.DelayLevels = remoting.CompressionLZ4, []time.Duration{1}
	if _, err := edge.withDefaults(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Config){
		"no name server":      func(c *Config) { c.NameServers = nil },
		"host without a port": func(c *Config) { c.NameServers = []string{"localhost"} },
		"port without a host": func(c *Config) { c.NameServers = []string{":9876"} },
		"port by name":        func(c *Config) { c.NameServers = []string{"localhost:http"} },
		"port too high":       func(c *Config) { c.NameServers = []string{"localhost:99999"} },
		"port of zero":        func(c *Config) { c.NameServers = []string{"localhost:0"} },
		"half a credential":   func(c *Config) { c.AccessKey = "a" },
		"prefetch":            func(c *Config) { c.Prefetch = 65536 },
		"negative linger":     func(c *Config) { c.Linger = -1 },
		"long linger":         func(c *Config) { c.Linger = time.Second + 1 },
		"linger for nobody":   func(c *Config) { c.Linger, c.NoGathering = 1, true },
		"negative batch size": func(c *Config) { c.BatchSize = -1 },
		"large batch size":    func(c *Config) { c.BatchSize = maxBody },
		"negative period":     func(c *Config) { c.CommitEvery = -1 },
		"unknown compression": func(c *Config) { c.Compression = 4 },
		"negative level":      func(c *Config) { c.DelayLevels = []time.Duration{-1, 1} },
		"level of zero":       func(c *Config) { c.DelayLevels = []time.Duration{0, time.Second} },
		"levels descending":   func(c *Config) { c.DelayLevels = []time.Duration{time.Second, 1} },
	} {
		bad := good
		change(&bad)
		if _, err := bad.withDefaults(); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// The locks of a long name fit, and are those of no other group.
func TestLeaseName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("g", maxGroup)
	for group, want := range map[string]string{"g": "g%LEASE", strings.Repeat("g", 106): strings.Repeat("g", 106) + "%LEASE"} {
		if got := leaseName(group); got != want {
			t.Errorf("leaseName(%.20q) = %q", group, got)
		}
	}
	if got := leaseName(long); len(got) != maxGroup || got == leaseName(long[1:]+"h") {
		t.Errorf("leaseName of %d characters has %d, or is that of another group", len(long), len(got))
	}
}

func TestMemberMarks(t *testing.T) {
	t.Parallel()
	ids := []string{"sluice-a~" + topicMark("t1", false), "sluice-b~" + topicMark("t2", true), "10.0.0.1@java", "sluice-c~" + topicMark("t1", false) + "~" + topicMark("t2", false)}
	for topic, want := range map[string][]string{
		"t1":         {"10.0.0.1@java", ids[0], ids[3]},
		"t2":         {"10.0.0.1@java", ids[1], ids[3]},
		"t3":         {"10.0.0.1@java"},
		"%RETRY%any": {"10.0.0.1@java", ids[0], ids[1], ids[3]},
	} {
		slices.Sort(want)
		if got := subscribers(ids, topic); !slices.Equal(got, want) {
			t.Errorf("subscribers of %s: got %q, want %q", topic, got, want)
		}
	}
	if client, marks := parseMember(ids[3]); client != "sluice-c" || len(marks) != 2 {
		t.Errorf("parseMember answers %q, %q", client, marks)
	}
}
