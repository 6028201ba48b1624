package listener

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/sdk/config"
)

// Annotation is implemented by marker types: zero-size types that stand on a
// blank field of a listener and carry their values in the tag of the field.
// Any package may bring its own.
//
//	type Listener struct {
//		_ listener.On    `topic:"orders" group:"bonus"`
//		_ idempotency.By `key:"order_id"`
//	}
//
// Annotate reads the tag, usually with [ParseTag], and writes to s, usually
// with [Spec.Annotate]. It runs when [Provide] is called if the tag holds no
// placeholder, else when the container is built, with every ${placeholder}
// replaced. Its error is shown behind the names of the listener and the marker.
type Annotation interface {
	Annotate(tag reflect.StructTag, s *Spec) error
}

// ParseTag reads a tag of the form key:"value" key:"value" and refuses what
// [reflect.StructTag.Get] passes over in silence: a malformed tag, an unknown
// key, a key twice, an empty value. Every problem is in the error.
func ParseTag(tag reflect.StructTag, known ...string) (map[string]string, error) {
	values := map[string]string{}
	var errs []error
	rest := strings.TrimSpace(string(tag))
	for rest != "" {
		key, value, tail, ok := cutTag(rest)
		if !ok {
			errs = append(errs, fmt.Errorf("malformed tag at %q; the form is key:\"value\" key:\"value\" on one line", rest))
			break
		}
		rest = tail
		_, twice := values[key]
		switch {
		case !slices.Contains(known, key):
			errs = append(errs, fmt.Errorf("unknown key %q%s", key, suggestion(key, known)))
		case twice:
			errs = append(errs, fmt.Errorf("key %q stands twice", key))
		case strings.TrimSpace(value) == "":
			errs = append(errs, fmt.Errorf("key %q is empty; leave it out instead", key))
		default:
			values[key] = value
		}
	}
	return values, join(errs)
}

// cutTag takes one pair off the front of a tag.
func cutTag(s string) (key, value, rest string, ok bool) {
	key, quoted, found := strings.Cut(s, ":")
	if !found || key == "" || strings.ContainsAny(key, " \"\t\n\r\\") {
		return "", "", "", false
	}
	prefix, err := strconv.QuotedPrefix(quoted)
	if err != nil || prefix[0] != '"' {
		return "", "", "", false
	}
	value, err = strconv.Unquote(prefix)
	rest = quoted[len(prefix):]
	if err != nil || rest != "" && rest[0] != ' ' {
		return "", "", "", false
	}
	return key, value, strings.TrimLeft(rest, " "), true
}

func suggestion(word string, among []string) string {
	if n, ok := config.Nearest(word, among); ok {
		return fmt.Sprintf(" (did you mean %q?)", n)
	}
	if len(among) == 0 {
		return "; it takes no keys"
	}
	return "; it takes " + strings.Join(among, ", ")
}

// problems is several errors in one line, so that a text that fx shows behind
// a name stays one sentence.
type problems []error

func (p problems) Error() string {
	texts := make([]string, len(p))
	for i, err := range p {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (p problems) Unwrap() []error { return p }

// join is [errors.Join] with "; " in place of line ends.
func join(errs []error) error {
	var p problems
	for _, err := range errs {
		if err == nil {
			continue
		}
		if inner, ok := errors.AsType[problems](err); ok && err.Error() == inner.Error() {
			p = append(p, inner...)
			continue
		}
		p = append(p, err)
	}
	switch len(p) {
	case 0:
		return nil
	case 1:
		return p[0]
	default:
		return p
	}
}

// readMarkers applies the marker fields of t, a struct or a pointer to one, in
// the order in which they are written.
func (s *Spec) readMarkers(t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var errs []error
	seen := map[reflect.Type]bool{}
	for f := range t.Fields() {
		a, ok := annotationOf(f.Type)
		if !ok {
			continue
		}
		name := strings.TrimPrefix(f.Type.String(), "*")
		switch {
		case f.Name != "_":
			errs = append(errs, fmt.Errorf("%s: field %s has a name; a marker stands on a blank field, written _ %s", name, f.Name, name))
		case seen[f.Type]:
			errs = append(errs, fmt.Errorf("%s: stands twice", name))
		default:
			seen[f.Type] = true
			if err := s.mark(name, a, f.Tag); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	return join(errs)
}

// mark applies one annotation now, or keeps it for the time when placeholders
// have values.
func (s *Spec) mark(name string, a Annotation, tag reflect.StructTag) error {
	s.source = "tag " + name
	defer func() { s.source = "" }()
	if _, ours := a.(ownMarker); !ours && strings.Contains(string(tag), "${") {
		s.deferred = append(s.deferred, deferredMarker{name: name, annotation: a, tag: tag})
		return nil
	}
	return a.Annotate(tag, s)
}

type deferredMarker struct {
	name       string
	annotation Annotation
	tag        reflect.StructTag
}

// annotateDeferred runs the annotations whose tags hold placeholders.
func (s *Spec) annotateDeferred(cfg *config.Config) error {
	var errs []error
	for _, d := range s.deferred {
		tag, err := expandTag(cfg, d.tag)
		if err == nil {
			s.source = "tag " + d.name
			err = d.annotation.Annotate(tag, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.name, err))
		}
	}
	s.source = ""
	return join(errs)
}

func expandTag(cfg *config.Config, tag reflect.StructTag) (reflect.StructTag, error) {
	var b strings.Builder
	var errs []error
	rest := strings.TrimSpace(string(tag))
	for rest != "" {
		key, value, tail, ok := cutTag(rest)
		if !ok {
			return "", fmt.Errorf("malformed tag at %q; the form is key:\"value\" key:\"value\" on one line", rest)
		}
		rest = tail
		text, err := cfg.Expand(value)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		fmt.Fprintf(&b, "%s:%s ", key, strconv.Quote(text))
	}
	return reflect.StructTag(strings.TrimSpace(b.String())), join(errs)
}

var annotationType = reflect.TypeFor[Annotation]()

func annotationOf(t reflect.Type) (Annotation, bool) {
	switch {
	case t.Kind() == reflect.Interface:
		return nil, false
	case t.Kind() == reflect.Pointer && t.Implements(annotationType):
		a, ok := reflect.New(t.Elem()).Interface().(Annotation)
		return a, ok
	case t.Implements(annotationType):
		a, ok := reflect.Zero(t).Interface().(Annotation)
		return a, ok
	case reflect.PointerTo(t).Implements(annotationType):
		a, ok := reflect.New(t).Interface().(Annotation)
		return a, ok
	default:
		return nil, false
	}
}
