package remoting_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// costs fails if f, which decodes an input of n bytes, allocates more than the
// package promises.
func costs(t *testing.T, n int, f func()) {
	t.Helper()
	if got := allocated(f); got > uint64(64<<10+8*n) {
		t.Fatalf("%d bytes allocated for %d of input", got, n)
	}
}

// FuzzReader: however the stream is cut, the frames are the same, and together
// they are the stream.
func FuzzReader(f *testing.F) {
	for _, v := range frames {
		f.Add(unhex(f, v.hex), uint16(1))
		f.Add(append(unhex(f, v.hex), unhex(f, v.hex)...), uint16(7))
	}
	f.Add(unhex(f, "01000000 00000010 7b7d"), uint16(3))
	f.Add(unhex(f, "00000003"), uint16(4))
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint16) {
		read := func(n int) (out []byte, end error) {
			r := remoting.NewReader(&chunks{stream, n, io.EOF}, remoting.Limits{})
			for {
				frame, err := r.Next()
				if err != nil {
					return out, err
				}
				size := len(frame)
				out = append(out, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
				out = append(out, frame...)
			}
		}
		var once, cut []byte
		var errOnce, errCut error
		costs(t, 2*len(stream), func() { once, errOnce = read(max(1, len(stream))) })
		cut, errCut = read(1 + int(chunk))
		if !bytes.Equal(once, cut) || errOnce.Error() != errCut.Error() {
			t.Fatalf("at once: %x, %v\nin pieces of %d: %x, %v", once, errOnce, 1+int(chunk), cut, errCut)
		}
		if !bytes.HasPrefix(stream, once) || errors.Is(errOnce, io.EOF) && len(once) != len(stream) {
			t.Fatalf("got %x, %v from %x", once, errOnce, stream)
		}
	})
}

// again writes what was read and reads it: it must be the same.
func again(t *testing.T, c remoting.Command) {
	t.Helper()
	b, err := remoting.AppendFrame(nil, &c)
	if err != nil {
		t.Fatalf("write %+v: %v", c, err)
	}
	var got remoting.Command
	// What was escaped before may be longer now, and so beyond a limit.
	if err := remoting.Decode(b[4:], &got, remoting.Limits{Header: 1 << 24}); err != nil || !equal(got, c) {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, c)
	}
}

