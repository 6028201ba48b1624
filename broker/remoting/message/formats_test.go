package message_test

import (
	"encoding/hex"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

func TestProperties_Vector(t *testing.T) {
	t.Parallel()
	m := map[string]string{"KEYS": "Key1", "TAGS": "TagA"}
	got := message.AppendProperties(nil, m)
	if hex.EncodeToString(got) != "4b455953014b6579310254414753015461674102" {
		t.Errorf("%x", got)
	}
	for _, s := range []string{string(got), strings.TrimSuffix(string(got), "\x02")} { // new and old writers
		if back := message.ParseProperties(s); !maps.Equal(back, m) {
			t.Errorf("%q: %v", s, back)
		}
	}
}

// The reader's rules are those of Java.
func TestProperties_Reader(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]map[string]string{
		"":                             {},
		"\x02\x02":                     {},
		"a\x01\x02b\x012":              {"b": "2"},
		"\x01v\x02":                    {},
		"no separator\x02x\x01y":       {"x": "y"},
		"a\x011\x02a\x012\x02":         {"a": "2"},
		"a\x01v\x01w\x02":              {"a": "v\x01w"},
		"标\x01签\x02":                   {"标": "签"},
		"a\x011\x02\x02\x02b\x012\x02": {"a": "1", "b": "2"},
	} {
		if got := message.ParseProperties(s); !maps.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
		for k, v := range want {
			if got := message.Property(s, k); got != v {
				t.Errorf("%q: %s is %q, want %q", s, k, got, v)
			}
		}
	}
	for range message.Properties("a\x011\x02b\x012\x02") {
		break // an early end is fine
	}
}

func TestProperties_RoundTrip(t *testing.T) {
	t.Parallel()
	word := rapid.StringMatching(`[^\x00-\x02]+`)
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOf(word, word).Draw(t, "properties")
		b := string(message.AppendProperties([]byte("x\x01y\x02"), m))
		b = strings.TrimPrefix(b, "x\x01y\x02")
		if got := message.ParseProperties(b); !maps.Equal(got, m) {
			t.Fatalf("got %q, want %q", got, m)
		}
		name, value := word.Draw(t, "name"), rapid.OneOf(rapid.Just(""), word).Draw(t, "value")
		m[name] = value
		if value == "" {
			delete(m, name)
		}
		if got := message.ParseProperties(message.SetProperty(b, name, value)); !maps.Equal(got, m) {
			t.Fatalf("set %q to %q: got %q, want %q", name, value, got, m)
		}
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()
	if got := message.SplitKeys(message.JoinKeys([]string{"a", "b"}) + "  c "); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("%q", got)
	}
}

func TestTagCode_Vectors(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]int32{"": 0, "a": 97, "TagA": 2598919, "TagB": 2598920, "created": 1028554472, "标签": 857175, "😀": 1772899} {
		if got := message.TagCode(tag); got != want {
			t.Errorf("%q: got %d, want %d", tag, got, want)
		}
	}
}

func TestHashKey(t *testing.T) {
	t.Parallel()
	if message.HashKey("t", "k") != message.TagCode("t#k") {
		t.Error("it is the hash of topic#key")
	}
	rapid.Check(t, func(t *rapid.T) {
		if h := message.HashKey(rapid.String().Draw(t, "topic"), rapid.String().Draw(t, "key")); h < 0 {
			t.Fatal(h)
		}
	})
}

