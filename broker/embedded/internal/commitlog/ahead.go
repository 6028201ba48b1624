package commitlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// ahead is what lies behind a place without a frame.
type ahead struct {
	from   int64
	next   int64 // position of the next valid frame, -1 if there is none
	synced int64 // the largest durable position that frames there prove
	end    int64 // position behind the last byte that is not zero
	blank  bool  // the rest of the segment that holds the place is zeros
}

// lookAhead searches for frames behind pos, in the rest of segment i and in all
// later ones: each one says how much was durable when it was built. It ends
// when it has found a frame and a proof that more than pos was durable.
func (r *recovery) lookAhead(i int, pos int64) (ahead, error) {
	a := ahead{from: pos, next: -1, end: pos}
	for j := max(i, 0); j < len(r.segs); j++ {
		s := r.segs[j]
		a.end = max(a.end, s.base)
		if err := r.search(&a, j, max(pos-s.base, 0)); err != nil {
			return a, fmt.Errorf("look ahead in %s: %w", s.name, err)
		}
		if j == i {
			a.blank = a.end == pos
		}
		if a.next >= 0 && max(a.synced, r.synced) > pos {
			break
		}
	}
	return a, nil
}

// search looks through segment j from off on.
func (r *recovery) search(a *ahead, j int, off int64) error {
	s, size := r.segs[j], r.extents[j]
	if off >= size {
		return nil
	}
	zeros := make([]byte, min(windowSize, size))
	search := r.window(s, size)
	defer func() { r.buf = search.b }()
	verify := &window{file: s.file, size: size, unreadable: search.unreadable} // apart, or it would move the bytes that are searched
	for off < size {
		n := int(min(windowSize, size-off))
		b, err := search.peek(off, n)
		if err != nil {
			return err
		}
		if bytes.Equal(b, zeros[:n]) {
			off += int64(n)
			continue
		}
		a.end = max(a.end, s.base+off+int64(len(bytes.TrimRight(b, "\x00"))))
		used, err := r.searchPiece(a, verify, s.base, off, b)
		if err != nil {
			return err
		}
		if a.next >= 0 && max(a.synced, r.synced) > a.from {
			return nil
		}
		off += used
	}
	return nil
}

// searchPiece notes the frames that begin in b, the bytes at off of a segment,
// and answers how far the search has come.
func (r *recovery) searchPiece(a *ahead, verify *window, base, off int64, b []byte) (used int64, err error) {
	magic := binary.BigEndian.AppendUint32(nil, frameMagic)
	last := off+int64(len(b)) == verify.size
	for at := 0; ; {
		next := bytes.Index(b[at:], magic)
		switch at += next; {
		case next < 0 && last:
			return int64(len(b)), nil
		case next < 0:
			return int64(len(b) - len(magic) + 1), nil // a magic may begin in the last bytes
		case at+headerLen > len(b) && last:
			return int64(len(b)), nil
		case at+headerLen > len(b):
			return int64(at), nil
		}
		h, reason := parseHeader(b[at:], verify.size-off-int64(at))
		if reason != "" || h.pos != base+off+int64(at) || h.pos <= a.from || h.store != r.man.store || h.epoch < r.epoch {
			at++
			continue
		}
		h, _, reason, err = r.frame(verify, base, off+int64(at))
		if err != nil {
			return 0, err
		}
		if reason != "" {
			at++
			continue
		}
		if a.next < 0 {
			a.next = h.pos
		}
		a.synced = max(a.synced, h.synced)
		a.end = max(a.end, h.pos+h.frameSize())
		if end := int64(at) + h.frameSize(); end >= int64(len(b)) {
			return end, nil
		}
		at += int(h.frameSize())
	}
}
