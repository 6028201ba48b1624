package config

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// maxExpanded bounds the result of one expansion in bytes, and
	// maxSteps the number of placeholders in it: values that double each other
	// would grow without end otherwise.
	maxExpanded = 1 << 20
	maxSteps    = 10_000
)

// MissingError lists every placeholder of a string that has neither a value nor
// a default.
type MissingError struct {
	// Keys in the order of their appearance.
	Keys []string
	// Nearest holds, under some of the keys, a similar key that is set.
	Nearest map[string]string
}

// Error returns "no value for ${a}, ${b}" with suggestions.
func (e *MissingError) Error() string {
	words := make([]string, 0, len(e.Keys))
	for _, k := range e.Keys {
		w := "${" + k + "}"
		if n, ok := e.Nearest[k]; ok {
			w += fmt.Sprintf(" (did you mean ${%s}?)", n)
		}
		words = append(words, w)
	}
	return "no value for " + strings.Join(words, ", ")
}

// Expand replaces the placeholders in s. Missing keys are reported together in
// one [*MissingError].
func (c *Config) Expand(s string) (string, error) { return c.expand(s) }

func (c *Config) expand(s string, stack ...string) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	e := expander{c: c, stack: stack}
	out, err := e.expand(s)
	if err != nil {
		return "", err
	}
	if len(e.missing) > 0 {
		return "", c.missing(e.missing)
	}
	return out, nil
}

func (c *Config) missing(keys []string) error {
	e := &MissingError{Keys: keys, Nearest: map[string]string{}}
	all := c.Keys("")
	for _, k := range keys {
		if n, ok := Nearest(k, all); ok {
			e.Nearest[k] = n
		}
	}
	return e
}

type expander struct {
	c       *Config
	stack   []string // keys whose values are being expanded
	missing []string
	steps   int
}

func (e *expander) expand(s string) (string, error) {
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		s = s[i:]
		switch {
		case strings.HasPrefix(s, "$${"):
			b.WriteString("${")
			s = s[3:]
		case strings.HasPrefix(s, "${"):
			end := closing(s)
			if end < 0 {
				return "", fmt.Errorf("placeholder %.60q is not closed; the form is ${key} or ${key:default}", s)
			}
			v, err := e.placeholder(s[2:end])
			if err != nil {
				return "", err
			}
			b.WriteString(v)
			s = s[end+1:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
		if b.Len() > maxExpanded {
			return "", fmt.Errorf("the expanded text is longer than %d bytes", maxExpanded)
		}
	}
	return b.String(), nil
}

// closing finds the brace that ends the placeholder at the start of s. Braces
// inside count in pairs, so a default may be JSON.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func (e *expander) placeholder(body string) (string, error) {
	if e.steps++; e.steps > maxSteps {
		return "", fmt.Errorf("more than %d placeholders in one value", maxSteps)
	}
	key, def, hasDefault := strings.Cut(body, ":")
	if !validKey(key) {
		return "", fmt.Errorf("placeholder ${%.60s}: a key takes letters, digits, '.', '-' and '_'; the form is ${key} or ${key:default}", body)
	}
	if i := slices.Index(e.stack, key); i >= 0 {
		cycle := append(slices.Clone(e.stack[i:]), key)
		return "", fmt.Errorf("placeholders go in a circle: %s", strings.Join(cycle, " → "))
	}
	raw, source, ok := e.c.Lookup(key)
	switch {
	case ok:
		e.stack = append(e.stack, key)
		v, err := e.expand(raw)
		e.stack = e.stack[:len(e.stack)-1]
		if err != nil {
			return "", fmt.Errorf("${%s} (%s): %w", key, source, err)
		}
		return v, nil
	case hasDefault:
		return e.expand(def)
	default:
		if !slices.Contains(e.missing, key) {
			e.missing = append(e.missing, key)
		}
		return "", nil
	}
}

func validKey(key string) bool {
	for i := range len(key) {
		c := key[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			continue
		}
		return false
	}
	return key != ""
}
