package driver

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxName is the longest name of a topic or a group in bytes; names with the
// prefix %RETRY% or %DLQ% may have MaxInternalName.
const (
	MaxName         = 127
	MaxInternalName = 255
)

// ValidTopic checks a topic name: 1 to 127 of the characters a-z A-Z 0-9 _ - %
// and |, the set that RocketMQ accepts. Anything else, such as a slash or a
// dot, could reach a file system or a wire format and is refused.
func ValidTopic(name string) error { return validName("topic", name) }

// ValidGroup checks the name of a consumer or producer group by the same rule.
func ValidGroup(name string) error { return validName("group", name) }

func validName(what, name string) error {
	limit := MaxName
	if strings.HasPrefix(name, "%RETRY%") || strings.HasPrefix(name, "%DLQ%") {
		limit = MaxInternalName
	}
	switch {
	case name == "":
		return fmt.Errorf("%s name is empty; it takes 1 to %d characters of a-z A-Z 0-9 _ - %% |", what, MaxName)
	case len(name) > limit:
		return fmt.Errorf("%s name %.40q… has %d characters; at most %d are allowed", what, name, len(name), limit)
	}
	for _, c := range name {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '%' || c == '|' {
			continue
		}
		return fmt.Errorf("%s name %q holds %q; it takes 1 to %d characters of a-z A-Z 0-9 _ - %% |", what, name, c, MaxName)
	}
	return nil
}

// ValidTag checks one tag: not empty, no "||", no white space, no control
// characters.
func ValidTag(tag string) error {
	switch {
	case tag == "":
		return errors.New("a tag is empty")
	case strings.Contains(tag, "||"):
		return fmt.Errorf("tag %q holds ||, which separates tags", tag)
	}
	return plainText("tag", tag, true)
}

// ValidProperty checks a property: name and value are not empty, are UTF-8 and
// hold neither \x01 nor \x02, which separate properties on the wire.
func ValidProperty(name, value string) error {
	if name == "" {
		return errors.New("a property has no name")
	}
	if value == "" {
		return fmt.Errorf("property %q is empty; leave it out instead", name)
	}
	for _, s := range []string{name, value} {
		if !utf8.ValidString(s) {
			return fmt.Errorf("property %q is not UTF-8", name)
		}
		if strings.ContainsAny(s, "\x01\x02") {
			return fmt.Errorf("property %q holds \\x01 or \\x02, which separate properties", name)
		}
	}
	return nil
}

// Check refuses a message that no broker could carry, with the accepted form
// in the text: topic, tag, keys, properties.
func (m *Message) Check() error {
	if err := ValidTopic(m.Topic); err != nil {
		return err
	}
	if m.Tag != "" {
		if err := ValidTag(m.Tag); err != nil {
			return err
		}
	}
	for _, k := range m.Keys {
		if k == "" {
			return errors.New("a key is empty; leave it out instead")
		}
		if err := plainText("key", k, true); err != nil {
			return err
		}
	}
	if m.OrderingKey != "" {
		if err := plainText("ordering key", m.OrderingKey, false); err != nil {
			return err
		}
	}
	if m.QueueSet && m.Queue < 0 {
		return fmt.Errorf("queue %d is negative; queues count from 0", m.Queue)
	}
	for k, v := range m.Properties {
		if err := ValidProperty(k, v); err != nil {
			return err
		}
	}
	return nil
}

func plainText(what, s string, noSpace bool) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s %q is not UTF-8", what, s)
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return fmt.Errorf("%s %q holds a control character", what, s)
		}
		if noSpace && (r == ' ' || r == '\u00a0') {
			return fmt.Errorf("%s %q holds a space; keys and tags are separated by spaces on the wire", what, s)
		}
	}
	return nil
}
