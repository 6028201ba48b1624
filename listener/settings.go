package listener

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk/config"
)

// The keys of the settings. Every one of them can be set by configuration as
// listeners.<name>.<key>, name itself excepted.
const (
	keyName        = "name"
	keyEnabled     = "enabled"
	keyTopic       = "topic"
	keyGroup       = "group"
	keyTags        = "tags"
	keySQL         = "sql"
	keyFrom        = "from"
	keyConcurrency = "concurrency"
	keyPrefetch    = "prefetch"
	keyBuffer      = "buffer"
	keyTimeout     = "timeout"
	keyOrdered     = "ordered"
	keyBy          = "by"
	keyExhausted   = "exhausted"
	keyBroadcast   = "broadcast"
	keyAttempts    = "attempts"
	keyBackoff     = "backoff"
	keyJitter      = "jitter"
	keyStart       = "start"
	keyResume      = "resume"
	keyEmulate     = "emulate"
)

const (
	startAuto, startPaused                             = "auto", "paused"
	resumeAuto, resumeManual                           = "auto", "manual"
	byQueue, byKey                                     = "queue", "key"
	exhaustedBlock, exhaustedDeadLetter, exhaustedSkip = "block", "deadletter", "skip"
)

// maxConcurrency bounds what a mistyped number can start.
const maxConcurrency = 100_000

type settingDef struct {
	key, value string
	check      func(text string) error
}

// settingTable is the one list of settings: keys, defaults, accepted forms, in
// the order of Dump.
var settingTable = []settingDef{
	{keyName, "", checkName},
	{keyEnabled, "true", parsed(config.ParseBool)},
	{keyTopic, "", driver.ValidTopic},
	{keyGroup, "", driver.ValidGroup},
	{keyTags, "", parsed(driver.ParseTags)},
	{keySQL, "", func(string) error { return nil }},
	{keyFrom, "earliest", parsed(parseFrom)},
	{keyConcurrency, "16", parsed(count(keyConcurrency, 1, maxConcurrency))},
	{keyPrefetch, "", parsed(count(keyPrefetch, 0, maxConcurrency))},
	{keyBuffer, "64MiB", parsed(parseBuffer)},
	{keyTimeout, "15m", parsed(parseTimeout)},
	{keyOrdered, "false", parsed(config.ParseBool)},
	{keyBy, byQueue, word(keyBy, byQueue, byKey)},
	{keyExhausted, exhaustedBlock, word(keyExhausted, exhaustedBlock, exhaustedDeadLetter, exhaustedSkip)},
	{keyBroadcast, "false", parsed(config.ParseBool)},
	{keyAttempts, fmt.Sprint(defaultAttempts), parsed(count(keyAttempts, 1, 1_000_000))},
	{keyBackoff, defaultBackoff, parsed(ParseBackoff)},
	{keyJitter, "0%", parsed(parseJitter)},
	{keyStart, startAuto, word(keyStart, startAuto, startPaused)},
	{keyResume, resumeAuto, word(keyResume, resumeAuto, resumeManual)},
	{keyEmulate, "false", parsed(config.ParseBool)},
}

// settings are the values of one listener, resolved.
type settings struct {
	name, topic, group    string
	enabled               bool
	filter                driver.Filter
	from                  driver.Position
	concurrency, prefetch int
	prefetchSet           bool
	buffer                int64
	timeout               time.Duration
	ordered, byKey        bool
	exhausted             string
	broadcast             bool
	retry                 RetryPolicy
	startPaused, auto     bool
	emulate               bool
	list                  []Setting
}

// inPlace: a failed delivery stays in this process until it is settled.
func (s *settings) inPlace() bool { return s.ordered || s.broadcast }

// errNoName is told of a listener whose types have no name of their own.
var errNoName = errors.New(`name is missing, and its type and payload have none to derive it from; set it by name:"…" in the tag of listener.On or by listener.Name`)

// resolve gives every setting its value: configuration over option over tag
// over default, placeholders replaced. All problems are in the error.
func (s *Spec) resolve(cfg *config.Config) (*settings, error) {
	values := map[string]string{}
	out := &settings{}
	var errs []error
	for _, d := range settingTable {
		st, err := s.find(cfg, values[keyName], d)
		if err == nil && st.Value != "" {
			err = d.check(st.Value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): %w", d.key, st.Source, err))
			continue
		}
		values[d.key] = st.Value
		if d.key == keyName {
			if out.name = st.Value; out.name == "" {
				return out, errNoName // keys of the others begin with it
			}
		}
		out.list = append(out.list, st)
	}
	errs = append(errs, s.annotateDeferred(cfg))
	if err := join(errs); err != nil {
		return out, err
	}
	out.fill(values)
	errs = append(errs, s.contradictions(func(key string) string {
		switch key {
		case keyOrdered:
			return fmt.Sprint(out.ordered)
		case keyBroadcast:
			return fmt.Sprint(out.broadcast)
		default:
			return values[key]
		}
	}))
	for _, key := range []string{keyTopic, keyGroup} {
		if values[key] == "" {
			errs = append(errs, fmt.Errorf("%s is missing; set it in the tag of listener.On, by listener.%s, or as listeners.%s.%s",
				key, strings.ToUpper(key[:1])+key[1:], out.name, key))
		}
	}
	return out, join(errs)
}

