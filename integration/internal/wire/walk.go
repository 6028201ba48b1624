package wire

import (
	"fmt"
	"maps"
	"slices"
)

// Keys are the sorted names of an object's members.
func Keys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// Leaves calls f for every scalar of a parsed value with its path, names joined
// by dots; the items of a list have their index for a name. An empty object or
// list is a leaf too.
func Leaves(v any, f func(path, value string)) { leaves(v, "", f) }

func leaves(v any, path string, f func(path, value string)) {
	under := func(name string) string {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range Keys(v) {
			leaves(v[name], under(name), f)
		}
		if len(v) == 0 {
			f(path, "{}")
		}
	case []any:
		for i, item := range v {
			leaves(item, under(fmt.Sprint(i)), f)
		}
		if len(v) == 0 {
			f(path, "[]")
		}
	case nil:
		f(path, "null")
	default:
		f(path, fmt.Sprint(v))
	}
}
