package raw

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// header is what the fake server reads of a request.
type header struct {
	Code      int
	Opaque    int64
	ExtFields map[string]string
}

// fake is a server that keeps messages by their number and gives them back.
type fake struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu       sync.Mutex
	stored   map[string]int // by queue
	repeated int
	refuse   bool
	topics   map[string]bool
}

func newFake(t *testing.T) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: l, stored: map[string]int{}, topics: map[string]bool{}}
	f.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.serving.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.serving.Wait()
	})
	return f
}

func (f *fake) addr() string { return f.listener.Addr().String() }

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	numbers := map[int64]bool{}
	for {
		var length [4]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		content := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(c, content); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(content)
		var h header
		if err := json.Unmarshal(content[4:4+size], &h); err != nil {
			return
		}
		if h.Code == remoting.ReqSendMessageV2 && numbers[h.Opaque] {
			f.mu.Lock()
			f.repeated++
			f.mu.Unlock()
		}
		numbers[h.Opaque] = true
		code, ext, body := f.answer(h, content[4+size:])
		head := fmt.Sprintf(`{"code":%d,"extFields":{%s},"flag":1,"opaque":%d}`, code, ext, h.Opaque)
		out := binary.BigEndian.AppendUint32(nil, uint32(4+len(head)+len(body)))
		out = binary.BigEndian.AppendUint32(out, uint32(len(head)))
		if _, err := c.Write(append(append(out, head...), body...)); err != nil {
			return
		}
	}
}

func (f *fake) answer(h header, body []byte) (code int, ext string, answer []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse {
		return 1, "", nil
	}
	switch h.Code {
	case remoting.ReqSendMessageV2:
		if len(body) != measure.BodySize || h.ExtFields["i"] != "" {
			return 13, "", nil
		}
		f.stored[h.ExtFields["b"]+"/"+h.ExtFields["e"]]++
	case remoting.ReqGetMaxOffset:
		return 0, fmt.Sprintf(`"offset":"%d"`, f.stored[h.ExtFields["topic"]+"/"+h.ExtFields["queueId"]]), nil
	case remoting.ReqCreateTopic:
		f.topics[h.ExtFields["topic"]] = true
	case remoting.ReqGetRoute:
		if !f.topics[h.ExtFields["topic"]] {
			return 17, "", nil
		}
		return 0, "", []byte(`{"brokerDatas":[{"brokerAddrs":{0:"` + f.addr() + `"}}]}`)
	case remoting.ReqPullMessage:
		var offset int
		fmt.Sscan(strings.TrimLeft(h.ExtFields["queueOffset"], "0")+" ", &offset)
		left := f.stored[h.ExtFields["topic"]+"/"+h.ExtFields["queueId"]] - offset
		if left <= 0 {
			return 19, "", nil
		}
		one := append(binary.BigEndian.AppendUint32(nil, 3000), make([]byte, 2996)...)
		for range min(left, Batch) {
			answer = append(answer, one...)
		}
		return 0, "", answer
	}
	return 0, "", nil
}