// find looks one setting up in the order of precedence.
func (s *Spec) find(cfg *config.Config, name string, d settingDef) (Setting, error) {
	if d.key == keyName {
		st, ok := s.settings[keyName]
		if !ok {
			st = Setting{Key: keyName, Value: s.fallback, Source: "default"}
		}
		text, err := cfg.Expand(st.Value)
		st.Value = strings.TrimSpace(text)
		return st, err
	}
	key := "listeners." + name + "." + d.key
	if text, ok, err := cfg.Get(key); ok && (err != nil || strings.TrimSpace(text) != "") {
		_, source, _ := cfg.Lookup(key)
		return Setting{Key: d.key, Value: strings.TrimSpace(text), Source: source}, err
	}
	if st, ok := s.settings[d.key]; ok {
		text, err := cfg.Expand(st.Value)
		st.Value = strings.TrimSpace(text)
		if err == nil && strings.TrimSpace(text) == "" {
			err = errors.New("is empty once its placeholders are replaced")
		}
		return st, err
	}
	return Setting{Key: d.key, Value: d.value, Source: "default"}, nil
}

// fill parses values that were checked.
func (s *settings) fill(v map[string]string) {
	s.name, s.topic, s.group = v[keyName], v[keyTopic], v[keyGroup]
	s.enabled, _ = config.ParseBool(v[keyEnabled])
	s.filter, _ = driver.ParseTags(v[keyTags])
	s.filter.SQL = v[keySQL]
	s.from, _ = parseFrom(v[keyFrom])
	s.concurrency, _ = config.ParseInt(v[keyConcurrency])
	if s.prefetchSet = v[keyPrefetch] != ""; s.prefetchSet {
		s.prefetch, _ = config.ParseInt(v[keyPrefetch])
	}
	buffer, _ := parseBuffer(v[keyBuffer])
	s.buffer = int64(buffer)
	s.timeout, _ = parseTimeout(v[keyTimeout])
	s.ordered, _ = config.ParseBool(v[keyOrdered])
	s.byKey = v[keyBy] == byKey
	s.exhausted = v[keyExhausted]
	s.broadcast, _ = config.ParseBool(v[keyBroadcast])
	s.retry.Attempts, _ = config.ParseInt(v[keyAttempts])
	s.retry.Delays, _ = ParseBackoff(v[keyBackoff])
	s.retry.Jitter, _ = parseJitter(v[keyJitter])
	s.startPaused = v[keyStart] == startPaused
	s.auto = v[keyResume] == resumeAuto
	s.emulate, _ = config.ParseBool(v[keyEmulate])
}

func parsed[T any](parse func(string) (T, error)) func(string) error {
	return func(text string) error {
		_, err := parse(text)
		return err
	}
}

func count(what string, least, most int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := config.ParseInt(text)
		if err == nil && (n < least || n > most) {
			err = fmt.Errorf("%d is out of range; it takes %d to %d", n, least, most)
		}
		if err != nil {
			return 0, fmt.Errorf("%s %w", what, err)
		}
		return n, nil
	}
}

func word(what string, words ...string) func(string) error {
	return func(text string) error {
		if _, err := config.ParseWord(text, words...); err != nil {
			return fmt.Errorf("%s %w", what, err)
		}
		return nil
	}
}

func parseFrom(text string) (driver.Position, error) {
	switch text {
	case "earliest":
		return driver.Position{Kind: driver.Earliest}, nil
	case "latest":
		return driver.Position{Kind: driver.Latest}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return driver.Position{}, fmt.Errorf("from %q is unknown; it takes earliest, latest or a time such as 2006-01-02T15:04:05Z", text)
	}
	return driver.Position{Kind: driver.AtTime, Time: t}, nil
}

func parseBuffer(text string) (config.Size, error) {
	n, err := config.ParseSize(text)
	if err == nil && n < 1 {
		err = errors.New("must be above zero")
	}
	if err != nil {
		return 0, fmt.Errorf("buffer %w", err)
	}
	return n, nil
}

func parseTimeout(text string) (time.Duration, error) {
	d, err := config.ParseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative; 0s is no timeout", text)
	}
	if err != nil {
		return 0, fmt.Errorf("timeout %w", err)
	}
	return d, nil
}

// checkName keeps names usable in keys, URLs and environment variables.
func checkName(name string) error {
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			continue
		}
		return fmt.Errorf("name %q holds %q; a name takes 1 to %d letters, digits, '-' and '_'", name, c, driver.MaxName)
	}
	if name == "" || len(name) > driver.MaxName {
		return fmt.Errorf("name %.40q has %d characters; it takes 1 to %d letters, digits, '-' and '_'", name, len(name), driver.MaxName)
	}
	return nil
}
