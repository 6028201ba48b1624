package commitlog

import (
	"errors"
	"fmt"
	"io"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// window reads a file forward through one buffer.
type window struct {
	file vfs.File
	size int64
	off  int64 // of b[0]
	b    []byte
	// unreadable is told what cannot be read, which then counts as zeros. If
	// it is nil, that is an error.
	unreadable func(off, length int64, err error)
}

const (
	// windowSize is how much is read at once: large enough to keep a disk
	// busy, small enough for a phone.
	windowSize = 256 << 10
	// pieceSize is what is given up at once where a disk cannot read.
	pieceSize = 4 << 10
)

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
		if w.unreadable != nil && !errors.Is(err, io.EOF) {
			w.pieces()
			return w.b[:n], nil
		}
		w.b = w.b[:0]
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at %d: %w", want, off, err)
	}
	return w.b[:n], nil
}

// pieces reads what can be read of the window.
func (w *window) pieces() {
	for at := 0; at < len(w.b); at += pieceSize {
		piece := w.b[at:min(at+pieceSize, len(w.b))]
		if got, err := w.file.ReadAt(piece, w.off+int64(at)); got < len(piece) {
			clear(piece)
			w.unreadable(w.off+int64(at), int64(len(piece)), err)
		}
	}
}
