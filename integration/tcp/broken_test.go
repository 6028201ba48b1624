package tcp

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
)

// framed is a frame with the given header and body, whatever they are.
func framed(form byte, header, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(form)<<24|uint32(len(header)))
	return append(append(b, header...), body...)
}

// jsonHeader is a frame of a text that is meant as a header.
func jsonHeader(text string) []byte { return framed(0, []byte(text), nil) }

// withFields is a frame of a header with the given JSON as its fields.
func withFields(fields string) []byte {
	return jsonHeader(`{"code":105,"flag":0,"language":"GO","opaque":1,"version":479,"extFields":` + fields + `}`)
}

// brokenKinds are frames that end a connection.
var brokenKinds = []func(r *rand.Rand) []byte{
	func(r *rand.Rand) []byte { return binary.BigEndian.AppendUint32(nil, uint32(r.IntN(4))) },
	func(r *rand.Rand) []byte { return binary.BigEndian.AppendUint32(nil, 1<<31|r.Uint32()) },
	func(*rand.Rand) []byte { return binary.BigEndian.AppendUint32(nil, 1<<30) },
	func(r *rand.Rand) []byte { return binary.BigEndian.AppendUint32(nil, 16<<20+1+uint32(r.IntN(1000))) },
	func(r *rand.Rand) []byte { // a header that is longer than its frame
		return []byte{0, 0, 0, 8, 0, 0, byte(r.IntN(2)), byte(5 + r.IntN(250)), '{', '}', 0, 0}
	},
	func(r *rand.Rand) []byte { return framed(byte(2+r.IntN(254)), []byte("{}"), nil) },
	func(*rand.Rand) []byte { return []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") },
	func(*rand.Rand) []byte { return []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3} },
	func(r *rand.Rand) []byte {
		return jsonHeader(pick(r, []string{"{", "[", "[]", "7", "null", `"x"`, "{]", `{"code"}`, `{"code":}`, "{\"code\":1", "\x00\x01", "{{{", `{"extFields":{"a":"b"}`}))
	},
	func(r *rand.Rand) []byte { // deeper than any header
		return withFields(strings.Repeat(`{"a":`, 8+r.IntN(5000)) + "1")
	},
	func(r *rand.Rand) []byte { return jsonHeader(strings.Repeat("[", 9+r.IntN(30000))) },
	func(*rand.Rand) []byte { return withFields(`{"a":["b"]}`) },
	func(r *rand.Rand) []byte { // more fields than any command, of different names or of one
		var b strings.Builder
		for i := range remoting.DefaultFields + 1 + r.IntN(3000) {
			b.WriteString(`,"f` + strconv.Itoa(i*r.IntN(2)) + `":"v"`)
		}
		return withFields("{" + b.String()[1:] + "}")
	},
	func(r *rand.Rand) []byte {
		return withFields(`{"` + strings.Repeat("n", remoting.DefaultName+1+r.IntN(10000)) + `":"v"}`)
	},
	func(r *rand.Rand) []byte {
		return withFields(`{"a":"` + strings.Repeat("v", remoting.DefaultHeader+r.IntN(100000)) + `"}`)
	},
	func(r *rand.Rand) []byte { // binary: the lengths lie
		h := binaryHeader(remoting.Fields{{Name: "topic", Value: prey}, {Name: "queueId", Value: "0"}})
		const remark, fields = 13, 17 // where their lengths are
		at := pick(r, []int{remark, fields})
		binary.BigEndian.PutUint32(h[at:], pick(r, []uint32{1 << 31, 1<<32 - 1, 1 << 30, 60, 7}))
		return framed(1, h, nil)
	},
	func(r *rand.Rand) []byte { // binary: cut off
		h := binaryHeader(remoting.Fields{{Name: "topic", Value: prey}})
		return framed(1, h[:r.IntN(len(h))], nil)
	},
	func(*rand.Rand) []byte {
		fields := make(remoting.Fields, remoting.DefaultFields+1)
		for i := range fields {
			fields[i] = remoting.Field{Name: "f" + strconv.Itoa(i), Value: "v"}
		}
		return framed(1, binaryHeader(fields), nil)
	},
}

// binaryHeader is the header of a request in the binary form.
func binaryHeader(fields remoting.Fields) []byte {
	b, err := remoting.AppendFrame(nil, &remoting.Command{Code: remoting.ReqGetRoute, Binary: true, Fields: fields})
	if err != nil {
		return nil
	}
	return b[8:]
}

// mutated is a request in which something is wrong somewhere. The server may
// take it or end the connection.
func mutated(r *rand.Rand) []byte {
	o := pick(r, oddKinds)(r)
	b, ok := encode(&o.cmd)
	if !ok {
		return nil
	}
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b))
		switch r.IntN(4) {
		case 0:
			b[at] ^= byte(1 << r.IntN(8))
		case 1:
			b[at] = byte(r.Uint32())
		case 2:
			b = b[:max(at, 1)]
		default:
			b = slices.Insert(b, at, b[r.IntN(len(b))])
		}
	}
	return b
}
