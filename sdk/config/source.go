package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"

	"go.uber.org/fx"
)

// Group is the fx value group that collects sources.
const Group = "sluice.config"

// Source is one origin of settings. Make one with [FromFile], [FromEnv],
// [FromMap]; the zero Source is empty.
type Source struct {
	name   string
	rank   rank
	values map[string]entry
	// prefix and environ belong to an environment source, which is asked per
	// key because a variable name does not tell where the dots were.
	prefix  string
	environ map[string]string
}

// rank orders the kinds of sources; the higher one wins.
type rank uint8

const (
	rankFile rank = iota
	rankEnv
	rankMap
	rankOverride
)

type entry struct {
	text, where string
}

type sourceResult struct {
	fx.Out

	Source Source `group:"sluice.config"`
}

// Name says where the settings come from, such as "app.yaml".
func (s Source) Name() string { return s.name }

// FromFile reads YAML files; a key in a later file replaces that of an earlier
// one. A file that is missing or is not YAML is an error that names it.
func FromFile(path string, over ...string) (Source, error) {
	s := Source{name: path, rank: rankFile, values: map[string]entry{}}
	var errs []error
	for i, p := range append([]string{path}, over...) {
		if i > 0 {
			s.name += ", " + p
		}
		errs = append(errs, s.read(p))
	}
	if err := errors.Join(errs...); err != nil {
		return Source{}, err
	}
	return s, nil
}

func (s *Source) read(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("configuration file %s does not exist; config.FileIfExists makes it optional: %w", path, fs.ErrNotExist)
		}
		return fmt.Errorf("read configuration file %s: %w", path, err)
	}
	values, err := flatten(path, data)
	if err != nil {
		return err
	}
	maps.Copy(s.values, values)
	return nil
}

// FromEnv takes environ in the form of [os.Environ]; only variables with the
// prefix count. An empty prefix takes all of them.
func FromEnv(prefix string, environ []string) Source {
	s := Source{name: "environment " + prefix + "*", rank: rankEnv, prefix: prefix, environ: map[string]string{}}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if ok && name != "" && strings.HasPrefix(name, prefix) {
			s.environ[name] = value
		}
	}
	return s
}

// FromMap takes flat dotted keys; the map is copied.
func FromMap(m map[string]string) Source { return mapSource("map", rankMap, m) }

// FromOverride is [FromMap] with the highest precedence, for command line flags
// and test kits.
func FromOverride(m map[string]string) Source { return mapSource("override", rankOverride, m) }

func mapSource(name string, r rank, m map[string]string) Source {
	s := Source{name: name, rank: r, values: make(map[string]entry, len(m))}
	for k, v := range m {
		s.values[k] = entry{text: v, where: name}
	}
	return s
}

// EnvName is the variable that sets key under prefix.
func EnvName(prefix, key string) string {
	return prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

func (s Source) lookup(key string) (entry, bool) {
	if s.environ != nil {
		name := EnvName(s.prefix, key)
		v, ok := s.environ[name]
		return entry{text: v, where: "env " + name}, ok
	}
	e, ok := s.values[key]
	return e, ok
}

func provide(f func() (Source, error)) fx.Option {
	return fx.Provide(func() (sourceResult, error) {
		s, err := f()
		return sourceResult{Source: s}, err
	})
}

// File adds YAML files as one source; a later file wins over an earlier one. A
// missing file fails the start. The files are read when the application is
// built, not when File is called.
func File(path string, over ...string) fx.Option {
	return provide(func() (Source, error) { return FromFile(path, over...) })
}

// FileIfExists is [File] for one file that may be missing.
func FileIfExists(path string) fx.Option {
	return provide(func() (Source, error) {
		s, err := FromFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return Source{name: path + " (absent)", rank: rankFile}, nil
		}
		return s, err
	})
}

// Env adds the environment variables with the prefix, such as "BILLPAY_".
func Env(prefix string) fx.Option {
	return provide(func() (Source, error) { return FromEnv(prefix, os.Environ()), nil })
}

// Map adds flat dotted keys; the map is copied at once.
func Map(m map[string]string) fx.Option {
	s := FromMap(m)
	return provide(func() (Source, error) { return s, nil })
}

// Override is [Map] with the highest precedence.
func Override(m map[string]string) fx.Option {
	s := FromOverride(m)
	return provide(func() (Source, error) { return s, nil })
}
