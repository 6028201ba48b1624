package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/fx"
)

// KnownGroup is the fx value group that collects the [Known] keys of modules.
const KnownGroup = "sluice.config.known"

// Known is keys of the section sluice that a module reads, such as
// "sluice.redis.prefix". A key that ends with ".*" stands for all below it.
type Known struct{ Keys []string }

type knownResult struct {
	fx.Out

	Known Known `group:"sluice.config.known"`
}

// Declare tells the check of the section sluice about keys that a module reads.
func Declare(keys ...string) fx.Option {
	keys = slices.Clone(keys)
	return fx.Provide(func() knownResult { return knownResult{Known: Known{Keys: keys}} })
}

// Match reports whether k covers the key.
func (k Known) Match(key string) bool {
	return slices.ContainsFunc(k.Keys, func(pattern string) bool {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasSuffix(prefix, ".") {
			return strings.HasPrefix(key, prefix)
		}
		return key == pattern
	})
}

// CheckKnown refuses every key of a section that known does not accept; all is
// the list from which the nearest key is suggested. Environment variables that
// begin with a non-empty prefix and the section are checked against the names
// of all. The error lists every unknown key with its source.
func (c *Config) CheckKnown(section string, known func(key string) bool, all []string) error {
	var errs []error
	for _, key := range c.Keys(section) {
		if !known(key) {
			_, source, _ := c.Lookup(key)
			errs = append(errs, fmt.Errorf("unknown key %s (%s)%s", key, source, didYouMean(key, all)))
		}
	}
	for _, s := range c.sources {
		if s.environ != nil && s.prefix != "" {
			errs = append(errs, s.checkKnown(section, all)...)
		}
	}
	return errors.Join(errs...)
}

func (s Source) checkKnown(section string, all []string) []error {
	var errs []error
	names := make([]string, 0, len(all))
	open := []string{}
	for _, key := range all {
		if prefix, ok := strings.CutSuffix(key, "*"); ok {
			open = append(open, EnvName(s.prefix, prefix))
			continue
		}
		names = append(names, EnvName(s.prefix, key))
	}
	begin := EnvName(s.prefix, section+".")
	for _, name := range slices.Sorted(maps.Keys(s.environ)) {
		covered := slices.ContainsFunc(open, func(p string) bool { return strings.HasPrefix(name, p) })
		if strings.HasPrefix(name, begin) && !covered && !slices.Contains(names, name) {
			errs = append(errs, fmt.Errorf("unknown environment variable %s%s", name, didYouMean(name, names)))
		}
	}
	return errs
}
