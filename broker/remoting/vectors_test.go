package remoting_test

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func command(code int, l remoting.Language, version int, opaque, flag int32, fields ...remoting.Field) remoting.Command {
	return remoting.Command{Code: code, Language: l, Version: version, Opaque: opaque, Flag: flag, Fields: fields}
}

// Vectors 7.1 to 7.4 of the protocol, as Apache's Java and Go peers write them.
var frames = map[string]struct {
	hex  string
	want remoting.Command
	// foreign: the same command in a form that we read but do not write.
	foreign bool
}{
	"JSON request": {
		hex: `00000064 00000060
7b22636f6465223a3130352c226578744669656c6473223a7b22746f706963223a22546f70696354657374227d2c22666c6167223a302c226c616e6775616765223a22474f222c226f7061717565223a312c2276657273696f6e223a3331377d`,
		want: command(105, remoting.LanguageGo, 317, 1, 0, remoting.Field{Name: "topic", Value: "TopicTest"}),
	},
	"JSON request of Apache's Go client": {
		hex: `00000070 0000006c
7b22636f6465223a3130352c226c616e6775616765223a22474f222c2276657273696f6e223a3331372c226f7061717565223a312c22666c6167223a302c2272656d61726b223a22222c226578744669656c6473223a7b22746f706963223a22546f70696354657374227d7d`,
		want:    command(105, remoting.LanguageGo, 317, 1, 0, remoting.Field{Name: "topic", Value: "TopicTest"}),
		foreign: true,
	},
	"binary request": {
		hex: `0000002d 01000029 0069 09 013d 00000001 00000000 00000000 00000014
0005 746f706963 00000009 546f70696354657374`,
		want: binary(command(105, remoting.LanguageGo, 317, 1, 0, remoting.Field{Name: "topic", Value: "TopicTest"})),
	},
	"binary response with a remark": {
		hex: `00000021 0100001d 0011 00 01df 00000001 00000001 00000008 6e6f20726f757465 00000000`,
		want: binary(remoting.Command{
			Code: remoting.ResTopicNotExist, Language: remoting.LanguageJava, Version: 479, Opaque: 1, Flag: remoting.FlagResponse, Remark: "no route",
		}),
	},
	"binary request with a body": {
		hex:  `0000001b 01000015 0022 09 013d 00000002 00000000 00000000 00000000 7b7d`,
		want: binary(remoting.Command{Code: remoting.ReqHeartbeat, Language: remoting.LanguageGo, Version: 317, Opaque: 2, Body: []byte("{}")}),
	},
}

func binary(c remoting.Command) remoting.Command {
	c.Binary = true
	return c
}

func TestFrame_Vectors(t *testing.T) {
	t.Parallel()
	for name, v := range frames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := unhex(t, v.hex)
			var got remoting.Command
			if err := remoting.Decode(b[4:], &got, remoting.Limits{}); err != nil || !equal(got, v.want) {
				t.Fatalf("decode: got %+v, %v\nwant %+v", got, err, v.want)
			}
			if v.foreign {
				return
			}
			back, err := remoting.AppendFrame([]byte("before"), &v.want)
			if err != nil || string(back) != "before"+string(b) {
				t.Errorf("encode: got %x, %v\nwant %x", back, err, b)
			}
			head, err := remoting.AppendFrameHead(nil, &v.want, len(v.want.Body))
			if err != nil || string(head)+string(v.want.Body) != string(b) {
				t.Errorf("encode the head: got %x, %v", head, err)
			}
		})
	}
}

// equal does not tell no fields and an empty list of them apart.
func equal(a, b remoting.Command) bool {
	if len(a.Fields) == 0 && len(b.Fields) == 0 {
		a.Fields, b.Fields = nil, nil
	}
	return reflect.DeepEqual(a, b)
}
