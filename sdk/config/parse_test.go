package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/sdk/config"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]config.Size{
		"0": 0, "4096": 4096, "1B": 1, "512KiB": 512 * config.KiB, "64 MiB": 64 * config.MiB, " 1gib ": config.GiB,
		"2TiB": 2 * config.TiB, "500kB": 500_000, "3MB": 3_000_000, "1GB": 1e9, "1TB": 1e12,
	} {
		if got, err := config.ParseSize(in); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "MiB", "-1", "1.5MiB", "1 XiB", "99999999999GiB", "1e3"} {
		_, err := config.ParseSize(in)
		wantError(t, err, fmt.Sprintf("%q is not a size; it takes a number of bytes such as 4096, 512KiB, 64MiB or 1GiB", in))
	}
	rapid.Check(t, func(t *rapid.T) {
		s := config.Size(rapid.Int64Min(0).Draw(t, "size"))
		if got, err := config.ParseSize(s.String()); got != s || err != nil {
			t.Fatalf("%v reads back as %v, %v", s, got, err)
		}
	})
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"300ms": 300 * time.Millisecond, "10s": 10 * time.Second, "2h30m": 150 * time.Minute, " 1s ": time.Second,
		"7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "0": 0, "-1s": -time.Second,
	} {
		if got, err := config.ParseDuration(in); got != want || err != nil {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "10", "s", "-1d", "1d-1h", "1dx", "d", "99999d", "1.5d"} {
		if in == "99999d" {
			continue // 273 years fit
		}
		_, err := config.ParseDuration(in)
		wantError(t, err, fmt.Sprintf("%q is not a duration; it takes a form such as 300ms, 10s, 2h30m or 7d", in))
	}
}

func TestParseRange(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]config.Range{
		"10s..2h": {From: 10 * time.Second, To: 2 * time.Hour}, "5s": {From: 5 * time.Second, To: 5 * time.Second},
		"1s .. 1d": {From: time.Second, To: 24 * time.Hour},
	} {
		if got, err := config.ParseRange(in); got != want || err != nil {
			t.Errorf("ParseRange(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "2h..10s", "..", "1s..", "-2s..-1s", "1s..2s..3s"} {
		_, err := config.ParseRange(in)
		wantError(t, err, "is not a range of durations; it takes a form such as 10s..2h, the shorter first")
	}
	if s := (config.Range{From: time.Second, To: time.Minute}).String(); s != "1s..1m0s" {
		t.Errorf("String = %q", s)
	}
}

func TestParseWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{"true": true, "Yes": true, "on": true, "FALSE": false, "no": false, " off ": false} {
		if got, err := config.ParseBool(in); got != want || err != nil {
			t.Errorf("ParseBool(%q) = %v, %v", in, got, err)
		}
	}
	_, err := config.ParseBool("1")
	wantError(t, err, `"1" is neither true nor false; it takes true, yes, on, false, no or off`)
	_, err = config.ParseWord("blok", "block", "fail", "drop")
	wantError(t, err, `"blok" is unknown (did you mean "block"?); it takes block, fail or drop`)
	_, err = config.ParseInt("1.5")
	wantError(t, err, `"1.5" is not a whole number such as 16`)
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		word  string
		among []string
		want  string
	}{
		{"gruop", []string{"group", "grout", "topic"}, "group"}, // a swap is one step
		{"TOPIC", []string{"topic"}, "topic"},
		{"concurency", []string{"concurrency", "currency"}, "concurrency"},
		{"sluice.send.timout", []string{"sluice.send.timeout", "sluice.stop-budget"}, "sluice.send.timeout"},
		{"redis-prefix-name", []string{"redisprefix"}, ""}, // 6 steps, limit 5
		{"ab", []string{"xy"}, ""},                         // nothing in common
		{"a", []string{"b"}, ""},
		{"", []string{"x"}, ""},
		{"abc", nil, ""},
		{"cat", []string{"hat", "bat"}, "bat"}, // alphabetical among equals
	} {
		got, ok := config.Nearest(tt.word, tt.among)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("Nearest(%q, %q) = %q, %v; want %q", tt.word, tt.among, got, ok, tt.want)
		}
	}
}

func TestNearestFindsEveryTypo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z]{5,20}`).Draw(t, "word")
		i := rapid.IntRange(0, len(word)-2).Draw(t, "place")
		typo := word[:i] + word[i+1:i+2] + word[i:i+1] + word[i+2:]
		if got, ok := config.Nearest(typo, []string{word}); !ok || got != word {
			t.Fatalf("Nearest(%q) = %q, %v; want %q", typo, got, ok, word)
		}
	})
}

func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	s := config.Secret("hunter2")
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%10s"} {
		texts = append(texts, fmt.Sprintf(verb, s), fmt.Sprintf(verb, struct{ S config.Secret }{s}), fmt.Sprintf(verb, []config.Secret{s}))
	}
	j, _ := json.Marshal(map[string]any{"s": s})
	y, _ := yaml.Marshal(map[string]any{"s": s})
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", slog.Any("secret", s))
	texts = append(texts, string(j), string(y), b.String())
	for _, text := range texts {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") || !strings.Contains(text, "***") {
			t.Errorf("printed as %q", text)
		}
	}
	if s.Reveal() != "hunter2" || config.Secret("").String() != "" {
		t.Error("Reveal or the empty secret is wrong")
	}
}
