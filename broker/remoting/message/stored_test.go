package message_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hello is the message of the reference vectors.
func hello() message.Stored {
	return message.Stored{
		Topic: "TopicTest", QueueID: 1, QueueOffset: 7, PhysicalOffset: 4660,
		BornTimestamp: 1700000000000, BornHost: netip.MustParseAddrPort("10.0.0.9:50000"),
		StoreTimestamp: 1700000000005, StoreHost: netip.MustParseAddrPort("127.0.0.1:10911"),
		Body:       []byte("Hello"),
		Properties: "KEYS\x01Key1\x02UNIQ_KEY\x010A00000110925FFD2B27000003E80000\x02TAGS\x01TagA\x02",
	}
}

const (
	tail = `00000000 0000000000000000 00000005 48656c6c6f 09 546f70696354657374
		003e 4b455953014b65793102554e49515f4b45590130413030303030313130393235464644324232373030303030334538303030300254414753015461674102`
	vectorV4 = `000000a7 daa320a7 77d18982 00000001 00000000 0000000000000007 0000000000001234 00000000
		0000018bcfe56800 0a000009 0000c350 0000018bcfe56805 7f000001 00002a9f` + tail
	vectorV6 = `000000bf daa320a7 77d18982 00000001 00000000 0000000000000007 0000000000001234 00000030
		0000018bcfe56800 20010db8000000000000000000000009 0000c350
		0000018bcfe56805 00000000000000000000000000000001 00002a9f` + tail
)

func TestStored_Vectors(t *testing.T) {
	t.Parallel()
	v4, v6 := hello(), hello()
	v6.BornHost, v6.StoreHost = netip.MustParseAddrPort("[2001:db8::9]:50000"), netip.MustParseAddrPort("[::1]:10911")
	v6.SysFlag = message.SysBornHostV6 | message.SysStoreHostV6
	for name, c := range map[string]struct {
		msg  message.Stored
		want string
		size int
		id   string
	}{
		"IPv4": {v4, vectorV4, 167, "7F00000100002A9F0000000000001234"},
		"IPv6": {v6, vectorV6, 191, "0000000000000000000000000000000100002A9F0000000000001234"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := unhex(t, c.want)
			got, err := c.msg.AppendTo([]byte("before"))
			if err != nil || string(got[:6]) != "before" || string(got[6:]) != string(want) || c.msg.Size() != c.size || len(want) != c.size {
				t.Fatalf("encode: %v, size %d\n got %x\nwant %x", err, c.msg.Size(), got[6:], want)
			}
			for _, decode := range []func([]byte) (message.Stored, int, error){message.Decode, message.DecodeTrusted} {
				back, n, err := decode(append(want, "next"...))
				if err != nil || n != c.size || !reflect.DeepEqual(back, c.msg) {
					t.Fatalf("decode: %d, %v\n got %+v\nwant %+v", n, err, back, c.msg)
				}
			}
			if id := message.OffsetID(c.msg.StoreHost, c.msg.PhysicalOffset); id != c.id {
				t.Fatalf("offset id %s, want %s", id, c.id)
			}
		})
	}
}

func genHost() *rapid.Generator[netip.AddrPort] {
	return rapid.Custom(func(t *rapid.T) netip.AddrPort {
		var addr netip.Addr
		if rapid.Bool().Draw(t, "v6") {
			addr = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr"))).Unmap()
		} else {
			addr = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr")))
		}
		return netip.AddrPortFrom(addr, rapid.Uint16().Draw(t, "port"))
	})
}

func genStored() *rapid.Generator[message.Stored] {
	return rapid.Custom(func(t *rapid.T) message.Stored {
		s := message.Stored{
			Topic: rapid.StringN(0, 200, 300).Draw(t, "topic"), QueueID: rapid.Int32().Draw(t, "queue"),
			QueueOffset: rapid.Int64().Draw(t, "offset"), PhysicalOffset: rapid.Int64().Draw(t, "physical"),
			Flag: rapid.Int32().Draw(t, "flag"), SysFlag: rapid.Int32().Draw(t, "sys") &^ (message.SysBornHostV6 | message.SysStoreHostV6),
			BornTimestamp: rapid.Int64().Draw(t, "born"), StoreTimestamp: rapid.Int64().Draw(t, "stored"),
			BornHost: genHost().Draw(t, "born host"), StoreHost: genHost().Draw(t, "store host"),
			ReconsumeTimes: rapid.Int32().Draw(t, "reconsume"), PreparedTransactionOffset: rapid.Int64().Draw(t, "prepared"),
			Properties: rapid.StringN(0, 100, 500).Draw(t, "properties"),
		}
		if b := rapid.SliceOf(rapid.Byte()).Draw(t, "body"); len(b) > 0 {
			s.Body = b
		}
		if s.BornHost.Addr().Is6() {
			s.SysFlag |= message.SysBornHostV6
		}
		if s.StoreHost.Addr().Is6() {
			s.SysFlag |= message.SysStoreHostV6
		}
		return s
	})
}

func TestStored_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(genStored(), 1, 4).Draw(t, "messages")
		var b []byte
		var err error
		for _, s := range list {
			before := len(b)
			if b, err = s.AppendTo(b); err != nil || len(b)-before != s.Size() {
				t.Fatalf("encode: %v, %d bytes, size %d", err, len(b)-before, s.Size())
			}
		}
		for _, want := range list {
			got, n, err := message.Decode(b)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
			}
			b = b[n:]
		}
		if len(b) != 0 {
			t.Fatalf("%d bytes left", len(b))
		}
	})
}

