package remoting

import (
	"fmt"
	"math"
	"strings"
)

// FieldError says which fields of a command are missing or bad; it names all
// of them.
type FieldError struct {
	// Command is what was being read, such as "send message".
	Command string
	// Missing are names of required fields that are not there.
	Missing []string
	// Bad are fields whose value is not of their type.
	Bad []Field
}

func (e *FieldError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "read fields of %s:", e.Command)
	if len(e.Missing) > 0 {
		fmt.Fprintf(&b, " missing %s", strings.Join(e.Missing, ", "))
	}
	for i, f := range e.Bad {
		if i > 0 || len(e.Missing) > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " bad %s %.64q", f.Name, f.Value)
	}
	return b.String()
}

// FieldReader reads fields with their types and gathers what is wrong with
// them. Methods without Opt note an absent field as missing. A field that is
// there but empty is a text; to numbers and truth values it is as good as
// absent, as Java's peers see it.
type FieldReader struct {
	command string
	fields  Fields
	err     *FieldError
}

// ReadFields begins to read f; command is what errors call it.
func ReadFields(command string, f Fields) FieldReader {
	return FieldReader{command: command, fields: f}
}

// Err answers a [*FieldError], or nil if everything was there and good.
func (d *FieldReader) Err() error {
	if d.err == nil {
		return nil // not the nil pointer, which would be an error
	}
	return d.err
}

func (d *FieldReader) failure() *FieldError {
	if d.err == nil {
		d.err = &FieldError{Command: d.command}
	}
	return d.err
}

func (d *FieldReader) missing(name string) {
	e := d.failure()
	e.Missing = append(e.Missing, name)
}

func (d *FieldReader) bad(name, value string) {
	e := d.failure()
	e.Bad = append(e.Bad, Field{name, value})
}

// Text reads a required text, which may be empty.
func (d *FieldReader) Text(name string) string {
	v, ok := d.fields.Lookup(name)
	if !ok {
		d.missing(name)
	}
	return v
}

// OptText reads a text, "" if it is absent.
func (d *FieldReader) OptText(name string) string { return d.fields.Get(name) }

// Int32 reads a required number.
func (d *FieldReader) Int32(name string) int32 {
	return int32(d.number(name, 0, true, math.MinInt32, math.MaxInt32))
}

// OptInt32 reads a number, def if it is absent.
func (d *FieldReader) OptInt32(name string, def int32) int32 {
	return int32(d.number(name, int64(def), false, math.MinInt32, math.MaxInt32))
}

// Int64 reads a required number.
func (d *FieldReader) Int64(name string) int64 {
	return d.number(name, 0, true, math.MinInt64, math.MaxInt64)
}

// OptInt64 reads a number, def if it is absent.
func (d *FieldReader) OptInt64(name string, def int64) int64 {
	return d.number(name, def, false, math.MinInt64, math.MaxInt64)
}

func (d *FieldReader) number(name string, def int64, required bool, least, most int64) int64 {
	v := d.fields.Get(name)
	if v == "" {
		if required {
			d.missing(name)
		}
		return def
	}
	n, ok := parseInt(v)
	if !ok || n < least || n > most {
		d.bad(name, v)
		return def
	}
	return n
}

// Bool reads a required truth value.
func (d *FieldReader) Bool(name string) bool { return d.truth(name, false, true) }

// OptBool reads a truth value, def if it is absent.
func (d *FieldReader) OptBool(name string, def bool) bool { return d.truth(name, def, false) }

func (d *FieldReader) truth(name string, def, required bool) bool {
	v := d.fields.Get(name)
	if v == "" {
		if required {
			d.missing(name)
		}
		return def
	}
	b, ok := parseBool(v)
	if !ok {
		d.bad(name, v)
		return def
	}
	return b
}

// parseBool knows the two words in any case, as Java does.
func parseBool(v string) (truth, ok bool) {
	switch {
	case v == "true" || strings.EqualFold(v, "true"):
		return true, true
	case v == "false" || strings.EqualFold(v, "false"):
		return false, true
	}
	return false, false
}
