package remoting

import (
	"strconv"
	"unicode/utf8"
)

// decodeJSONHeader reads the header in one pass, without a map: it is on the
// path of every request.
func decodeJSONHeader(header []byte, c *Command, l Limits) error {
	c.Language = LanguageOther
	s := scanner{s: textOf(header), depth: maxDepth}
	if s.peek() != '{' {
		s.fail("no {")
	}
	for ok := s.enter('{'); ok && s.more('}'); {
		switch s.name() {
		case "code":
			c.Code = int(s.int32())
		case "extFields":
			s.fields(c, l)
		case "flag":
			c.Flag = s.int32()
		case "language":
			name, ok := s.scalar()
			c.Language = LanguageOther
			if ok {
				c.Language = ParseLanguage(name)
			}
		case "opaque":
			c.Opaque = s.int32()
		case "remark":
			c.Remark = s.text()
		case "version":
			c.Version = int(s.int32())
		default:
			s.skip()
		}
	}
	s.end()
	return s.err
}

// fields reads the object of fields. As in Java's maps a null is as good as no
// field, and takes an earlier one of that name with it.
func (s *scanner) fields(c *Command, l Limits) {
	c.Fields = c.Fields[:0]
	if !s.enter('{') {
		return
	}
	for n := 1; s.more('}'); n++ {
		name := s.name()
		value, ok := s.scalar()
		switch {
		case s.err != nil:
			return
		case n > l.Fields:
			s.fail("more than " + strconv.Itoa(l.Fields) + " fields")
		case len(name) > l.Name:
			s.fail("the name of a field has more than " + strconv.Itoa(l.Name) + " bytes")
		case ok:
			c.Fields = append(c.Fields, Field{name, value})
		default:
			c.Fields.Delete(name)
		}
	}
}

func appendJSONHeader(b []byte, c *Command) []byte {
	b = append(b, `{"code":`...)
	b = strconv.AppendInt(b, int64(c.Code), 10)
	if len(c.Fields) > 0 {
		b = append(b, `,"extFields":{`...)
		for i := range c.Fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendQuoted(b, c.Fields[i].Name)
			b = append(b, ':')
			b = appendQuoted(b, c.Fields[i].Value)
		}
		b = append(b, '}')
	}
	b = append(b, `,"flag":`...)
	b = strconv.AppendInt(b, int64(c.Flag), 10)
	b = append(b, `,"language":"`...)
	b = append(b, c.Language.String()...)
	b = append(b, `","opaque":`...)
	b = strconv.AppendInt(b, int64(c.Opaque), 10)
	if c.Remark != "" {
		b = append(b, `,"remark":`...)
		b = appendQuoted(b, c.Remark)
	}
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, int64(c.Version), 10)
	return append(b, '}')
}

// plain holds the bytes that stand for themselves in quotes. Those of 0x80 and
// above are looked at as characters.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendQuoted appends s in quotes. Control characters are escaped, everything
// else is raw UTF-8 as Apache's peers write it.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(b, s[from:i]...)
				b = append(b, "\uFFFD"...)
				from = i + 1
			}
			i += n
			continue
		}
		b = append(b, s[from:i]...)
		b = appendEscape(b, c)
		i++
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

func appendEscape(b []byte, c byte) []byte {
	const digits = "0123456789ABCDEF"
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
}