func TestStored_MappedAddressIsIPv4(t *testing.T) {
	t.Parallel()
	s := hello()
	s.BornHost = netip.MustParseAddrPort("[::ffff:10.0.0.9]:50000")
	s.SysFlag = message.SysBornHostV6 // a stale bit is corrected
	if b, err := s.AppendTo(nil); err != nil || string(b) != string(unhex(t, vectorV4)) {
		t.Fatalf("%x, %v", b, err)
	}
	s.BornHost, s.StoreHost = netip.AddrPort{}, netip.AddrPort{}
	b, err := s.AppendTo(nil)
	got, _, derr := message.Decode(b)
	if err != nil || derr != nil || got.StoreHost != netip.MustParseAddrPort("0.0.0.0:0") {
		t.Fatalf("%+v, %v, %v", got, err, derr)
	}
}

func TestStored_Limits(t *testing.T) {
	t.Parallel()
	for n, magic := range map[int]uint32{message.MaxTopicV1: message.MagicV1, message.MaxTopicV1 + 1: message.MagicV2, message.MaxTopic: message.MagicV2} {
		s := hello()
		s.Topic = strings.Repeat("t", n)
		b, err := s.AppendTo(nil)
		got, _, derr := message.Decode(b)
		if err != nil || derr != nil || got.Topic != s.Topic || fmt.Sprintf("%x", b[4:8]) != fmt.Sprintf("%08x", magic) {
			t.Errorf("topic of %d: %v, %v, magic %x", n, err, derr, b[4:8])
		}
	}
	for _, change := range []func(s *message.Stored){
		func(s *message.Stored) { s.Topic = strings.Repeat("t", message.MaxTopic+1) },
		func(s *message.Stored) { s.Properties = strings.Repeat("p", message.MaxProperties+1) },
	} {
		s := hello()
		change(&s)
		if b, err := s.AppendTo([]byte("x")); !errors.Is(err, message.ErrTooLong) || string(b) != "x" {
			t.Errorf("got %d bytes, %v", len(b), err)
		}
	}
}

func TestDecode_RefusesEveryCutAndFlip(t *testing.T) {
	t.Parallel()
	whole := unhex(t, vectorV4)
	for n := range whole {
		if _, _, err := message.Decode(whole[:n]); !errors.Is(err, message.ErrMalformed) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
	for off, want := range map[int]error{0: message.ErrMalformed, 3: message.ErrMalformed, 4: message.ErrMalformed, 8: message.ErrBodyCRC, 52: message.ErrMalformed, 87: message.ErrMalformed, 88: message.ErrBodyCRC, 93: message.ErrMalformed, 104: message.ErrMalformed} {
		b := append([]byte(nil), whole...)
		b[off] ^= 0x11
		_, n, err := message.Decode(b)
		if !errors.Is(err, want) {
			t.Errorf("byte %d: %v, want %v", off, err, want)
		}
		if off > 3 && n != len(whole) {
			t.Errorf("byte %d: the size is known, got %d", off, n)
		}
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	for _, vector := range []string{vectorV4, vectorV6} {
		b := unhex(t, vector)
		want, _, _ := message.Decode(b)
		want.QueueID, want.QueueOffset, want.PhysicalOffset, want.StoreTimestamp = 9, 10, 11, 12
		if !message.PatchOffsets(b, 9, 10, 11) || !message.PatchStoreTimestamp(b, 12) {
			t.Fatal("refused")
		}
		if got, _, err := message.Decode(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, want)
		}
	}
	if message.PatchOffsets(make([]byte, 87), 1, 2, 3) || message.PatchPrepared(make([]byte, 87), 1) || message.PatchStoreTimestamp(nil, 1) {
		t.Fatal("a record that is too short was patched")
	}
}

func TestAppendTo_AllocatesNothing(t *testing.T) {
	s := hello()
	b := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { b, _ = s.AppendTo(b[:0]) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(unhex(f, vectorV4))
	f.Add(unhex(f, vectorV6))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, n, err := message.Decode(b)
		if n < 0 || n > len(b) {
			t.Fatalf("size %d of %d", n, len(b))
		}
		if err != nil {
			if !errors.Is(err, message.ErrMalformed) && !errors.Is(err, message.ErrBodyCRC) {
				t.Fatal(err)
			}
			return
		}
		again, err := s.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := message.Decode(again)
		if s.SysFlag = back.SysFlag; err != nil || back.StoreHost.Port() != s.StoreHost.Port() || back.Topic != s.Topic || string(back.Body) != string(s.Body) || back.Properties != s.Properties {
			t.Fatalf("%v\n got %+v\nwant %+v", err, back, s)
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(unhex(f, "00000022000000000000000000000000000000026231000a54414753015461674102"))
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := message.DecodeBatch(b, 0)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range es {
			if again, err = message.AppendBatch(again, e); err != nil {
				t.Fatal(err)
			}
		}
		if len(again) != len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(again))
		}
	})
}

func ExampleStored() {
	s := message.Stored{Topic: "bills", Body: []byte("42.00"), Properties: "TAGS\x01water\x02"}
	b, _ := s.AppendTo(nil)
	back, n, _ := message.Decode(b)
	fmt.Println(n == s.Size(), back.Topic, string(back.Body), message.Property(back.Properties, message.Tags))
	// Output: true bills 42.00 water
}
