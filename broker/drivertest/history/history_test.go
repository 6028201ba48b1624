package history_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/drivertest/history"
)

func val(n int) history.Value { return history.Value{Process: "p", Counter: n} }

func TestBody(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 10, 100, 5000} {
		body := history.Body(val(size), size)
		if len(body) < min(size, 30) {
			t.Errorf("size %d: body has %d bytes", size, len(body))
		}
		if got, err := history.Parse(body); err != nil || got != val(size) {
			t.Errorf("size %d: got %v, %v", size, got, err)
		}
	}
	for i := range history.Body(val(7), 64) {
		body := history.Body(val(7), 64)
		body[i] ^= 0x40
		if got, err := history.Parse(body); err == nil {
			t.Errorf("byte %d flipped: parsed as %v", i, got)
		}
	}
}

// script is a run in a few words: s1 send ok, u1 unknown, f1 failed, i1 invoke
// only, d1 deliver and ack, D1 deliver and leave open, a1 deliver and give
// back, ! a fault.
func script(text string) *history.History {
	h := &history.History{}
	offset := int64(0)
	for word := range strings.FieldsSeq(text) {
		var n int
		_, _ = fmt.Sscan(word[1:], &n)
		v := val(n)
		deliver := func(e history.Ending) {
			offset++
			d := h.Deliver("g", history.Body(v, 64), "lane", offset)
			if e != history.Open {
				h.Settle(d, e)
			}
		}
		switch word[0] {
		case 's':
			h.Invoke(v, "key")
			h.Answer(v, history.OK)
		case 'u':
			h.Invoke(v, "key")
			h.Answer(v, history.Unknown)
		case 'f':
			h.Invoke(v, "key")
			h.Answer(v, history.Failed)
		case 'd':
			deliver(history.Acked)
		case 'D':
			deliver(history.Open)
		case 'a':
			deliver(history.Again)
		case '!':
			h.Fault("crash")
		}
	}
	return h
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, run, want string }{
		{"all well", "s1 s2 d1 d2", ""},
		{"lost", "s1 s2 d1", "1 × lost: p/2"},
		{"nothing received by nobody", "s1", ""},
		{"unknown may be absent", "s1 u2 d1", ""},
		{"unknown may be there", "s1 u2 d1 d2", ""},
		{"unknown and then sent again", "u1 s1 d1 d1", ""},
		{"sent again once, delivered thrice", "u1 s1 d1 d1 d1", "1 × duplicate"},
		{"failed, then sent again", "f1 s1 d1 d1", "1 × duplicate"},
		{"unknown, then failed: still unknown", "u1 f1 s2 d1 d2", ""},
		{"refused and delivered", "f1 d1", "1 × phantom: p/1"},
		{"never sent", "s1 d1 d9", "1 × phantom: p/9"},
		{"duplicate after ack", "s1 d1 d1", "1 × duplicate: p/1"},
		{"duplicate after a fault", "s1 d1 ! d1", ""},
		{"duplicate after a give-back", "s1 a1 d1", ""},
		{"duplicate of an open one", "s1 D1 d1", ""},
		{"out of order", "s1 s2 s3 d2 d1 d3", "1 × out of order: p/2 came before p/1"},
		{"redelivery is no disorder", "s1 s2 a1 d2 d1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := script(c.run).Check(history.Rules{}).Err()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("run %q: got %v, want %q", c.run, err, c.want)
			}
		})
	}
}

func TestCheck_Rules(t *testing.T) {
	t.Parallel()
	if err := script("s1").Check(history.Rules{Groups: []string{"g"}}).Err(); err == nil {
		t.Error("a named group received nothing: got no error")
	}
	if err := script("s1 s2 d2").Check(history.Rules{Incomplete: true}).Err(); err != nil {
		t.Errorf("incomplete run: %v", err)
	}
	if err := script("s1 s2 d2 d1").Check(history.Rules{Unordered: true}).Err(); err != nil {
		t.Errorf("unordered run: %v", err)
	}
}

func TestCheck_Places(t *testing.T) {
	t.Parallel()
	h := script("s1 s2")
	h.Deliver("g", history.Body(val(1), 0), "lane", 7)
	h.Deliver("g", history.Body(val(2), 0), "lane", 7)
	if v := h.Check(history.Rules{}); len(v.Places) != 1 {
		t.Errorf("one place, two values: got %+v", v)
	}
}

func TestCheck_Damaged(t *testing.T) {
	t.Parallel()
	h := script("s1 d1")
	h.Deliver("g", []byte("p 1 00000000\n"), "lane", 9)
	if v := h.Check(history.Rules{}); len(v.Phantom) != 1 || !strings.Contains(v.Phantom[0], "damaged") {
		t.Errorf("damaged body: got %+v", v)
	}
}

func Example() {
	h := &history.History{}
	for i := range 3 {
		v := history.Value{Process: "till", Counter: i}
		h.Invoke(v, "customer-7")
		h.Answer(v, history.OK)
	}
	for _, i := range []int{0, 2, 1, 1} {
		d := h.Deliver("red-packet", history.Body(history.Value{Process: "till", Counter: i}, 64), "bills/0", int64(i))
		h.Settle(d, history.Acked)
	}
	fmt.Println(h.Check(history.Rules{}).Err())
	// Output:
	// 1 × duplicate: till/1 in group red-packet at bills/0/1 came again after it was acknowledged
	// 1 × out of order: till/2 came before till/1 in group red-packet
}
