package server

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
)

// documented are the codes of docs/compatibility.md with their states.
func documented(t *testing.T) map[int]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	states := map[int]string{}
	row := regexp.MustCompile(`^\| (\d+) \| ([A-Z0-9_]+) \| ([^|]+) \|`)
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		code, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if name := remoting.RequestName(code); name != m[2] {
			t.Errorf("code %d is documented as %s, it is %s", code, m[2], name)
		}
		if states[code] != "" {
			t.Errorf("code %d is documented twice", code)
		}
		states[code] = m[3]
	}
	return states
}

// The documentation says of each code what is true.
func TestCompatibility_RequestCodes(t *testing.T) {
	t.Parallel()
	states := documented(t)
	table := map[int]bool{}
	for _, h := range handlers() {
		table[h.code] = true
		if states[h.code] == "" {
			t.Errorf("code %d is served and not documented", h.code)
		}
	}
	b := serveOn(t, Config{})
	p := b.dial(t)
	refused := regexp.MustCompile(`^refused \((\d+)\)$`)
	for code, state := range states {
		m := refused.FindStringSubmatch(state)
		switch {
		case m != nil:
			if a := p.ask(request(code)); strconv.Itoa(a.Code) != m[1] || a.Remark == "" {
				t.Errorf("code %d: answered with %d %q, documented as %s", code, a.Code, a.Remark, state)
			}
		case state == "served":
			if !table[code] {
				t.Errorf("code %d is documented as served, and is not", code)
			}
			if a := p.ask(request(code)); a.Code == remoting.ResUnsupported {
				t.Errorf("code %d is documented as served, and answered with 3", code)
			}
		case state == "not yet", state == "sent to clients", state == "not sent":
			if table[code] {
				t.Errorf("code %d is served, and documented as %q", code, state)
			}
			if a := p.ask(request(code)); a.Code != remoting.ResUnsupported || a.Remark != fmt.Sprintf(" request type %d not supported", code) {
				t.Errorf("code %d: answered with %d %q", code, a.Code, a.Remark)
			}
		default:
			t.Errorf("code %d: unknown state %q", code, state)
		}
	}
}

// An empty request never makes a handler panic, close the connection, or stay
// without an answer.
func TestHandlers_EmptyRequests(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	for _, h := range handlers() {
		p.ask(request(h.code))
		bad := request(h.code)
		bad.Body = []byte(`[{"a":`)
		for _, name := range []string{"topic", "group", "consumerGroup", "queueId", "timestamp", "isForce", "index", "count", "offset", "perm", "msgId"} {
			bad.Fields.Add(name, "\x00\x01../..\xff%n")
		}
		p.ask(bad)
	}
	if n := b.Stats().Panics; n != 0 {
		t.Errorf("%d handlers panicked", n)
	}
}
