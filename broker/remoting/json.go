package remoting

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
)

// bodyDepth is how many levels a body may have. The deepest of the protocol
// has seven.
const bodyDepth = 32

// decodeBody reads one body; read begins with the zero value.
func decodeBody[X any](what string, b []byte, read func(*scanner, *X)) (X, error) {
	var x, none X
	s := scanner{s: textOf(b), depth: bodyDepth}
	// What the lists may take besides the text. The shortest elements of the
	// protocol take four times their length; a body of a million empty objects
	// gets no further than this.
	s.left = 32<<10 + 6*len(b) - len(s.s)
	read(&s, &x)
	s.end()
	if s.err != nil {
		return none, fmt.Errorf("decode %s: %w", what, s.err)
	}
	return x, nil
}

// appendTo appends v, the element that was just read, to the list, unless that
// takes more memory than a body of this length may. The first append looks ahead
// how many will follow: lists fit, and a legitimate one passes whose elements
// are as short as they can be.
func appendTo[X any](s *scanner, list *[]X, v X) {
	if s.err != nil {
		return
	}
	if n := cap(*list); len(*list) == n {
		more := n
		if n == 0 {
			more = 1 + s.follow()
		}
		s.left -= (n + more) * int(reflect.TypeFor[X]().Size())
		if s.left < 0 {
			s.fail("too many elements for the length of the body")
			return
		}
		room := make([]X, n, n+more)
		copy(room, *list)
		*list = room
	}
	*list = append(*list, v)
}

// follow counts the elements behind the one that was just read, and stays
// where it is.
func (s *scanner) follow() int {
	i, depth, fresh := s.i, s.depth, s.fresh
	n := 0
	for s.peek() == ',' {
		s.i++
		if c := s.peek(); c == ']' || c == '}' {
			break
		}
		s.skip()
		if s.peek() == ':' {
			s.i++
			s.skip()
		}
		n++
	}
	s.i, s.depth, s.fresh, s.err = i, depth, fresh, nil // an error is found again
	return n
}

// list reads an array of objects.
func list[X any](s *scanner, read func(*scanner, *X)) []X {
	var out []X
	var x *X
	for range s.elements() {
		if x == nil {
			x = new(X)
			s.left -= int(reflect.TypeFor[X]().Size())
		} else {
			*x = *new(X)
		}
		read(s, x)
		appendTo(s, &out, *x)
	}
	return out
}

// texts reads an array of texts.
func (s *scanner) texts() []string {
	return list(s, func(s *scanner, x *string) { *x = s.text() })
}

// table reads an object whose values are texts.
func (s *scanner) table() Fields {
	var out []Field
	for name := range s.members() {
		if v, ok := s.scalar(); ok {
			appendTo(s, &out, Field{name, v})
		}
	}
	return out
}

// enum reads a name, or the ordinal of one.
func (s *scanner) enum(names ...string) string {
	v := s.text()
	if n, ok := parseInt(v); ok {
		if n < 0 || n >= int64(len(names)) {
			s.fail("no such ordinal")
			return ""
		}
		return names[n]
	}
	return v
}

// flag reads a truth value, or a number that is not 0.
func (s *scanner) flag() bool {
	v, ok := s.scalar()
	if !ok || v == "0" || v == "" {
		return false
	}
	b, ok := parseBool(v)
	if !ok && v != "1" {
		s.fail("no truth value")
	}
	return b || !ok
}

func (s *scanner) float() float64 {
	v, ok := s.scalar()
	if !ok || v == "NaN" {
		return 0
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil {
		s.fail("no number")
		return 0
	}
	return f
}

// ordinal reads a name that must be an integer between 0 and most.
func (s *scanner) ordinal(name string, most int64) int64 {
	n, ok := parseInt(name)
	if !ok || n < 0 || n > most {
		s.fail("no number as a name")
	}
	return n
}

// MessageQueue names a queue.
type MessageQueue struct {
	Topic  string
	Broker string
	Queue  int
}

// CompareQueues orders queues by topic, broker and number, as clients do
// before they share them.
func CompareQueues(a, b MessageQueue) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.Queue, b.Queue))
}

