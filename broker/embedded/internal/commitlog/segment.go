package commitlog

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// segment is one file of the log. It does not change after it is published.
type segment struct {
	base int64
	name string
	file vfs.File
}

// segmentAt answers the index of the segment that holds pos, -1 if none does.
func segmentAt(segs []*segment, pos int64) int {
	return sort.Search(len(segs), func(i int) bool { return segs[i].base > pos }) - 1
}

// createSegment makes an empty segment durable under its name before anything
// is written to it: a crash leaves a temporary file or a whole segment.
func createSegment(fsys vfs.FS, base, size int64) (_ *segment, err error) {
	name := segmentName(base)
	tmp := name + tmpSuffix
	if err := fsys.Remove(tmp); err != nil && !vfs.IsNotExist(err) {
		return nil, err
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return nil, err
	}
	if err = f.Allocate(size); err == nil {
		if err = asSync(f.Sync()); err == nil {
			err = fsys.Rename(tmp, name)
		}
	}
	if err != nil {
		// The space matters when there is none; the name is removed by the
		// next attempt or the next Open otherwise.
		return nil, errors.Join(err, f.Close(), fsys.Remove(tmp))
	}
	if err = asSync(fsys.SyncDir(".")); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &segment{base: base, name: name, file: f}, nil
}

// window reads a file forward through one buffer.
type window struct {
	file vfs.File
	size int64
	off  int64 // of b[0]
	b    []byte
}

// windowSize is how much is read at once: large enough to keep a disk busy,
// small enough for a phone.
const windowSize = 256 << 10

// peek answers the n bytes at off, which lie within size. They are valid until
// the next call.
func (w *window) peek(off int64, n int) ([]byte, error) {
	if off >= w.off && off+int64(n) <= w.off+int64(len(w.b)) {
		return w.b[off-w.off:][:n], nil
	}
	want := int(min(int64(max(n, windowSize)), w.size-off))
	if cap(w.b) < want {
		w.b = make([]byte, want)
	}
	w.b = w.b[:want]
	w.off = off
	if got, err := w.file.ReadAt(w.b, off); got < want {
		w.b = w.b[:0]
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at %d: %w", want, off, err)
	}
	return w.b[:n], nil
}
