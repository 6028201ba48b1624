package driver

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/integration/internal/child"
)

// Driver is a running program.
type Driver struct {
	process *child.Child

	mu      sync.Mutex
	next    int
	waiting map[int]chan Line
	streams map[string]*Stream
	stray   []string // lines nobody waited for
}

// Line is one JSON line of the program.
type Line map[string]any

// Text is a field as text; empty if it is absent or null.
func (l Line) Text(name string) string {
	switch v := l[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}

// Int is a field as a number; -1 if it is not one.
func (l Line) Int(name string) int64 {
	if n, ok := l[name].(json.Number); ok {
		if i, err := n.Int64(); err == nil {
			return i
		}
	}
	return -1
}

// Map is a field that is an object of texts.
func (l Line) Map(name string) map[string]string {
	m := map[string]string{}
	if o, ok := l[name].(map[string]any); ok {
		for k := range o {
			m[k] = Line(o).Text(k)
		}
	}
	return m
}

// List is a field that is a list of objects.
func (l Line) List(name string) []Line {
	var all []Line
	items, _ := l[name].([]any)
	for _, i := range items {
		if o, ok := i.(map[string]any); ok {
			all = append(all, o)
		}
	}
	return all
}

// Texts is a field that is a list of texts.
func (l Line) Texts(name string) []string {
	var all []string
	items, _ := l[name].([]any)
	for _, i := range items {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// Start starts a program and waits until it says that it is ready.
func Start(c child.Command, patience time.Duration) (*Driver, error) {
	d := &Driver{waiting: map[int]chan Line{}, streams: map[string]*Stream{}}
	ready := make(chan struct{})
	var once sync.Once
	c.Line = func(text string) {
		if l := d.read(text); l.Text("event") == "ready" {
			once.Do(func() { close(ready) })
		}
	}
	var err error
	if d.process, err = child.Start(c); err != nil {
		return nil, err
	}
	select {
	case <-ready:
		return d, nil
	case <-d.process.Ended():
		return nil, fmt.Errorf("start a driver: it ended: %s", d.process.Tail())
	case <-time.After(patience):
		d.process.Kill()
		return nil, fmt.Errorf("start a driver: not ready within %v: %s", patience, d.process.Tail())
	}
}

// read takes one line of output to whom it belongs.
func (d *Driver) read(text string) Line {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var l Line
	if err := dec.Decode(&l); err != nil {
		d.mu.Lock()
		d.stray = append(d.stray, text)
		d.mu.Unlock()
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.Text("event") != "" {
		d.stream(l.Text("on")).add(l)
		return l
	}
	id := int(l.Int("id"))
	if w := d.waiting[id]; w != nil {
		delete(d.waiting, id)
		w <- l
	}
	return l
}

// Failure is the error that a client gave to its application.
type Failure struct {
	Verb, Text string
	Code       int // the server's response code, if it is known
}

func (f *Failure) Error() string { return f.Verb + ": " + f.Text }

// Do sends a command and waits for its answer. Arguments are name, value,
// name, value. The error is a *Failure if the client gave one.
func (d *Driver) Do(patience time.Duration, verb string, arguments ...string) (Line, error) {
	answer := make(chan Line, 1)
	d.mu.Lock()
	d.next++
	id := d.next
	d.waiting[id] = answer
	var b strings.Builder
	fmt.Fprintf(&b, "%s id=%d", verb, id)
	for i := 0; i+1 < len(arguments); i += 2 {
		fmt.Fprintf(&b, " %s=%s", arguments[i], url.QueryEscape(arguments[i+1]))
	}
	b.WriteByte('\n')
	_, err := d.process.In.Write([]byte(b.String()))
	d.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%s: tell the driver: %w", verb, err)
	}
	select {
	case l := <-answer:
		if l.Text("error") != "" {
			return l, &Failure{Verb: verb, Text: l.Text("error"), Code: int(max(l.Int("code"), 0))}
		}
		return l, nil
	case <-d.process.Ended():
		return nil, fmt.Errorf("%s: the driver ended: %s", verb, d.process.Tail())
	case <-time.After(patience):
		return nil, fmt.Errorf("%s %v: no answer within %v", verb, arguments, patience)
	}
}

// Stream is the events of a handle.
func (d *Driver) Stream(handle string) *Stream {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stream(handle)
}

func (d *Driver) stream(handle string) *Stream {
	s := d.streams[handle]
	if s == nil {
		s = &Stream{changed: make(chan struct{})}
		d.streams[handle] = s
	}
	return s
}

// Kill ends the program at once.
func (d *Driver) Kill() { d.process.Kill() }

// Tail is what the program said last.
func (d *Driver) Tail() string { return d.process.Tail() }

// Stream is what one client told, in the order it told it.
type Stream struct {
	mu      sync.Mutex
	lines   []Line
	changed chan struct{} // closed and replaced at every new line
}

func (s *Stream) add(l Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, l)
	close(s.changed)
	s.changed = make(chan struct{})
}

// Lines are the events of one name so far.
func (s *Stream) Lines(event string) []Line {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.named(event)
}

func (s *Stream) named(event string) []Line {
	var all []Line
	for _, l := range s.lines {
		if l.Text("event") == event {
			all = append(all, l)
		}
	}
	return all
}

// Until waits until enough says so about the events of one name. It returns them
// in any case, and whether there were enough.
func (s *Stream) Until(event string, patience time.Duration, enough func([]Line) bool) ([]Line, bool) {
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		all, changed := s.named(event), s.changed
		s.mu.Unlock()
		if enough(all) {
			return all, true
		}
		select {
		case <-changed:
		case <-deadline:
			return all, false
		}
	}
}

// Wait waits for at least n events of one name.
func (s *Stream) Wait(event string, n int, patience time.Duration) ([]Line, bool) {
	return s.Until(event, patience, func(all []Line) bool { return len(all) >= n })
}
