package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Parse reads the JSON of Apache's servers: bare numbers and objects may be keys.
// An object used as a key becomes its members' values in the order of their
// names, joined by "/"; a number becomes its digits.
func Parse(text []byte) (any, error) {
	p := &parser{text: string(text)}
	v, err := p.value(0)
	if err != nil {
		return nil, fmt.Errorf("parse JSON at byte %d: %w", p.at, err)
	}
	if p.space(); p.at != len(p.text) {
		return nil, fmt.Errorf("parse JSON at byte %d: something follows the value", p.at)
	}
	return v, nil
}

type parser struct {
	text string
	at   int
}

var errSyntax = errors.New("unexpected text")

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) take(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) value(depth int) (any, error) {
	if depth > 32 {
		return nil, errors.New("too deep")
	}
	switch {
	case p.take('{'):
		return p.object(depth)
	case p.take('['):
		list := []any{}
		for !p.take(']') {
			v, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
			p.take(',')
		}
		return list, nil
	}
	return p.scalar()
}

func (p *parser) object(depth int) (any, error) {
	members := map[string]any{}
	for !p.take('}') {
		key, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.take(':') {
			return nil, errSyntax
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		members[keyName(key)] = v
		p.take(',')
	}
	return members, nil
}

func keyName(key any) string {
	m, ok := key.(map[string]any)
	if !ok {
		return fmt.Sprint(key)
	}
	var parts []string
	for _, name := range Keys(m) {
		parts = append(parts, fmt.Sprint(m[name]))
	}
	return strings.Join(parts, "/")
}

func (p *parser) scalar() (any, error) {
	p.space()
	from := p.at
	if p.at < len(p.text) && p.text[p.at] == '"' {
		for p.at++; p.at < len(p.text) && p.text[p.at] != '"'; p.at++ {
			if p.text[p.at] == '\\' {
				p.at++
			}
		}
		if p.at++; p.at > len(p.text) {
			return nil, errSyntax
		}
		var s string
		if err := json.Unmarshal([]byte(p.text[from:p.at]), &s); err != nil {
			return nil, err
		}
		return s, nil
	}
	for p.at < len(p.text) && strings.IndexByte(",:]} \t\r\n", p.text[p.at]) < 0 {
		p.at++
	}
	word := p.text[from:p.at]
	switch word {
	case "true", "false":
		return word == "true", nil
	case "null":
		return nil, nil
	}
	if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return nil, errSyntax
	}
	return f, nil
}