func TestPublishers(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(addr string) (measure.Publisher, error){
		"wait":   func(addr string) (measure.Publisher, error) { return NewWait(addr, "t", 10) },
		"shared": func(addr string) (measure.Publisher, error) { return NewShared(addr, "t", 10) },
		"window": func(addr string) (measure.Publisher, error) { return NewWindow(addr, "t", 10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			p, err := open(f.addr())
			if err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			sent := 0
			_, err = measure.Share(200, 10, func(w, _ int) error {
				n, err := p.Publish(w)
				mu.Lock()
				defer mu.Unlock()
				sent += n
				return err
			})
			if err != nil || sent < 200 {
				t.Errorf("%d messages, %v", sent, err)
			}
			if err := p.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			stored, err := Stored(f.addr(), "t")
			if err != nil || stored < int64(sent) || stored > int64(sent)+10*Depth {
				t.Errorf("%d messages are stored of %d, %v", stored, sent, err)
			}
			if f.repeated > 0 {
				t.Errorf("%d requests had the number of another on their connection", f.repeated)
			}
			if err := AwaitStored(f.addr(), "t", stored); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPublishers_Refused(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	wait, err := NewWait(f.addr(), "t", 1)
	if err != nil {
		t.Fatal(err)
	}
	window, err := NewWindow(f.addr(), "t", 1)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := NewShared(f.addr(), "t", 1)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.refuse = true
	f.mu.Unlock()
	if _, err := NewWait(f.addr(), "t", 1); err == nil {
		t.Error("a connection whose first request was refused counts")
	}
	for _, p := range []measure.Publisher{wait, shared, window} {
		if _, err := p.Publish(0); err == nil || !strings.Contains(err.Error(), "code 1") {
			t.Errorf("%T: %v", p, err)
		}
	}
	if err := errors.Join(wait.Close(), shared.Close()); err != nil {
		t.Error(err)
	}
	if _, err := shared.Publish(0); err == nil {
		t.Error("a connection that has ended serves a call")
	}
	if err := window.Close(); err == nil {
		t.Error("what was refused at the end is not told")
	}
	if err := First(f.addr(), "t"); err == nil {
		t.Error("a first message that was refused counts")
	}
	if _, err := Drain(f.addr(), "t"); err == nil {
		t.Error("pulls that were refused count")
	}
	if err := MakeTopic(f.addr(), "t"); err == nil {
		t.Error("a topic that was refused counts")
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for _, n := range []int{1003, 5} {
		topic := fmt.Sprint("t", n)
		if err := Fill(f.addr(), topic, n); err != nil {
			t.Fatal(err)
		}
		if stored, err := Stored(f.addr(), topic); err != nil || stored != int64(n) {
			t.Errorf("%d of %d messages are stored, %v", stored, n, err)
		}
		if got, err := Drain(f.addr(), topic); err != nil || got != n {
			t.Errorf("%d of %d messages were pulled, %v", got, n, err)
		}
	}
}

func TestTopic(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	if err := MakeTopic(f.addr(), "t"); err != nil {
		t.Fatal(err)
	}
	if err := AwaitRoute(f.addr(), "t", f.addr()); err != nil {
		t.Error(err)
	}
	if err := First(f.addr(), "t"); err != nil {
		t.Error(err)
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	r, err := newRequest(310, remoting.Fields{{Name: "a", Value: "g"}, {Name: "b"}}, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{firstNumber, firstNumber + 1, 2_147_483_647} {
		setNumber(r.frame, r.number, n)
		if got := binary.BigEndian.Uint32(r.frame); int(got) != len(r.frame)-4 {
			t.Errorf("length %d of a frame of %d", got, len(r.frame))
		}
		size := binary.BigEndian.Uint32(r.frame[4:])
		var h header
		if err := json.Unmarshal(r.frame[8:8+size], &h); err != nil {
			t.Fatal(err)
		}
		if h.Code != 310 || h.Opaque != int64(n) || h.ExtFields["a"] != "g" || string(r.frame[8+size:]) != "body" {
			t.Errorf("number %d: %+v", n, h)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	text := func(kind uint32, header, body string) []byte {
		b := binary.BigEndian.AppendUint32(nil, kind<<24|uint32(len(header)))
		return append(append(b, header...), body...)
	}
	for _, c := range []struct {
		name    string
		content []byte
		code    int
		body    string
		bad     bool
	}{
		{name: "json", content: text(0, `{"code":19,"flag":1}`, "b"), code: 19, body: "b"},
		{name: "json, code last", content: text(0, `{"flag":1,"code":0}`, ""), code: 0},
		{name: "binary", content: text(1, "\x00\x13rest", "b"), code: 19, body: "b"},
		{name: "no code", content: text(0, `{"flag":1}`, ""), bad: true},
		{name: "binary without a code", content: text(1, "\x00", ""), bad: true},
	} {
		a, err := parse(c.content)
		if (err != nil) != c.bad || a.code != c.code || (!c.bad && string(a.body) != c.body) {
			t.Errorf("%s: code %d, body %q, %v", c.name, a.code, a.body, err)
		}
	}
}

// TestConn_Next: answers come whole, however the bytes of several arrive.
func TestConn_Next(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	c := &conn{here, remoting.NewReader(here, remoting.Limits{})}
	defer here.Close()
	var stream []byte
	sizes := []int{0, 30, 1000, 3, 200}
	for i, n := range sizes {
		head := fmt.Sprintf(`{"code":%d}`, i)
		stream = binary.BigEndian.AppendUint32(stream, uint32(4+len(head)+n))
		stream = binary.BigEndian.AppendUint32(stream, uint32(len(head)))
		stream = append(append(stream, head...), make([]byte, n)...)
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		defer there.Close()
		for len(stream) > 0 {
			n := min(7, len(stream))
			if _, err := there.Write(stream[:n]); err != nil {
				return
			}
			stream = stream[n:]
		}
	})
	for i, n := range sizes {
		a, err := c.next()
		if err != nil || a.code != i || len(a.body) != n {
			t.Errorf("answer %d: code %d, %d bytes, %v", i, a.code, len(a.body), err)
		}
	}
	if _, err := c.next(); err == nil {
		t.Error("there is an answer behind the last one")
	}
	writing.Wait()
}

func TestCount(t *testing.T) {
	t.Parallel()
	one := binary.BigEndian.AppendUint32(nil, 6)
	one = append(one, 1, 2)
	for _, c := range []struct {
		body []byte
		want int
		bad  bool
	}{
		{body: one, want: 1},
		{body: append(append([]byte{}, one...), one...), want: 2},
		{body: nil, bad: true},
		{body: one[:5], bad: true},
		{body: append(append([]byte{}, one...), 0, 0), want: 1, bad: true},
		{body: []byte{0, 0, 0, 0}, bad: true},
		{body: []byte{0xff, 0xff, 0xff, 0xff}, bad: true},
	} {
		if n, err := count(c.body); n != c.want || (err != nil) != c.bad {
			t.Errorf("%v: %d messages, %v", c.body, n, err)
		}
	}
}
