package message_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Places of the length fields in the vector with IPv4 hosts.
const (
	atTotal, atMagic, atCRC     = 0, 4, 8
	atPort                      = 52
	atBodyLen, atTopicLen       = 84, 93
	atPropertiesLen, vectorSize = 103, 167
)

func put16(at int, v uint16) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint16(b[at:], v) }
}

func put32(at int, v uint32) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint32(b[at:], v) }
}

// Every length is signed in Java, so one with the highest bit is negative and
// not large.
func TestDecode_Malformed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func([]byte)
		want   error
		size   int
	}{
		"total size zero":              {put32(atTotal, 0), message.ErrMalformed, 0},
		"total size below the minimum": {put32(atTotal, 90), message.ErrMalformed, 0},
		"total size negative":          {put32(atTotal, math.MaxUint32), message.ErrMalformed, 0},
		"total size beyond the bytes":  {put32(atTotal, vectorSize+1), message.ErrMalformed, 0},
		"total size one too small":     {put32(atTotal, vectorSize-1), message.ErrMalformed, vectorSize - 1},
		"magic zero":                   {put32(atMagic, 0), message.ErrMalformed, vectorSize},
		"magic of filler":              {put32(atMagic, message.MagicBlank), message.ErrMalformed, vectorSize},
		"magic of a longer topic":      {put32(atMagic, message.MagicV2), message.ErrMalformed, vectorSize},
		"checksum":                     {put32(atCRC, 0x77D18983), message.ErrBodyCRC, vectorSize},
		"checksum with its sign":       {put32(atCRC, 0xF7D18982), message.ErrBodyCRC, vectorSize},
		"body":                         {func(b []byte) { b[atBodyLen+4] ^= 1 }, message.ErrBodyCRC, vectorSize},
		"port":                         {put32(atPort, 65536), message.ErrMalformed, vectorSize},
		"body length negative":         {put32(atBodyLen, math.MaxUint32), message.ErrMalformed, vectorSize},
		"body length smallest":         {put32(atBodyLen, 1<<31), message.ErrMalformed, vectorSize},
		"body length largest":          {put32(atBodyLen, math.MaxInt32), message.ErrMalformed, vectorSize},
		"topic length negative":        {func(b []byte) { b[atTopicLen] = 0xFF }, message.ErrMalformed, vectorSize},
		"topic length largest":         {func(b []byte) { b[atTopicLen] = 0x7F }, message.ErrMalformed, vectorSize},
		"properties length negative":   {put16(atPropertiesLen, 0xFFFF), message.ErrMalformed, vectorSize},
		"properties length too large":  {put16(atPropertiesLen, 63), message.ErrMalformed, vectorSize},
		"properties length too small":  {put16(atPropertiesLen, 61), message.ErrMalformed, vectorSize},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := unhex(t, vectorV4)
			c.change(b)
			s, n, err := message.Decode(b)
			if !errors.Is(err, c.want) || n != c.size || !reflect.DeepEqual(s, message.Stored{}) {
				t.Errorf("got %+v, size %d, %v; want nothing, size %d, %v", s, n, err, c.size, c.want)
			}
			_, n, err = message.DecodeTrusted(b)
			if trusted := errors.Is(c.want, message.ErrBodyCRC); trusted != (err == nil) || n != c.size {
				t.Errorf("without the checksum: got size %d, %v; want size %d, accepted %v", n, err, c.size, trusted)
			}
		})
	}
}

// What is behind the record in the same buffer is neither read nor in reach of
// an append to the body.
func TestDecode_StaysInsideItsRecord(t *testing.T) {
	t.Parallel()
	b := append(unhex(t, vectorV4), unhex(t, vectorV6)...)
	before := bytes.Clone(b)
	s, n, err := message.Decode(b)
	if err != nil || n != vectorSize {
		t.Fatalf("got size %d, %v; want %d", n, err, vectorSize)
	}
	if s.Body = append(s.Body, "overwrites"...); !bytes.Equal(b, before) {
		t.Error("got a body with room into the rest of the record, want none")
	}
	// A body length that fits the buffer but not the record.
	put32(atBodyLen, vectorSize)(b)
	if _, _, err := message.DecodeTrusted(b); !errors.Is(err, message.ErrMalformed) {
		t.Errorf("a body that reaches into the next record: got %v, want %v", err, message.ErrMalformed)
	}
}

