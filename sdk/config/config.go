package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/fx"
)

// Lookup finds one setting by its flat dotted key. The value is as written, its
// placeholders not yet expanded; source says where it was set, such as
// "app.yaml:12" or "env BILLPAY_SLUICE_BROKER".
type Lookup interface {
	Lookup(key string) (value, source string, ok bool)
}

// Config is the merged settings of an application. It never changes and is safe
// for concurrent use.
type Config struct {
	sources []Source // highest precedence first
}

// Params are what [Provide] takes from the graph.
type Params struct {
	fx.In

	Sources []Source `group:"sluice.config"`
}

// Provide is the fx constructor of [Config]; sdk.Module uses it.
func Provide(p Params) (*Config, error) { return New(p.Sources...) }

// New merges the sources. Two sources of the same kind may not give the same
// key different values.
func New(sources ...Source) (*Config, error) {
	c := &Config{sources: slices.Clone(sources)}
	slices.SortStableFunc(c.sources, func(a, b Source) int {
		return cmp.Or(-cmp.Compare(a.rank, b.rank), strings.Compare(a.name, b.name))
	})
	var errs []error
	for i, a := range c.sources {
		for _, b := range c.sources[i+1:] {
			if a.rank == b.rank {
				errs = append(errs, conflicts(a, b)...)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

func conflicts(a, b Source) []error {
	if a.environ != nil {
		if a.prefix == b.prefix {
			return nil
		}
		return []error{fmt.Errorf("two environment prefixes, %q and %q; one is allowed", a.prefix, b.prefix)}
	}
	var errs []error
	for _, k := range slices.Sorted(maps.Keys(a.values)) {
		x, y := a.values[k], b.values[k]
		if _, both := b.values[k]; both && x.text != y.text {
			errs = append(errs, fmt.Errorf("key %s is set differently by %s and %s, which rank alike; "+
				"layers of files are written as config.File(base, over)", k, x.where, y.where))
		}
	}
	return errs
}

// Lookup implements [Lookup].
func (c *Config) Lookup(key string) (value, source string, ok bool) {
	for _, s := range c.sources {
		if e, ok := s.lookup(key); ok {
			return e.text, e.where, true
		}
	}
	return "", "", false
}

// Keys returns the known keys of a section, sorted: "listeners" gives all keys
// that begin with "listeners.". The empty section gives all. Keys that are set
// only in the environment are not among them, because a variable name does not
// tell its key; they are found by [Config.Lookup] all the same.
func (c *Config) Keys(section string) []string {
	prefix := section
	if section != "" && !strings.HasSuffix(section, ".") {
		prefix += "."
	}
	seen := map[string]bool{}
	for _, s := range c.sources {
		for k := range s.values {
			if strings.HasPrefix(k, prefix) {
				seen[k] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// String lists the sources, highest precedence first, and no values.
func (c *Config) String() string {
	names := make([]string, 0, len(c.sources))
	for _, s := range c.sources {
		names = append(names, s.name)
	}
	return "config(" + strings.Join(names, "; ") + ")"
}

// GoString is [Config.String], so that no formatting verb prints values.
func (c *Config) GoString() string { return c.String() }

// Get returns a setting with its placeholders expanded. ok is false if nobody
// set it; an empty value counts as set.
func (c *Config) Get(key string) (value string, ok bool, err error) {
	raw, source, ok := c.Lookup(key)
	if !ok {
		return "", false, nil
	}
	value, err = c.expand(raw, key)
	if err != nil {
		return "", true, fmt.Errorf("%s (%s): %w", key, source, err)
	}
	return value, true, nil
}

// Text returns a setting, or def if it is unset or empty.
func (c *Config) Text(key, def string) (string, error) {
	return read(c, key, def, func(s string) (string, error) { return s, nil })
}

// Int is [Config.Text] for a whole number.
func (c *Config) Int(key string, def int) (int, error) { return read(c, key, def, ParseInt) }

// Duration is [Config.Text] in the form of [ParseDuration].
func (c *Config) Duration(key string, def time.Duration) (time.Duration, error) {
	return read(c, key, def, ParseDuration)
}

// Bool is [Config.Text] in the form of [ParseBool].
func (c *Config) Bool(key string, def bool) (bool, error) { return read(c, key, def, ParseBool) }

// Size is [Config.Text] in the form of [ParseSize].
func (c *Config) Size(key string, def Size) (Size, error) { return read(c, key, def, ParseSize) }

// Range is [Config.Text] in the form of [ParseRange].
func (c *Config) Range(key string, def Range) (Range, error) { return read(c, key, def, ParseRange) }

// OneOf is [Config.Text] restricted to the given words.
func (c *Config) OneOf(key, def string, words ...string) (string, error) {
	return read(c, key, def, func(s string) (string, error) { return ParseWord(s, words...) })
}

func read[T any](c *Config, key string, def T, parse func(string) (T, error)) (T, error) {
	text, ok, err := c.Get(key)
	if err != nil || !ok || text == "" {
		return def, err
	}
	v, err := parse(text)
	if err != nil {
		_, source, _ := c.Lookup(key)
		return def, fmt.Errorf("%s (%s): %w", key, source, err)
	}
	return v, nil
}