func (s *scanner) queue(q *MessageQueue) {
	for name := range s.members() {
		if !s.queueMember(name, q) {
			s.skip()
		}
	}
}

// queueMember reads a member if it is one of a queue.
func (s *scanner) queueMember(name string, q *MessageQueue) bool {
	switch name {
	case "brokerName":
		q.Broker = s.text()
	case "queueId":
		q.Queue = int(s.int32())
	case "topic":
		q.Topic = s.text()
	default:
		return false
	}
	return true
}

// queueName reads the name of a member that is a queue: an object, or a text
// that holds one.
func (s *scanner) queueName(name string) MessageQueue {
	var q MessageQueue
	in := scanner{s: name, depth: maxDepth}
	if in.peek() != '{' {
		in.fail("no {")
	}
	in.queue(&q)
	in.end()
	if in.err != nil {
		s.fail("no message queue as a name")
	}
	return q
}

// writer appends JSON as Apache's peers write it. The caller opens, writes the
// members in the order of their names, and closes.
type writer struct{ b []byte }

func (w *writer) open(c byte)  { w.b = append(w.b, c) }
func (w *writer) close(c byte) { w.b = append(w.b, c) }

// next puts a comma behind the element before, if there is one.
func (w *writer) next() {
	if c := w.b[len(w.b)-1]; c != '{' && c != '[' {
		w.b = append(w.b, ',')
	}
}

func (w *writer) name(name string) {
	w.next()
	w.b = appendQuoted(w.b, name)
	w.b = append(w.b, ':')
}

// bare writes a number as a name, which is not JSON but what Apache's peers do.
func (w *writer) bare(n int64) {
	w.next()
	w.b = strconv.AppendInt(w.b, n, 10)
	w.b = append(w.b, ':')
}

func (w *writer) text(name, v string) {
	w.name(name)
	w.b = appendQuoted(w.b, v)
}

// optText writes no member for an empty text.
func (w *writer) optText(name, v string) {
	if v != "" {
		w.text(name, v)
	}
}

func (w *writer) int(name string, v int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, v, 10)
}

func (w *writer) bool(name string, v bool) {
	w.name(name)
	w.b = strconv.AppendBool(w.b, v)
}

// float writes a point always, as Java does.
func (w *writer) float(name string, v float64) {
	w.name(name)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	start := len(w.b)
	w.b = strconv.AppendFloat(w.b, v, 'f', -1, 64)
	if !slices.Contains(w.b[start:], '.') {
		w.b = append(w.b, ".0"...)
	}
}

func (w *writer) texts(name string, list []string) {
	w.name(name)
	w.open('[')
	for _, v := range list {
		w.next()
		w.b = appendQuoted(w.b, v)
	}
	w.close(']')
}

func (w *writer) table(name string, f Fields) {
	w.name(name)
	w.open('{')
	for _, x := range f {
		w.text(x.Name, x.Value)
	}
	w.close('}')
}

// array writes a member with an array, of which each writes one element.
func array[X any](w *writer, name string, list []X, each func(w *writer, x *X)) {
	w.name(name)
	w.open('[')
	for i := range list {
		w.next()
		each(w, &list[i])
	}
	w.close(']')
}

// queue writes a queue as a value, or as a name behind which a colon is due.
func (w *writer) queue(q MessageQueue) {
	w.open('{')
	w.text("brokerName", q.Broker)
	w.int("queueId", int64(q.Queue))
	w.text("topic", q.Topic)
	w.close('}')
}

// queueName writes a queue as the name of a member, as an object, which is not
// JSON but what Apache's peers do.
func (w *writer) queueName(q MessageQueue) {
	w.next()
	w.queue(q)
	w.b = append(w.b, ':')
}

func writeQueue(w *writer, q *MessageQueue) { w.queue(*q) }