func TestBatch_RoundTrip(t *testing.T) {
	t.Parallel()
	element := rapid.Custom(func(t *rapid.T) message.BatchElement {
		e := message.BatchElement{Flag: rapid.Int32().Draw(t, "flag"), Properties: rapid.StringN(0, 100, 500).Draw(t, "properties")}
		if b := rapid.SliceOf(rapid.Byte()).Draw(t, "body"); len(b) > 0 {
			e.Body = b
		}
		return e
	})
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(element, 1, 8).Draw(t, "elements")
		var b []byte
		var err error
		for _, e := range want {
			if b, err = message.AppendBatch(b, e); err != nil {
				t.Fatalf("encode: got %v", err)
			}
		}
		if got, err := message.DecodeBatch(b, len(want)); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
		if _, err := message.DecodeBatch(b, len(want)-1); (err == nil) != (len(want) == 1) {
			t.Fatalf("one less than %d is allowed: got %v", len(want), err)
		}
	})
}

func TestDecodeBatch_Malformed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte){
		"size zero":                   put32(0, 0),
		"size below the minimum":      put32(0, 21),
		"size negative":               put32(0, math.MaxUint32),
		"size beyond the bytes":       put32(0, 35),
		"size too small":              put32(0, 33),
		"body length negative":        put32(16, math.MaxUint32),
		"body length too large":       put32(16, 14),
		"body length too small":       put32(16, 1),
		"properties length negative":  put16(22, 0xFFFF),
		"properties length too large": put16(22, 11),
		"properties length too small": put16(22, 9),
	} {
		b := unhex(t, "00000022 00000000 00000000 00000000 00000002 6231 000a 54414753015461674102")
		change(b)
		if got, err := message.DecodeBatch(b, 0); !errors.Is(err, message.ErrMalformed) || got != nil {
			t.Errorf("%s: got %+v, %v; want nothing, %v", name, got, err, message.ErrMalformed)
		}
	}
	if got, err := message.DecodeBatch(nil, 1); err != nil || len(got) != 0 {
		t.Errorf("an empty batch: got %+v, %v; want nothing, nil", got, err)
	}
}

// The time in an id has no month, so months that are too short for it are
// passed over.
func TestUniqueIDTime_ShortMonth(t *testing.T) {
	t.Parallel()
	const id = "0A00000110925FFD2B279A7EC8000000" // 30 days into a month
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	if got, ok := message.UniqueIDTime(id, now); !ok || !got.Equal(want) {
		t.Errorf("at %v: got %v, %v; want %v", now, got, ok, want)
	}
}

// A hostile string of separators costs memory in proportion to its length.
func TestParseProperties_Memory(t *testing.T) {
	s := strings.Repeat("\x02", message.MaxProperties)
	if got := allocated(func() { _ = message.ParseProperties(s) }); got > 32*uint64(len(s)) {
		t.Errorf("got %d bytes allocated for %d of input, want at most 32 times as many", got, len(s))
	}
}

// allocated is what the process allocates while f runs. Tests that use it do
// not run in parallel.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Lengths that promise a gigabyte are refused before they are believed.
func TestDecode_Memory(t *testing.T) {
	record := unhex(t, vectorV4)
	put32(atBodyLen, message.MaxBody)(record)
	batch := unhex(t, "00000022 00000000 00000000 00000000 40000000 6231 000a 54414753015461674102")
	got := allocated(func() {
		for range 100 {
			_, _, _ = message.Decode(record)
			_, _ = message.DecodeBatch(batch, 0)
		}
	})
	if got > 1<<20 {
		t.Errorf("got %d bytes allocated by 200 refusals, want at most %d", got, 1<<20)
	}
}

