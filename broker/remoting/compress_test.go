package remoting_test

import (
	"bytes"
	stdzlib "compress/zlib"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

var kinds = []remoting.Compression{remoting.CompressionZLIB, remoting.CompressionLZ4, remoting.CompressionZSTD}

func TestCompress_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		body := bytes.Repeat(rapid.SliceOf(rapid.Byte()).Draw(t, "body"), rapid.IntRange(1, 50).Draw(t, "times"))
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		out, err := remoting.Compress(kind, rapid.IntRange(-1, 12).Draw(t, "level"), body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remoting.Inflate(kind.SysFlag(), out, 0)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(body))
		}
	})
}

func TestCompress_Wire(t *testing.T) {
	t.Parallel()
	text := []byte(strings.Repeat("hello ", 1000))
	for kind, want := range map[remoting.Compression]string{
		remoting.CompressionZLIB: "\x78\x5e",         // level 5
		remoting.CompressionLZ4:  "\x04\x22\x4d\x18", // frame format
		remoting.CompressionZSTD: "\x28\xb5\x2f\xfd",
	} {
		if out, err := remoting.Compress(kind, 0, text); err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("%d: got %x, %v; want it to begin with %x", kind, out[:8], err, want)
		}
	}
	if f := remoting.CompressionZLIB.SysFlag(); f != 0x301 {
		t.Errorf("got flag %x", f)
	}
	// What the standard library writes is read, and the other way round; old
	// clients say 0x1 for zlib.
	var std bytes.Buffer
	w := stdzlib.NewWriter(&std)
	w.Write(text)
	w.Close()
	if got, err := remoting.Inflate(message.SysCompressed, std.Bytes(), 0); err != nil || !bytes.Equal(got, text) {
		t.Errorf("zlib without its type: got %d bytes, %v", len(got), err)
	}
	out, err := remoting.Compress(0, 0, text)
	if err != nil {
		t.Fatal(err)
	}
	r, err := stdzlib.NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestInflate_Limits(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		zeros, err := remoting.Compress(kind, 0, make([]byte, 40<<20))
		if err != nil {
			t.Fatal(err)
		}
		got, err := remoting.Inflate(kind.SysFlag(), zeros, 1<<30)
		if !errors.Is(err, remoting.ErrInflateLimit) || got != nil {
			t.Errorf("%d: 40 MiB from %d bytes: got %d bytes, %v", kind, len(zeros), len(got), err)
		}
		exact, err := remoting.Compress(kind, 0, make([]byte, 64<<10))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := remoting.Inflate(kind.SysFlag(), exact, 64<<10); err != nil || len(got) != 64<<10 {
			t.Errorf("%d: as many as allowed: got %d bytes, %v", kind, len(got), err)
		}
		if _, err := remoting.Inflate(kind.SysFlag(), exact, 64<<10-1); !errors.Is(err, remoting.ErrInflateLimit) {
			t.Errorf("%d: one more than allowed: got %v", kind, err)
		}
		// Short ones of one byte pass whatever the ratio.
		if got, err := remoting.Inflate(kind.SysFlag(), exact, 0); err != nil || len(got) != 64<<10 {
			t.Errorf("%d: 64 KiB from %d bytes: got %d bytes, %v", kind, len(exact), len(got), err)
		}
		if _, err := remoting.Inflate(kind.SysFlag(), exact[:len(exact)-1], 0); err == nil {
			t.Errorf("%d: a cut body was accepted", kind)
		}
		if _, err := remoting.Inflate(kind.SysFlag(), []byte("no such stream"), 0); err == nil {
			t.Errorf("%d: no stream was accepted", kind)
		}
		if got, err := remoting.Inflate(kind.SysFlag(), exact, 0); err != nil || len(got) != 64<<10 {
			t.Errorf("%d: after errors: got %d bytes, %v", kind, len(got), err)
		}
	}
	if got, err := remoting.Inflate(0x300, []byte("plain"), 1); err != nil || string(got) != "plain" {
		t.Errorf("not compressed: got %q, %v", got, err)
	}
	if _, err := remoting.Inflate(0x401, nil, 0); !errors.Is(err, remoting.ErrCompression) || !strings.Contains(err.Error(), "by format 4") {
		t.Errorf("unknown way: got %v", err)
	}
	for flag, name := range map[int32]string{0x1: "zlib", 0x101: "LZ4", 0x201: "zstd", 0x301: "zlib"} {
		if _, err := remoting.Inflate(flag, []byte("no such stream"), 0); err == nil || !strings.Contains(err.Error(), "by "+name+" to") {
			t.Errorf("system flag %#x: got %v", flag, err)
		}
	}
	if _, err := remoting.Compress(4, 0, nil); !errors.Is(err, remoting.ErrCompression) {
		t.Errorf("unknown way: got %v", err)
	}
}

// The decoders are used again by several goroutines.
func TestInflate_Concurrent(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for _, kind := range kinds {
		want := []byte(strings.Repeat("concurrent ", 1000))
		out, err := remoting.Compress(kind, 0, want)
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			wg.Go(func() {
				for range 20 {
					if got, err := remoting.Inflate(kind.SysFlag(), out, 0); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d: got %d bytes, %v", kind, len(got), err)
					}
				}
			})
		}
	}
	wg.Wait()
}
