package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Bind reads a section into a new T, a struct. A field takes the key of its tag
// `config:"name"`, else its name in kebab case (MaxOpen is max-open);
// `config:"-"` leaves it alone, and `config:"name,required"` refuses an unset or
// empty value. Fields may be strings, [Secret], booleans, numbers,
// [time.Duration], [Size], anything with UnmarshalText, structs (a section below
// this one), pointers to these, slices (comma separated or a YAML list) and
// map[string]string. A field whose key is unset keeps its zero value.
//
// Bind is strict: a key of the section without a field is an error that names
// its source and the nearest key. All problems are reported together.
func Bind[T any](c *Config, section string) (T, error) {
	var v T
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return v, fmt.Errorf("bind section %s: %s is not a struct", section, t)
	}
	b := binder{c: c, known: map[string]bool{}}
	b.structure(section, reflect.ValueOf(&v).Elem())
	names := slices.Sorted(maps.Keys(b.known))
	known := func(key string) bool {
		return b.known[key] || slices.ContainsFunc(b.open, func(p string) bool { return strings.HasPrefix(key, p) })
	}
	for _, p := range b.open {
		names = append(names, p+"*")
	}
	if err := c.CheckKnown(section, known, names); err != nil {
		b.errs = append(b.errs, err)
	}
	if err := errors.Join(b.errs...); err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

type binder struct {
	c     *Config
	known map[string]bool
	open  []string // prefixes of maps and lists, whose keys are free
	errs  []error
}

func (b *binder) structure(section string, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, flags, _ := strings.Cut(f.Tag.Get("config"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" {
			name = kebab(f.Name)
		}
		if flags != "" && flags != "required" {
			b.errs = append(b.errs, fmt.Errorf("field %s of %s: unknown flag %q in its config tag; only required is known", f.Name, v.Type(), flags))
		}
		b.field(join(section, name), v.Field(i), flags == "required")
	}
}

func (b *binder) field(key string, v reflect.Value, required bool) {
	if v.Kind() == reflect.Pointer && !unmarshals(v) {
		fresh := reflect.New(v.Type().Elem())
		before := len(b.errs)
		b.field(key, fresh.Elem(), required)
		if len(b.errs) == before && !fresh.Elem().IsZero() {
			v.Set(fresh)
		}
		return
	}
	switch {
	case unmarshals(v):
	case v.Kind() == reflect.Struct:
		b.structure(key, v)
		return
	case v.Kind() == reflect.Map:
		b.mapping(key, v)
		return
	}
	b.known[key] = true
	text, ok, err := b.c.Get(key)
	if err != nil {
		b.errs = append(b.errs, err)
		return
	}
	if v.Kind() == reflect.Slice && !unmarshals(v) {
		b.open = append(b.open, key+".")
		b.slice(key, text, v)
		if required && v.Len() == 0 {
			b.errs = append(b.errs, fmt.Errorf("%s is required and not set", key))
		}
		return
	}
	if !ok || text == "" {
		if required {
			b.errs = append(b.errs, fmt.Errorf("%s is required and not set", key))
		}
		return
	}
	if err := scalar(v, text); err != nil {
		_, source, _ := b.c.Lookup(key)
		b.errs = append(b.errs, fmt.Errorf("%s (%s): %w", key, source, err))
	}
}

func (b *binder) slice(key, text string, v reflect.Value) {
	var words []string
	if text != "" {
		words = strings.Split(text, ",")
	}
	for i := 0; ; i++ {
		t, ok, err := b.c.Get(join(key, strconv.Itoa(i)))
		if err != nil {
			b.errs = append(b.errs, err)
		}
		if !ok {
			break
		}
		words = append(words, t)
	}
	for _, w := range words {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := scalar(e, strings.TrimSpace(w)); err != nil {
			b.errs = append(b.errs, fmt.Errorf("%s: %w", key, err))
			return
		}
		v.Set(reflect.Append(v, e))
	}
}

func (b *binder) mapping(key string, v reflect.Value) {
	if v.Type().Key().Kind() != reflect.String {
		b.errs = append(b.errs, fmt.Errorf("%s: a map needs string keys, not %s", key, v.Type().Key()))
		return
	}
	b.open = append(b.open, key+".")
	for _, k := range b.c.Keys(key) {
		text, _, err := b.c.Get(k)
		if err != nil {
			b.errs = append(b.errs, err)
			continue
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := scalar(e, text); err != nil {
			b.errs = append(b.errs, fmt.Errorf("%s: %w", k, err))
			continue
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		name := reflect.ValueOf(strings.TrimPrefix(k, key+".")).Convert(v.Type().Key())
		v.SetMapIndex(name, e)
	}
}

func unmarshals(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

func scalar(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := ParseDuration(text)
		v.SetInt(int64(d))
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		x, err := ParseBool(text)
		v.SetBool(x)
		return err
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number that fits %s", text, v.Type())
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number from 0 that fits %s", text, v.Type())
		}
		v.SetUint(n)
	case reflect.Float32, reflect.Float64:
		x, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a number such as 0.5", text)
		}
		v.SetFloat(x)
	default:
		return fmt.Errorf("a field of type %s cannot be read from configuration", v.Type())
	}
	return nil
}

// kebab turns MaxOpenConns into max-open-conns and HTTPAddr into http-addr.
func kebab(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 {
			lower := unicode.IsLower(runes[i-1]) || unicode.IsDigit(runes[i-1])
			ends := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if lower || ends {
				b.WriteByte('-')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