func TestOffsetID(t *testing.T) {
	t.Parallel()
	if got := message.OffsetID(netip.MustParseAddrPort("127.0.0.1:10911"), 4660); got != "7F00000100002A9F0000000000001234" {
		t.Error(got)
	}
	rapid.Check(t, func(t *rapid.T) {
		host, pos := genHost().Draw(t, "host"), rapid.Int64Min(0).Draw(t, "pos")
		id := message.OffsetID(host, pos)
		for _, s := range []string{id, strings.ToLower(id)} {
			h, p, err := message.ParseOffsetID(s)
			if err != nil || h != host || p != pos {
				t.Fatalf("%s: %v %d %v, want %v %d", s, h, p, err, host, pos)
			}
		}
	})
	for _, bad := range []string{
		"", "7F", strings.Repeat("g", 32), strings.Repeat("A", 33), strings.Repeat("0", 56) + "0",
		"0A00000110925FFD2B27000003E80000", // a unique id: its port is nonsense
		"7F00000100002A9FFFFFFFFFFFFFFFFF", // a negative offset
	} {
		if _, _, err := message.ParseOffsetID(bad); !errors.Is(err, message.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestBatch_Vectors(t *testing.T) {
	t.Parallel()
	want := []message.BatchElement{{Body: []byte("b1"), Properties: "TAGS\x01TagA\x02"}}
	const vector = "00000022 00000000 00000000 00000000 00000002 6231 000a 54414753015461674102"
	b, err := message.AppendBatch(nil, want[0])
	if err != nil || string(b) != string(unhex(t, vector)) {
		t.Errorf("%x, %v", b, err)
	}
	got, err := message.DecodeBatch(append(b, unhex(t, "00000021 00000000 00000000 00000007 00000002 6231 0009 544147530154616741")...), 2)
	want = append(want, message.BatchElement{Flag: 7, Body: []byte("b1"), Properties: "TAGS\x01TagA"})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := 1; n < len(b); n++ {
		if _, err := message.DecodeBatch(b[:n], 0); !errors.Is(err, message.ErrMalformed) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
	if _, err := message.DecodeBatch(append(b, b...), 1); !errors.Is(err, message.ErrTooLong) {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := message.AppendBatch(nil, message.BatchElement{Properties: strings.Repeat("p", 1<<15)}); !errors.Is(err, message.ErrTooLong) {
		t.Errorf("properties too long: %v", err)
	}
}

func TestUniqueIDs(t *testing.T) {
	t.Parallel()
	u := message.NewUniqueIDs()
	const each = 70000 // more than the counter holds
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			ids := make([]string, each)
			for i := range ids {
				ids[i] = u.Next()
			}
			mu.Lock()
			defer mu.Unlock()
			for _, id := range ids {
				seen[id] = true
			}
		})
	}
	wg.Wait()
	if len(seen) != 2*each {
		t.Fatalf("%d ids, %d of them different", 2*each, len(seen))
	}
	for id := range seen {
		at, ok := message.UniqueIDTime(id, time.Now())
		if n := len(id); n != 32 && n != 56 || id != strings.ToUpper(id) || !ok || time.Since(at) > time.Minute {
			t.Fatalf("%s: %v, %v", id, at, ok)
		}
		break
	}
}

// The time in an id starts again each month; the ids still differ.
func TestUniqueIDs_OverMonths(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := message.NewUniqueIDs()
		seen := map[string]bool{}
		for range 40 {
			id := u.Next()
			now := time.Now()
			if at, ok := message.UniqueIDTime(id, now); !ok || now.Sub(at) >= time.Millisecond+time.Millisecond || at.After(now) {
				t.Fatalf("%s at %v says %v, %v", id, now, at, ok)
			}
			seen[id] = true
			time.Sleep(100 * time.Hour)
		}
		if len(seen) != 40 {
			t.Fatalf("%d of 40 ids differ", len(seen))
		}
	})
}

func TestUniqueIDTime(t *testing.T) {
	t.Parallel()
	const id = "0A00000110925FFD2B27000003E80000" // one second into a month
	for now, want := range map[time.Time]time.Time{
		time.Date(2026, 3, 15, 0, 0, 0, 0, time.UTC): time.Date(2026, 3, 1, 0, 0, 1, 0, time.UTC),
		time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC):  time.Date(2026, 2, 1, 0, 0, 1, 0, time.UTC),
	} {
		if got, ok := message.UniqueIDTime(id, now); !ok || !got.Equal(want) {
			t.Errorf("at %v: %v, want %v", now, got, want)
		}
	}
	for _, bad := range []string{"", "x", strings.Repeat("F", 32), strings.Repeat("z", 32)} {
		if _, ok := message.UniqueIDTime(bad, time.Now()); ok {
			t.Errorf("%q has a time", bad)
		}
	}
}