// FuzzJSONHeader holds the reader to encoding/json where both accept.
func FuzzJSONHeader(f *testing.F) {
	for _, v := range frames {
		if !v.want.Binary {
			f.Add(unhex(f, v.hex)[8:])
		}
	}
	for _, s := range []string{
		sendHeader, goSendHeader, `{"code":1,"extFields":{"a":1,"b":true,"c":null,"a":"2",},}`, `{"opaque":-1,"remark":"\ud83d\ude00\ud83d"}`,
		"{\"remark\":\"\xff\x01\"}", `{"x":{"x":{"x":[[[[[]]]]]}}}`, `{{"a":1}:2,3:"4"}`, `{"language":9,"code":"12"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		var c remoting.Command
		var err error
		in := append([]byte{0, byte(len(header) >> 16), byte(len(header) >> 8), byte(len(header))}, header...)
		costs(t, len(header), func() { err = remoting.Decode(in, &c, remoting.Limits{}) })
		if err != nil {
			return
		}
		again(t, c)
		var std struct {
			Remark    json.RawMessage            `json:"remark"`
			ExtFields map[string]json.RawMessage `json:"extFields"`
		}
		var members map[string]json.RawMessage
		if !json.Valid(header) || json.Unmarshal(header, &members) != nil {
			return
		}
		std.Remark = members["remark"]
		if json.Unmarshal(members["extFields"], &std.ExtFields) != nil {
			return
		}
		if got := c.Remark; len(std.Remark) > 0 && std.Remark[0] == '"' && got != text(t, std.Remark) {
			t.Fatalf("remark: got %q, want %s", got, std.Remark)
		}
		for name, raw := range std.ExtFields {
			got, ok := c.Fields.Lookup(name)
			switch want := string(raw); {
			case want == "null":
				if ok {
					t.Fatalf("field %q: got %q, want none", name, got)
				}
			case want[0] == '"':
				want = text(t, raw)
				fallthrough
			default:
				if got != want || !ok {
					t.Fatalf("field %q: got %q, want %q", name, got, want)
				}
			}
		}
	})
}

func text(t *testing.T, raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// FuzzBinaryHeader: every header that is read is written the same, but for
// fields that say nothing.
func FuzzBinaryHeader(f *testing.F) {
	for _, v := range frames {
		if v.want.Binary {
			f.Add(unhex(f, v.hex)[8:])
		}
	}
	f.Add(unhex(f, "8000 ff 7fff ffffffff 00000003 00000001 ff 00000010 0001 61 00000001 62 0001 61 00000000"))
	f.Add(unhex(f, "0022 09 013d 00000002 00000000 ffffffff 00000000"))
	f.Fuzz(func(t *testing.T, header []byte) {
		var c remoting.Command
		var err error
		in := append([]byte{1, byte(len(header) >> 16), byte(len(header) >> 8), byte(len(header))}, header...)
		costs(t, len(header), func() { err = remoting.Decode(in, &c, remoting.Limits{}) })
		if err == nil {
			again(t, c)
		}
	})
}

// FuzzSendFields: the one-pass reader of a send and the reader of single
// fields agree, and what is written reads the same.
func FuzzSendFields(f *testing.F) {
	for _, header := range []string{sendHeader, goSendHeader, `{"extFields":{"a":"","b":"t","c":"","d":"x","e":"","e":"1","h":"99999999999","m":"TRUE","l":""}}`} {
		f.Add([]byte(header), uint8(0))
		f.Add([]byte(header), uint8(3))
	}
	codes := []int{remoting.ReqSendMessage, remoting.ReqSendReply, remoting.ReqSendBatch, remoting.ReqSendMessageV2, remoting.ReqSendReplyV2, remoting.ReqPushReply, -1}
	f.Fuzz(func(t *testing.T, header []byte, which uint8) {
		var c remoting.Command
		in := append([]byte{0, byte(len(header) >> 16), byte(len(header) >> 8), byte(len(header))}, header...)
		if remoting.Decode(in, &c, remoting.Limits{}) != nil {
			return
		}
		code := codes[int(which)%len(codes)]
		x, err := remoting.DecodeSend(code, c.Fields)
		if err != nil {
			var e *remoting.FieldError
			if !errors.As(err, &e) || len(e.Missing)+len(e.Bad) == 0 {
				t.Fatalf("got %v", err)
			}
			return
		}
		name := "g"
		if code != remoting.ReqSendMessageV2 && code != remoting.ReqSendBatch && code != remoting.ReqSendReplyV2 {
			name = "bornTimestamp"
		}
		if d := remoting.ReadFields("test", c.Fields); c.Fields.Get(name) != "" && d.Int64(name) != x.BornTimestamp {
			t.Fatalf("got %d, the last %s is %q", x.BornTimestamp, name, c.Fields.Get(name))
		}
		x.MaxReconsumeTimes = max(x.MaxReconsumeTimes, -1)
		var fields remoting.Fields
		x.AppendTo(code, &fields)
		if got, err := remoting.DecodeSend(code, fields); err != nil || got != x {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, x)
		}
	})
}

// FuzzBodies takes every decoder of a body; which chooses one by its place in
// the order of their names.
func FuzzBodies(f *testing.F) {
	names := slices.Sorted(maps.Keys(readers))
	which := func(name string) uint8 { return uint8(slices.Index(names, name)) }
	for _, e := range examples {
		f.Add([]byte(unwrapped(e.json)), which(e.reader))
	}
	for _, name := range names {
		for _, s := range hostile {
			f.Add([]byte(s), which(name))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, which uint8) {
		read := readers[names[int(which)%len(names)]]
		var x body
		var err error
		costs(t, len(text), func() { x, err = read(text) })
		if err != nil {
			var e *remoting.SyntaxError
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			return
		}
		written := x.AppendTo(nil)
		got, err := read(written)
		if err != nil {
			// Only what is shorter as it was may need less memory than it got.
			if len(written) >= len(text) {
				t.Fatalf("read %s: %v", written, err)
			}
			return
		}
		if again := got.AppendTo(nil); !bytes.Equal(again, written) {
			t.Fatalf("got  %s\nwant %s", again, written)
		}
	})
}

// FuzzInflate: never more than promised, and what was compressed comes back.
func FuzzInflate(f *testing.F) {
	for _, kind := range kinds {
		for _, body := range []string{"", "hello", string(make([]byte, 100<<10))} {
			b, err := remoting.Compress(kind, 0, []byte(body))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, uint8(kind))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		flag := int32(kind)<<message.SysCompressionShift | message.SysCompressed
		limit := max(64<<10, remoting.MaxRatio*len(b))
		// The tables of a new decoder and the window of zstd come on top.
		const tables = 20 << 20
		var out []byte
		var err error
		if got := allocated(func() { out, err = remoting.Inflate(flag, b, 0) }); got > uint64(tables+3*limit) {
			t.Fatalf("%d bytes allocated for %d of input", got, len(b))
		}
		if err == nil && len(out) > limit {
			t.Fatalf("got %d bytes from %d", len(out), len(b))
		}
		way := kinds[int(kind)%len(kinds)]
		packed, err := remoting.Compress(way, 0, b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remoting.Inflate(way.SysFlag(), packed, 0); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("got %x, %v\nwant %x", got, err, b)
		}
	})
}

// FuzzSigned: no field, however it looks, is verified without the secret.
func FuzzSigned(f *testing.F) {
	for _, s := range []string{
		`{"extFields":{"AccessKey":"rocketmq2","Signature":"Ou1T58RIcyZWaTIwzkhJZWn/Zvs="}}`,
		`{"extFields":{"AccessKey":"k","SignTime":"1700000000000","SignNonce":"n","Signature":"AAAA","Signature":""},"code":10}`,
		`{"extFields":{"SignTime":"-9223372036854775808","SignNonce":"n"}}`, sendHeader,
	} {
		f.Add([]byte(s), []byte("body"))
	}
	f.Fuzz(func(t *testing.T, header, body []byte) {
		var c remoting.Command
		in := append([]byte{0, byte(len(header) >> 16), byte(len(header) >> 8), byte(len(header))}, header...)
		if remoting.Decode(append(in, body...), &c, remoting.Limits{}) != nil {
			return
		}
		costs(t, len(header), func() {
			if remoting.Verify("a secret that no seed has", &c) || remoting.VerifySHA256("a secret that no seed has", &c, signTime) == nil {
				t.Fatal("verified")
			}
		})
		remoting.SignCommand("key", "secret", &c)
		if !remoting.Verify("secret", &c) {
			t.Fatalf("its own signature was refused: %+v", c)
		}
		remoting.SignCommandSHA256("key", "secret", &c, signTime)
		if err := remoting.VerifySHA256("secret", &c, signTime); err != nil {
			t.Fatalf("its own signature was refused: %v: %+v", err, c)
		}
	})
}
