package message_test

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

func TestRecallHandle_Vector(t *testing.T) {
	t.Parallel()
	const text = "djEgVG9waWNUZXN0IGJyb2tlci1hIDE3MDAwMDAwMDAwMDEgMEEwMDAwMDExMDkyNUZGRDJCMjcwMDAwMDNFODAwMDA="
	want := message.RecallHandle{Topic: "TopicTest", Broker: "broker-a", Due: 1700000000000, UniqueID: "0A00000110925FFD2B27000003E80000"}
	if got := want.String(); got != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
	if got, err := message.ParseRecallHandle(text); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{
		"", "!", base64.URLEncoding.EncodeToString([]byte("v2 t b 2 u")), base64.URLEncoding.EncodeToString([]byte("v1 t b x u")),
		base64.URLEncoding.EncodeToString([]byte("v1 t b 0 u")), base64.URLEncoding.EncodeToString([]byte("v1 t b 2 u x")), strings.Repeat("A", 1028),
	} {
		if got, err := message.ParseRecallHandle(bad); !errors.Is(err, message.ErrMalformed) {
			t.Errorf("%q: got %+v, %v", bad, got, err)
		}
	}
}

func TestPopCheck_Vector(t *testing.T) {
	t.Parallel()
	const text = "100 1700000000000 60000 3 0 broker-a 1 101"
	want := message.PopCheck{StartOffset: 100, PopTime: 1700000000000, InvisibleTime: 60000, ReviveQueue: 3, Broker: "broker-a", QueueID: 1, Offset: 101}
	if got := want.String(); got != text {
		t.Errorf("got %s, want %s", got, text)
	}
	if got, err := message.ParsePopCheck(text); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", text + " ", "x" + text, "100 1700000000000 60000 2147483648 0 broker-a 1 101", text[1:] + "x"} {
		if got, err := message.ParsePopCheck(bad); !errors.Is(err, message.ErrMalformed) {
			t.Errorf("%q: got %+v, %v", bad, got, err)
		}
	}
}

func TestStored_Unwrap(t *testing.T) {
	t.Parallel()
	var body []byte
	for i, text := range []string{"b1", "b2"} {
		var err error
		if body, err = message.AppendBatch(body, message.BatchElement{Flag: int32(i), Body: []byte(text), Properties: "TAGS\x01Tag" + text + "\x02"}); err != nil {
			t.Fatal(err)
		}
	}
	outer := message.Stored{
		Topic: "T", QueueID: 3, QueueOffset: 40, PhysicalOffset: 4660, Flag: 9, SysFlag: message.SysNeedUnwrap | message.SysInnerBatch,
		BornTimestamp: 1, StoreTimestamp: 2, BornHost: netip.MustParseAddrPort("10.0.0.9:50000"), Body: body, Properties: "INNER_NUM\x012\x02INNER_BASE\x0140\x02",
	}
	if !outer.IsInnerBatch() {
		t.Error("not recognised")
	}
	want := []message.Stored{outer, outer}
	want[0].Flag, want[0].Body, want[0].Properties = 0, []byte("b1"), "TAGS\x01Tagb1\x02"
	want[1].Flag, want[1].Body, want[1].Properties, want[1].QueueOffset = 1, []byte("b2"), "TAGS\x01Tagb2\x02", 41
	if got, err := outer.Unwrap(0); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := outer.Unwrap(1); !errors.Is(err, message.ErrTooLong) {
		t.Errorf("more than allowed: got %v", err)
	}
	outer.Body = body[:len(body)-1]
	if _, err := outer.Unwrap(0); !errors.Is(err, message.ErrMalformed) {
		t.Errorf("cut: got %v", err)
	}
	if outer.SysFlag = message.SysInnerBatch; outer.IsInnerBatch() {
		t.Error("one bit is not enough")
	}
}

// FuzzHandles: what parses is written the same, but for a second spelling of a
// number.
func FuzzHandles(f *testing.F) {
	f.Add("djEgVG9waWNUZXN0IGJyb2tlci1hIDE3MDAwMDAwMDAwMDEgMEEwMDAwMDExMDkyNUZGRDJCMjcwMDAwMDNFODAwMDA=")
	f.Add("100 1700000000000 60000 3 0 broker-a 1 101")
	f.Add("djEgICAxIA==")
	f.Add("+1 -0 00 1 1  1 1")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := message.ParseRecallHandle(s); err == nil {
			if again, err := message.ParseRecallHandle(h.String()); err != nil || again != h {
				t.Fatalf("got %+v, %v; want %+v", again, err, h)
			}
		}
		if p, err := message.ParsePopCheck(s); err == nil {
			if again, err := message.ParsePopCheck(p.String()); err != nil || again != p {
				t.Fatalf("got %+v, %v; want %+v", again, err, p)
			}
		}
	})
}
