package checkpoint_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/internal/checkpoint"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const store = 0x1122334455667788

func payloadOf(pos int64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(pos), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func mustWrite(t testing.TB, fs vfs.FS, pos int64, payload []byte) {
	t.Helper()
	if err := checkpoint.Write(fs, checkpoint.State, store, pos, payload); err != nil {
		t.Fatal(err)
	}
}

func fileOf(pos int64) string { return fmt.Sprintf("STATE-%020d", pos) }

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.OpenRead(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	_ = fs.Remove(name)
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

func names(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	l, err := fs.List(".")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWriteLoad(t *testing.T) {
	t.Parallel()
	const piece = 1 << 20 // the boundary of writing
	for _, n := range []int{0, 1, 100, piece - 37, piece - 36, piece - 35, piece - 33, piece - 32, piece - 31, piece, 2*piece - 36, 2*piece - 34, 20_000_000} {
		fs := vfs.NewMem()
		want := payloadOf(7, n)
		mustWrite(t, fs, 7, want)
		pos, got, skipped, err := checkpoint.Load(fs, checkpoint.State, store, nil)
		if pos != 7 || !bytes.Equal(got, want) || len(skipped) > 0 || err != nil {
			t.Errorf("%d bytes: got %d, %d bytes, %v, %v", n, pos, len(got), skipped, err)
		}
	}
}

func TestWrite_keepsTwo(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	writeFile(t, fs, "other", nil)
	writeFile(t, fs, fileOf(5)+".tmp", nil)
	for pos := range int64(5) {
		mustWrite(t, fs, pos, nil)
	}
	if got, want := names(t, fs), []string{fileOf(3), fileOf(4), "other"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// The log is shorter than it was: what lies beyond is not true any more.
	mustWrite(t, fs, 10, nil)
	mustWrite(t, fs, 11, nil)
	mustWrite(t, fs, 6, []byte("now"))
	if got, want := names(t, fs), []string{fileOf(6), "other"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	mustWrite(t, fs, 6, []byte("again"))
	if pos, got, _, err := checkpoint.Load(fs, checkpoint.State, store, nil); pos != 6 || string(got) != "again" || err != nil {
		t.Errorf("written twice: %d %q %v", pos, got, err)
	}
	if err := checkpoint.Write(fs, checkpoint.State, store, -1, nil); err == nil {
		t.Error("a negative position was taken")
	}
}

func TestLoad_skips(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	good, bad := []int64{10, 20}, []int64{30, 40, 50, 60, 70}
	for _, pos := range slices.Concat(good, bad) {
		other := vfs.NewMem()
		mustWrite(t, other, pos, payloadOf(pos, 100))
		writeFile(t, fs, fileOf(pos), readFile(t, other, fileOf(pos)))
	}
	b := readFile(t, fs, fileOf(30))
	writeFile(t, fs, fileOf(30), b[:50])
	writeFile(t, fs, fileOf(40), nil)
	writeFile(t, fs, fileOf(50), b) // of 30
	foreign := vfs.NewMem()
	if err := checkpoint.Write(foreign, checkpoint.State, store+1, 60, nil); err != nil {
		t.Fatal(err)
	}
	writeFile(t, fs, fileOf(60), readFile(t, foreign, fileOf(60)))
	writeFile(t, fs, "STATE-1", b)
	writeFile(t, fs, fileOf(80)+".tmp", b)
	before := names(t, fs)

	var asked []int64
	pos, got, skipped, err := checkpoint.Load(fs, checkpoint.State, store, func(pos int64) bool {
		asked = append(asked, pos)
		return pos < 20
	})
	if pos != 10 || !bytes.Equal(got, payloadOf(10, 100)) || err != nil {
		t.Errorf("got %d, %d bytes, %v", pos, len(got), err)
	}
	if !slices.Equal(asked, []int64{70, 20, 10}) {
		t.Errorf("asked for %v", asked)
	}
	want := []error{
		checkpoint.ErrNotAccepted, checkpoint.ErrDamaged, checkpoint.ErrDamaged, checkpoint.ErrDamaged,
		checkpoint.ErrDamaged, checkpoint.ErrNotAccepted,
	}
	if len(skipped) != len(want) {
		t.Fatalf("skipped %v", skipped)
	}
	for i, err := range skipped {
		if !errors.Is(err, want[i]) {
			t.Errorf("skipped %d: got %v, want %v", i, err, want[i])
		}
	}
	if after := names(t, fs); !slices.Equal(before, after) {
		t.Errorf("there were %q, now %q", before, after)
	}
	_, _, skipped, err = checkpoint.Load(fs, checkpoint.State, store, func(int64) bool { return false })
	if !errors.Is(err, checkpoint.ErrNone) || len(skipped) != 7 {
		t.Errorf("none accepted: %v %v", skipped, err)
	}
	if _, _, _, err := checkpoint.Load(vfs.NewMem(), checkpoint.State, store, nil); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestLoad_everyBit(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	mustWrite(t, fs, 9, payloadOf(9, 200))
	name := fileOf(9)
	b := readFile(t, fs, name)
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		writeFile(t, fs, name, b)
		if _, _, skipped, err := checkpoint.Load(fs, checkpoint.State, store, nil); !errors.Is(err, checkpoint.ErrNone) || len(skipped) != 1 {
			t.Fatalf("bit %d: %v %v", i, skipped, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	for n := range len(b) {
		writeFile(t, fs, name, b[:n])
		if _, _, _, err := checkpoint.Load(fs, checkpoint.State, store, nil); !errors.Is(err, checkpoint.ErrNone) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

// What is on disk never changes.
func TestFormat_fixed(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	mustWrite(t, fs, 258, []byte("payload"))
	const want = "534c4350" + "0001" + "0000" + "1122334455667788" + "0000000000000102" + "0000000000000007" + "7061796c6f6164" + "c18bb95b"
	if got := fmt.Sprintf("%x", readFile(t, fs, fileOf(258))); got != want {
		t.Errorf("got %s", got)
	}
}

// A crash at any operation leaves the newest complete checkpoint: the one that
// is being written once Write has answered, until then that or the one before.
func TestWrite_crash(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		mem := vfs.NewMem()
		seed := rapid.Uint64().Draw(rt, "seed")
		keep := rapid.SampledFrom([]float64{0, 0.3, 0.7, 1}).Draw(rt, "keep")
		var done, writing int64 // positions; 0 is none
		verify := func() {
			clone := mem.CrashClone(vfs.CrashOptions{Keep: keep, Stale: 0.5, Rand: rand.New(rand.NewPCG(seed, uint64(writing)))})
			pos, got, skipped, err := checkpoint.Load(clone, checkpoint.State, store, nil)
			if errors.Is(err, checkpoint.ErrNone) && done == 0 {
				return
			}
			if err != nil || pos != done && pos != writing || !bytes.Equal(got, payloadOf(pos, int(pos)*700)) || len(skipped) > 0 {
				rt.Fatalf("after %d, while %d: got %d, %v, %v", done, writing, pos, skipped, err)
			}
		}
		fs := vfs.Inject(mem, func(op vfs.Op) error {
			if op.Kind.Changes() {
				verify()
			}
			return nil
		})
		for writing = 1; writing < 6; writing++ {
			if err := checkpoint.Write(fs, checkpoint.State, store, writing, payloadOf(writing, int(writing)*700)); err != nil {
				rt.Fatalf("%v", err)
			}
			done = writing
			verify()
		}
	})
}

// An error at any operation leaves the one before, and the next Write works.
func TestWrite_errors(t *testing.T) {
	t.Parallel()
	fault := errors.New("injected")
	for at := 1; ; at++ {
		mem := vfs.NewMem()
		for pos := range int64(3) {
			mustWrite(t, mem, pos, payloadOf(pos, 100))
		}
		met := false
		fs := vfs.Inject(mem, func(op vfs.Op) error {
			if op.N == at {
				met = true
				return fault
			}
			return nil
		})
		err := checkpoint.Write(fs, checkpoint.State, store, 3, payloadOf(3, 100))
		if !met {
			if err != nil {
				t.Fatalf("without a fault: %v", err)
			}
			return
		}
		if !errors.Is(err, fault) {
			t.Errorf("operation %d: %v", at, err)
		}
		pos, got, _, loadErr := checkpoint.Load(mem.CrashClone(vfs.CrashOptions{}), checkpoint.State, store, nil)
		if want := errors.Is(err, checkpoint.ErrTidy); loadErr != nil || pos < 2 || want && pos != 3 || !bytes.Equal(got, payloadOf(pos, 100)) {
			t.Errorf("operation %d: %v, then found %d, %v", at, err, pos, loadErr)
		}
		mustWrite(t, mem, 3, payloadOf(3, 100))
		if got := names(t, mem); !slices.Equal(got, []string{fileOf(2), fileOf(3)}) {
			t.Errorf("operation %d: there are %q", at, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	fs := vfs.NewMem()
	mustWrite(f, fs, 9, []byte("payload"))
	good := readFile(f, fs, fileOf(9))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		writeFile(t, fs, fileOf(9), b)
		pos, payload, _, err := checkpoint.Load(fs, checkpoint.State, store, nil)
		if err != nil {
			return
		}
		// What is taken is what would be written.
		again := vfs.NewMem()
		mustWrite(t, again, pos, payload)
		if !bytes.Equal(readFile(t, again, fileOf(9)), b) {
			t.Errorf("%x was taken as %x", b, payload)
		}
	})
}
