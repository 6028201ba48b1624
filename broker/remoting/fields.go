package remoting

import (
	"slices"
	"strconv"
)

// Field is one of the named values in a header, an "ext field" in RocketMQ's
// words. All values are text on the wire.
type Field struct{ Name, Value string }

// Fields are the fields of a command in the order of the wire. If a name
// occurs more than once the last one counts.
type Fields []Field

// Lookup answers the value of name and whether there is one.
func (f Fields) Lookup(name string) (string, bool) {
	for i := len(f) - 1; i >= 0; i-- {
		if f[i].Name == name {
			return f[i].Value, true
		}
	}
	return "", false
}

// Get answers the value of name, "" if there is none.
func (f Fields) Get(name string) string {
	v, _ := f.Lookup(name)
	return v
}

// Add appends a field, without a look at the other ones.
func (f *Fields) Add(name, value string) { *f = append(*f, Field{name, value}) }

// AddInt appends a field with a decimal number.
func (f *Fields) AddInt(name string, v int64) { f.Add(name, strconv.FormatInt(v, 10)) }

// AddBool appends a field with "true" or "false".
func (f *Fields) AddBool(name string, v bool) { f.Add(name, strconv.FormatBool(v)) }

// Set gives name the one value, in the place of the first field of that name
// or behind all others.
func (f *Fields) Set(name, value string) {
	i := slices.IndexFunc(*f, func(x Field) bool { return x.Name == name })
	if i < 0 {
		f.Add(name, value)
		return
	}
	(*f)[i].Value = value
	*f = append((*f)[:i+1], slices.DeleteFunc((*f)[i+1:], func(x Field) bool { return x.Name == name })...)
}

// Delete removes every field of that name.
func (f *Fields) Delete(name string) {
	*f = slices.DeleteFunc(*f, func(x Field) bool { return x.Name == name })
}
