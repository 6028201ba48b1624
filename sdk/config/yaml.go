package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds what aliases may blow a file up to.
const maxNodes = 100_000

// flatten turns a YAML document into dotted keys. Scalars keep the spelling of
// the file. A list of plain scalars becomes one comma separated value, any
// other list gets one key per element: key.0, key.1.
func flatten(path string, data []byte) (map[string]entry, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return map[string]entry{}, nil
	case err != nil:
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("configuration file %s holds more than one YAML document; one is allowed", path)
	}
	f := flattener{path: path, out: map[string]entry{}}
	if len(doc.Content) == 0 {
		return f.out, nil
	}
	root := resolve(doc.Content[0])
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return f.out, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("configuration file %s: the top level must be a map of keys", path)
	}
	if err := f.walk("", root); err != nil {
		return nil, err
	}
	return f.out, nil
}

type flattener struct {
	path  string
	out   map[string]entry
	nodes int
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func (f *flattener) errorf(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", f.path, n.Line, fmt.Sprintf(format, args...))
}

func (f *flattener) walk(key string, n *yaml.Node) error {
	if f.nodes++; f.nodes > maxNodes {
		return f.errorf(n, "more than %d values; aliases multiply them", maxNodes)
	}
	n = resolve(n)
	switch n.Kind {
	case yaml.MappingNode:
		return f.mapping(key, n)
	case yaml.SequenceNode:
		return f.sequence(key, n)
	default:
		return f.set(key, n)
	}
}

func (f *flattener) set(key string, n *yaml.Node) error {
	text := n.Value
	if n.Tag == "!!null" {
		text = ""
	}
	if old, twice := f.out[key]; twice {
		return f.errorf(n, "key %s is set twice, first at %s", key, old.where)
	}
	f.out[key] = entry{text: text, where: f.path + ":" + strconv.Itoa(n.Line)}
	return nil
}

func (f *flattener) mapping(key string, n *yaml.Node) error {
	own := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Tag == "!!merge" {
			continue
		}
		name := resolve(k)
		if name.Kind != yaml.ScalarNode || name.Value == "" {
			return f.errorf(k, "a key must be a plain word")
		}
		full := join(key, name.Value)
		own[full] = true
		if err := f.walk(full, v); err != nil {
			return err
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		if err := f.merge(key, n.Content[i+1], own); err != nil {
			return err
		}
	}
	return nil
}

// merge applies "<<": what the map itself says wins.
func (f *flattener) merge(key string, n *yaml.Node, own map[string]bool) error {
	n = resolve(n)
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	for _, m := range list {
		m = resolve(m)
		if m.Kind != yaml.MappingNode {
			return f.errorf(m, "<< takes a map or a list of maps")
		}
		sub := flattener{path: f.path, out: map[string]entry{}, nodes: f.nodes}
		if err := sub.mapping(key, m); err != nil {
			return err
		}
		f.nodes = sub.nodes
		for k, e := range sub.out {
			if _, set := f.out[k]; !set && !own[k] {
				f.out[k] = e
			}
		}
	}
	return nil
}

func (f *flattener) sequence(key string, n *yaml.Node) error {
	words := make([]string, 0, len(n.Content))
	for _, c := range n.Content {
		c = resolve(c)
		if c.Kind != yaml.ScalarNode || strings.Contains(c.Value, ",") {
			return f.elements(key, n)
		}
		words = append(words, c.Value)
	}
	return f.set(key, &yaml.Node{Value: strings.Join(words, ","), Line: n.Line})
}

func (f *flattener) elements(key string, n *yaml.Node) error {
	for i, c := range n.Content {
		if err := f.walk(join(key, strconv.Itoa(i)), c); err != nil {
			return err
		}
	}
	return nil
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}
