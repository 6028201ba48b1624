package config

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "***"

// Secret is a setting that must not be seen: whatever prints it prints ***, or
// nothing if it is empty. [Secret.Reveal] returns the text.
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String returns *** or "".
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter], so that no verb prints the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements [encoding.TextMarshaler], for JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML keeps YAML from printing the text.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
