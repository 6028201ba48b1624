package durability_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// headerBytes is the length of the header of a frame on the disk.
const headerBytes = 38

// TestCorruptHeader flips one bit in each byte of the header of some frames, in
// a store that is closed and in one that is open. No byte is without meaning:
// each flip has to be found, when the store is opened or when the message is
// read, also where the message itself is as it was.
//
// It catches a checksum that leaves out the header.
func TestCorruptHeader(t *testing.T) {
	t.Parallel()
	if replaying() {
		t.Skip("SEED is for random tests")
	}
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %t", killed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := makeSample(t, killed)
				places := s.someQueue()
				for _, at := range places {
					s.flipOpen(t, at)
					for n := range int64(headerBytes) {
						s.flipClosed(t, at, n)
					}
				}
				t.Logf("%d bytes of %d headers", len(places)*headerBytes, len(places))
			})
		})
	}
}

// someQueue picks the first, a middle and the last but one message of a queue.
func (s *sample) someQueue() []world.Place {
	at := s.last
	var out []world.Place
	for _, at.Offset = range []int64{0, s.last.Offset / 2, s.last.Offset - 1} {
		out = append(out, at)
	}
	return out
}

// flipClosed damages byte n of the frame at a place, opens the store and reads
// the message.
func (s *sample) flipClosed(t *testing.T, at world.Place, n int64) {
	t.Helper()
	cfg, disk := world.Config(), world.Copy(s.disk)
	cfg.FS = disk
	flip(t, disk, s.records[at].pos+n, n)
	b, err := embedded.Open("", cfg)
	if err == nil {
		defer b.Close(context.Background())
		_, err = b.Connect("reader").Extensions().Query.Browse(t.Context(), at.Topic, at.Queue, at.Offset, 1)
	}
	if driver.CodeOf(err) != driver.Corrupt {
		t.Fatalf("byte %d of the header of %v was damaged; opening and reading say %v, want it to be corrupt", n, at, err)
	}
}

// flipOpen damages the frame at a place under an open store, one byte after the
// other.
func (s *sample) flipOpen(t *testing.T, at world.Place) {
	t.Helper()
	cfg, disk := world.Config(), world.Copy(s.disk)
	cfg.FS = disk
	b, err := embedded.Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	q := b.Connect("reader").Extensions().Query
	for n := range int64(headerBytes) {
		flip(t, disk, s.records[at].pos+n, n)
		_, err := q.Browse(t.Context(), at.Topic, at.Queue, at.Offset, 1)
		if driver.CodeOf(err) != driver.Corrupt {
			t.Fatalf("byte %d of the header of %v was damaged under an open store; reading says %v, want it to be corrupt", n, at, err)
		}
		flip(t, disk, s.records[at].pos+n, n)
	}
	if _, err := q.Browse(t.Context(), at.Topic, at.Queue, at.Offset, 1); err != nil {
		t.Fatalf("%v is as it was and cannot be read: %v", at, err)
	}
}

// flip changes one bit, which n picks, of the byte at a position of the log;
// doing it again takes it back.
func flip(t *testing.T, disk *vfs.Mem, pos, n int64) {
	t.Helper()
	name, at := world.Locate(disk, pos)
	f, err := disk.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	if err == nil {
		_, err = f.WriteAt([]byte{b[0] ^ 1<<(n%8)}, at)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
