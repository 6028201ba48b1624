package rocketmq

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// asking is a request that a [wire] has got: the frame is valid until the next.
type asking struct {
	code, opaque int
	frame        []byte
}

// command is the whole request, whose bytes are those of the frame.
func (a asking) command(t *testing.T) *remoting.Command {
	t.Helper()
	c := new(remoting.Command)
	if err := remoting.Decode(a.frame[4:], c, remoting.Limits{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// batch is the messages of a batch.
func (a asking) batch(t *testing.T) []message.BatchElement {
	t.Helper()
	elements, err := message.DecodeBatch(a.command(t).Body, 0)
	if err != nil {
		t.Fatal(err)
	}
	return elements
}

// wire is a connection to a broker that is not there: answer says what comes
// back. It is name server and broker, and allocates nothing once it is warm.
type wire struct {
	answer func(w *wire, a asking)

	mu      sync.Mutex
	arrived sync.Cond
	in, out []byte
	closed  bool
}

const wireAddr = "127.0.0.1:10911"

// wireRoute is the route of every topic: a queue at one broker.
var wireRoute = remoting.Route{ //nolint:gochecknoglobals // a constant
	Brokers: []remoting.BrokerData{{Cluster: "c", Name: "b", Addrs: []remoting.BrokerAddr{{ID: 0, Addr: wireAddr}}}},
	Queues:  []remoting.QueueData{{Broker: "b", ReadQueues: 1, WriteQueues: 1, Perm: remoting.PermRead | remoting.PermWrite}},
}.AppendTo(nil)

// openWire opens a client whose sends answer gets.
func openWire(t *testing.T, cfg Config, answer func(w *wire, a asking)) (*conn, *wire) {
	t.Helper()
	w := &wire{answer: answer}
	w.arrived.L = &w.mu
	cfg.NameServers, cfg.OffsetDir = []string{wireAddr}, t.TempDir()
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return w, nil }
	c, err := New(cfg).Open(t.Context(), driver.Config{ClientID: "client"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c.(*conn), w //nolint:forcetypeassert // of this package
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in = append(w.in, b...)
	rest := w.in
	for len(rest) >= 4 {
		size := 4 + int(binary.BigEndian.Uint32(rest))
		if len(rest) < size {
			break
		}
		frame := rest[:size]
		rest = rest[size:]
		a := asking{number(frame, `"code":`), number(frame, `"opaque":`), frame}
		switch a.code {
		case remoting.ReqGetRoute:
			w.reply(a, remoting.ResSuccess, "", wireRoute)
		case remoting.ReqGetKVConfig:
			w.reply(a, remoting.ResQueryNotFound, "", nil)
		default:
			w.answer(w, a)
		}
	}
	w.in = w.in[:copy(w.in, rest)]
	return len(b), nil
}

func number(frame []byte, name string) int {
	head := frame[8 : 8+binary.BigEndian.Uint32(frame[4:])&0xffffff]
	at := bytes.LastIndex(head, []byte(name)) + len(name)
	n := 0
	for _, c := range head[at:] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// reply answers a request; fields are those of the header in JSON. mu is held.
func (w *wire) reply(a asking, code int, fields string, body []byte) {
	start := len(w.out)
	w.out = append(w.out, 0, 0, 0, 0, 0, 0, 0, 0)
	w.out = append(w.out, `{"code":`...)
	w.out = strconv.AppendInt(w.out, int64(code), 10)
	w.out = append(w.out, `,"extFields":{`...)
	w.out = append(w.out, fields...)
	w.out = append(w.out, `},"flag":1,"language":"JAVA","opaque":`...)
	w.out = strconv.AppendInt(w.out, int64(a.opaque), 10)
	w.out = append(w.out, `,"version":479}`...)
	binary.BigEndian.PutUint32(w.out[start+4:], uint32(len(w.out)-start-8))
	w.out = append(w.out, body...)
	binary.BigEndian.PutUint32(w.out[start:], uint32(len(w.out)-start-4))
	w.arrived.Broadcast()
}

// say sends a command, which may ask something of the client.
func (w *wire) say(t *testing.T, c *remoting.Command) {
	t.Helper()
	frame, err := remoting.AppendFrame(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	w.tell(func() {
		w.out = append(w.out, frame...)
		w.arrived.Broadcast()
	})
}

// tell answers from outside of a Write.
func (w *wire) tell(answers func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	answers()
}

// stored answers that messages are stored from an offset on.
func (w *wire) stored(a asking, offset int) {
	w.reply(a, remoting.ResSuccess, fmt.Sprintf(`"msgId":"%032X","queueId":"0","queueOffset":"%d"`, offset, offset), nil)
}

func (w *wire) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.out) == 0 && !w.closed {
		w.arrived.Wait()
	}
	if w.closed {
		return 0, io.EOF
	}
	n := copy(b, w.out)
	w.out = w.out[:copy(w.out, w.out[n:])]
	return n, nil
}

func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.arrived.Broadcast()
	return nil
}

func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
