package listener

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Setting is one value of a listener and where it was set: "default",
// "tag listener.On", "option", or the file or variable of the configuration.
type Setting struct {
	Key, Value, Source string
}

// Spec is what is known about a listener before configuration: its settings as
// written, placeholders included, and its annotations. Markers and options
// write to it while [Provide] runs; afterwards it does not change.
type Spec struct {
	// Type is the type of the handler, "*bonus.Listener".
	Type string
	// Annotations are values for interceptors, by name.
	Annotations map[string]any
	// Labels are for [Labelled].
	Labels map[string]string

	settings map[string]Setting
	source   string // of what is being applied
	deferred []deferredMarker
	fallback string // name of a listener that was given none
}

// Set gives a setting its value, over what was set before. Unknown keys and
// values that can be seen to be wrong are refused; a value with a ${placeholder}
// is checked when the container is built.
func (s *Spec) Set(key, value string) error {
	def, ok := settingOf(key)
	if !ok {
		return fmt.Errorf("unknown key %q%s", key, suggestion(key, settingKeys()))
	}
	if strings.TrimSpace(value) == "" {
		return fmt.Errorf("key %q is empty; leave it out instead", key)
	}
	if !strings.Contains(value, "${") {
		if err := def.check(value); err != nil {
			return err
		}
	}
	s.settings[key] = Setting{Key: key, Value: strings.TrimSpace(value), Source: s.source}
	return nil
}

// Value returns a setting as written so far, or its default.
func (s *Spec) Value(key string) string {
	if v, ok := s.settings[key]; ok {
		return v.Value
	}
	def, _ := settingOf(key)
	return def.value
}

// Annotate hands a value to the interceptor that serves the annotation name.
// The container refuses a listener with an annotation that nobody serves.
func (s *Spec) Annotate(name string, value any) { s.Annotations[name] = value }

// newSpec reads the markers of the type and applies the options. Its error
// names the type and holds every mistake.
func newSpec(t, payload reflect.Type, opts []Option) (*Spec, error) {
	s := &Spec{
		Type:        t.String(),
		Annotations: map[string]any{},
		Labels:      map[string]string{},
		settings:    map[string]Setting{},
		fallback:    defaultName(t, payload),
	}
	errs := []error{s.readMarkers(t)}
	s.source = "option"
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("an option is nil"))
			continue
		}
		if err := o(s); err != nil {
			errs = append(errs, fmt.Errorf("option: %w", err))
		}
	}
	s.source = ""
	if len(s.deferred) == 0 {
		errs = append(errs, s.contradictions(s.Value))
	}
	if err := join(errs); err != nil {
		return nil, fmt.Errorf("listener %s: %w", s.Type, err)
	}
	return s, nil
}

// contradictions finds settings that exclude each other.
func (s *Spec) contradictions(value func(key string) string) error {
	var errs []error
	if value(keyTags) != "" && value(keySQL) != "" {
		errs = append(errs, errors.New("tags and sql exclude each other; keep one"))
	}
	if value(keyOrdered) == "true" && value(keyBroadcast) == "true" {
		errs = append(errs, errors.New("orderly and broadcast exclude each other; keep one"))
	}
	return join(errs)
}

// defaultName is the type's name in kebab case without the suffix Listener:
// *bonus.RedPacketListener is red-packet. A type that is called Listener takes
// the name of its package, and a Func that of its payload.
func defaultName(t, payload reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Func {
		if payload.Kind() == reflect.Pointer {
			payload = payload.Elem()
		}
		t = payload
	}
	name, _, _ := strings.Cut(t.Name(), "[")
	name = strings.TrimSuffix(name, "Listener")
	if name == "" {
		name = t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
	}
	return kebab(name)
}

// kebab writes HTTPPush as http-push.
func kebab(name string) string {
	var b strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		if unicode.IsUpper(r) && i > 0 && rs[i-1] != '_' &&
			(!unicode.IsUpper(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// settingKeys are the names of all settings, sorted.
func settingKeys() []string {
	keys := make([]string, 0, len(settingTable))
	for _, d := range settingTable {
		keys = append(keys, d.key)
	}
	slices.Sort(keys)
	return keys
}

func settingOf(key string) (settingDef, bool) {
	for _, d := range settingTable {
		if d.key == key {
			return d, true
		}
	}
	return settingDef{}, false
}