// FuzzDecodeExact holds the record to the byte: the rest of the buffer has no
// influence, and what has only one encoding gets that one.
func FuzzDecodeExact(f *testing.F) {
	for _, v := range []string{vectorV4, vectorV6} {
		f.Add(unhex(f, v), []byte("next"))
	}
	long := hello()
	long.Topic = strings.Repeat("t", message.MaxTopicV1+1)
	b, err := long.AppendTo(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, []byte{})
	f.Fuzz(func(t *testing.T, b, rest []byte) {
		s, n, err := message.DecodeTrusted(b)
		if err != nil {
			return
		}
		s2, n2, err := message.DecodeTrusted(append(b[:n:n], rest...))
		if err != nil || n2 != n || !reflect.DeepEqual(s2, s) {
			t.Fatalf("with other bytes behind it: got %+v, %d, %v; want %+v, %d", s2, n2, err, s, n)
		}
		again, err := s.AppendTo(nil)
		if err != nil {
			t.Fatalf("encode: got %v", err)
		}
		if s.BornHost.Addr().Is4In6() || s.StoreHost.Addr().Is4In6() ||
			binary.BigEndian.Uint32(b[atMagic:]) == message.MagicV2 && len(s.Topic) <= message.MaxTopicV1 {
			return // a second way to say the same; the encoder has one
		}
		copy(b[atCRC:atMagic+8], again[atCRC:atMagic+8]) // not checked here
		if !bytes.Equal(again, b[:n]) {
			t.Fatalf("got  %x\nwant %x", again, b[:n])
		}
	})
}

// FuzzBatchExact: only the magic and the checksum of an element are free.
func FuzzBatchExact(f *testing.F) {
	one := unhex(f, "00000022 00000000 00000000 00000000 00000002 6231 000a 54414753015461674102")
	f.Add(one, 0)
	f.Add(append(bytes.Clone(one), one...), 1)
	f.Add(unhex(f, "00000021 00000000 00000000 00000000 00000002 6231 0009 544147530154616741"), 5)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		es, err := message.DecodeBatch(b, limit)
		if err != nil {
			if !errors.Is(err, message.ErrMalformed) && !errors.Is(err, message.ErrTooLong) || es != nil {
				t.Fatalf("got %d elements and an unknown error %v", len(es), err)
			}
			return
		}
		if limit > 0 && len(es) > limit {
			t.Fatalf("got %d elements, want at most %d", len(es), limit)
		}
		var again []byte
		for _, e := range es {
			at := len(again)
			if again, err = message.AppendBatch(again, e); err != nil {
				t.Fatalf("encode: got %v", err)
			}
			copy(again[at+4:at+12], b[at+4:at+12])
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("got  %x\nwant %x", again, b)
		}
	})
}

// FuzzProperties: all readers agree, and the writer's form of what was read
// reads the same and is stable.
func FuzzProperties(f *testing.F) {
	for _, s := range []string{"", "KEYS\x01Key1\x02TAGS\x01TagA\x02", "KEYS\x01Key1\x02TAGS\x01TagA", "a\x01\x02\x01b\x02c", "a\x011\x02a\x012", "a\x01b\x01c\x02"} {
		f.Add(s, "a", "v")
	}
	f.Fuzz(func(t *testing.T, s, name, value string) {
		m := message.ParseProperties(s)
		for k, v := range m {
			if got := message.Property(s, k); got != v || k == "" || v == "" {
				t.Fatalf("property %q: got %q, want %q", k, got, v)
			}
		}
		b := string(message.AppendProperties(nil, m))
		if got := message.ParseProperties(b); !maps.Equal(got, m) || len(b) > len(s)+1 {
			t.Fatalf("got %q from %d bytes, want %q from at most %d", got, len(b), m, len(s)+1)
		}
		if strings.ContainsAny(name, "\x01\x02") || strings.Contains(value, "\x02") || name == "" {
			return // not allowed in a property
		}
		m[name] = value
		if value == "" {
			delete(m, name)
		}
		if got := message.ParseProperties(message.SetProperty(s, name, value)); !maps.Equal(got, m) {
			t.Fatalf("%q set to %q: got %q, want %q", name, value, got, m)
		}
	})
}
