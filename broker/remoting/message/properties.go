package message

import (
	"bytes"
	"slices"
	"strings"
)

// Separators of the string of properties: name 0x01 value 0x02. There is no
// escaping, so neither may occur in a name or a value.
const (
	nameEnd  = '\x01'
	valueEnd = '\x02'
)

// AppendProperties appends the properties in the order of their names, each
// with its final 0x02. Empty names and empty values are left out, because no
// reader would see them.
func AppendProperties(b []byte, m map[string]string) []byte {
	if len(m) == 0 {
		return b
	}
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		b = AppendProperty(b, k, m[k])
	}
	return b
}

// AppendProperty appends one property to a string of properties that is empty
// or ends with 0x02; an empty name or value appends nothing.
func AppendProperty(b []byte, name, value string) []byte {
	if name == "" || value == "" {
		return b
	}
	b = append(b, name...)
	b = append(b, nameEnd)
	b = append(b, value...)
	return append(b, valueEnd)
}

// ParseProperties reads a string of properties as Java does: an item without
// a name, without 0x01 or with an empty value vanishes, a later duplicate wins,
// the last 0x02 may be missing. The map is never nil.
func ParseProperties(s string) map[string]string {
	// A property has four bytes or more: separators alone do not make a large map.
	m := make(map[string]string, min(strings.Count(s, string(rune(valueEnd))), len(s)/4)+1)
	for name, value := range Properties(s) {
		m[name] = value
	}
	return m
}

// Properties yields the properties of s in their order, duplicates included,
// without allocating. Its use is range.
func Properties(s string) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for len(s) > 0 {
			var item string
			item, s, _ = strings.Cut(s, string(rune(valueEnd)))
			name, value, ok := strings.Cut(item, string(rune(nameEnd)))
			if ok && name != "" && value != "" && !yield(name, value) {
				return
			}
		}
	}
}

// PropertiesOf is [Properties] of bytes; what it yields are parts of b.
func PropertiesOf(b []byte) func(yield func(name, value []byte) bool) {
	return func(yield func(name, value []byte) bool) {
		for len(b) > 0 {
			item, rest, _ := bytes.Cut(b, []byte{valueEnd})
			b = rest
			name, value, ok := bytes.Cut(item, []byte{nameEnd})
			if ok && len(name) > 0 && len(value) > 0 && !yield(name, value) {
				return
			}
		}
	}
}

// Property answers the value of one property, "" if it is not there.
func Property(s, name string) string {
	found := ""
	for k, v := range Properties(s) {
		if k == name {
			found = v
		}
	}
	return found
}

// SetProperty answers s with the property set to value, other ones as they
// were; an empty value removes it.
func SetProperty(s, name, value string) string {
	b := make([]byte, 0, len(s)+len(name)+len(value)+3)
	for k, v := range Properties(s) {
		if k != name {
			b = AppendProperty(b, k, v)
		}
	}
	return string(AppendProperty(b, name, value))
}

// JoinKeys and SplitKeys convert between business keys and the value of
// [Keys]; empty keys vanish.
func JoinKeys(keys []string) string { return strings.Join(keys, " ") }

// SplitKeys is the inverse of [JoinKeys].
func SplitKeys(s string) []string { return strings.Fields(s) }
