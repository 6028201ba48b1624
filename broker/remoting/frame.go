package remoting

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Limits of what is read. A zero means the default.
type Limits struct {
	// Frame is the largest frame in bytes, without its four bytes of length.
	// Defaults to [DefaultFrame].
	Frame int
	// Header is the largest header in bytes. Defaults to [DefaultHeader].
	Header int
	// Fields is how many fields a header may have, duplicates included.
	// Defaults to [DefaultFields].
	Fields int
	// Name is the longest name of a field in bytes. Defaults to [DefaultName].
	Name int
}

// Defaults of [Limits].
const (
	// DefaultFrame is what Apache's peers read at most; they close the
	// connection on more.
	DefaultFrame = 16 << 20
	// DefaultHeader leaves room for the longest string of properties (32767
	// bytes), half of it escaped, beside the other fields.
	DefaultHeader = 64 << 10
	// DefaultFields is five times what the largest command has.
	DefaultFields = 128
	// DefaultName is four times the longest name of the protocol.
	DefaultName = 128
)

const (
	formJSON   = 0
	formBinary = 1

	maxHeader24 = 1<<24 - 1 // the length of a header has 24 bits
	maxDepth    = 8         // of JSON in a header
)

var formNames = [...]string{formJSON: "JSON", formBinary: "binary"}

func (l Limits) withDefaults() Limits {
	if l.Frame <= 0 {
		l.Frame = DefaultFrame
	}
	if l.Header <= 0 {
		l.Header = DefaultHeader
	}
	if l.Fields <= 0 {
		l.Fields = DefaultFields
	}
	if l.Name <= 0 {
		l.Name = DefaultName
	}
	return l
}

// FrameError says that a length or the form of a frame is impossible or beyond
// a limit. The connection cannot be used any more.
type FrameError struct {
	// What has the size: frame, header, form, or a part of a header.
	What string
	// Size was seen; between Least and Most is possible.
	Size, Least, Most int64
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("%s of %d, between %d and %d is possible", e.What, e.Size, e.Least, e.Most)
}

// headerSize takes form and length of the header out of the first word of a
// frame of total bytes. l has no zeros.
func headerSize(mark uint32, total int, l Limits) (int, error) {
	if form := mark >> 24; form > formBinary {
		return 0, &FrameError{What: "form of header", Size: int64(form), Most: formBinary}
	}
	size := int(mark & maxHeader24)
	if most := min(l.Header, total-4); size > most {
		return 0, &FrameError{What: "header", Size: int64(size), Most: int64(most)}
	}
	return size, nil
}

const (
	readLeast = 4 << 10  // first buffer; an idle connection costs no more
	readMore  = 64 << 10 // largest buffer for the sake of fewer reads
	readKeep  = 1 << 20  // largest buffer that is used again, by whoever needs one
	emptyRead = 100      // reads of nothing in a row that end in io.ErrNoProgress, as in bufio
)

// Reader cuts a stream into frames. Memory grows with what has arrived, not
// with what a length promises: at most twice as much, plus 4 KiB. A reader that
// waits for a frame keeps 64 KiB at the most.
type Reader struct {
	r     io.Reader
	l     Limits
	buf   []byte
	start int // of what Next has not handed out yet
	end   int // of what has arrived
	err   error
}

// NewReader makes a reader of r. It owns what it has read ahead.
func NewReader(r io.Reader, l Limits) *Reader { return &Reader{r: r, l: l.withDefaults()} }

// Next answers the content of the next frame, ready for [Decode]. It is valid
// until the next call. The error is io.EOF at the end of a frame,
// io.ErrUnexpectedEOF within one, a [*FrameError] for a bad length or form of
// header, which is final, or what the stream answered: after a timeout Next may
// be called again and loses nothing.
func (r *Reader) Next() ([]byte, error) {
	for {
		size, err := r.size()
		if err != nil {
			return nil, err
		}
		if size > 0 && r.end-r.start >= size {
			frame := r.buf[r.start+4 : r.start+size : r.start+size]
			r.start += size
			return frame, nil
		}
		if err := r.fill(size); err != nil {
			if errors.Is(err, io.EOF) && r.end > r.start {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// Ready reports whether Next has an answer without reading from the stream, so
// that a server can put its responses together before it writes them.
func (r *Reader) Ready() bool {
	size, err := r.size()
	return err != nil || size > 0 && r.end-r.start >= size
}

// Buffered is how many bytes of further frames have arrived. A stream may ask
// for it while it is being read: with 0 the reader waits for a new frame.
func (r *Reader) Buffered() int { return r.end - r.start }

// Size is the size of the frame that Next waits for in bytes, its length
// included; 0 while that is not known. A stream may ask for it while it is being
// read.
func (r *Reader) Size() int {
	n, err := r.size()
	if err != nil {
		return 0
	}
	return n
}

// size answers the size of the next frame, length included, 0 if not enough of
// it has arrived. A bad length is found with the first four bytes.
func (r *Reader) size() (int, error) {
	b := r.buf[r.start:r.end]
	if len(b) < 4 {
		return 0, nil
	}
	total := int64(int32(binary.BigEndian.Uint32(b)))
	if total < 4 || total > int64(r.l.Frame) {
		return 0, &FrameError{What: "frame", Size: total, Least: 4, Most: int64(r.l.Frame)}
	}
	if len(b) >= 8 {
		if _, err := headerSize(binary.BigEndian.Uint32(b[4:]), int(total), r.l); err != nil {
			return 0, err
		}
	}
	return 4 + int(total), nil
}

// fill reads once, having made room; size is that of the frame that is being
// read, 0 if it is not known.
func (r *Reader) fill(size int) error {
	if err := r.err; err != nil {
		r.err = nil
		return err
	}
	r.makeRoom(size)
	for range emptyRead {
		n, err := r.r.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			return fmt.Errorf("read frame: the stream answered %d bytes for %d", n, len(r.buf)-r.end)
		}
		r.end += n
		if n > 0 {
			r.err = err // after what came with it
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom leaves room behind end. The buffer doubles only when it is full,
// so a length that was merely promised costs nothing.
func (r *Reader) makeRoom(size int) {
	held, full := r.end-r.start, r.end == len(r.buf)
	switch {
	case len(r.buf) == 0:
		r.move(readLeast)
	case len(r.buf) > readMore && held < readMore && size <= readMore:
		r.move(readMore)
	case full && len(r.buf) < readMore: // more comes at once than a buffer holds
		r.move(2 * len(r.buf))
	case full && r.start == 0: // then size > len(r.buf)
		r.move(grown(len(r.buf), size))
	case full, held == 0, r.start+size > len(r.buf):
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, held
	}
}

func (r *Reader) move(room int) {
	held := r.end - r.start
	b := takeBuffer(room)
	copy(b, r.buf[r.start:r.end])
	giveBuffer(r.buf)
	r.buf, r.start, r.end = b, 0, held
}

// grown is the size of the buffer behind a full one: twice as large, or as large
// as the frame if no other one could use it.
func grown(full, size int) int {
	if 2*full <= readKeep {
		return 2 * full
	}
	return min(2*full, size)
}

// buffers are those between readMore and readKeep that no reader needs now, of
// twice the size each. They are not each reader's own, because most wait.
var buffers [4]sync.Pool //nolint:gochecknoglobals // a pool has no state

// bufferKind is the pool for buffers of a size; -1 for none.
func bufferKind(size int) int {
	for i := range buffers {
		if size == readMore<<(i+1) {
			return i
		}
	}
	return -1
}

func takeBuffer(size int) []byte {
	if i := bufferKind(size); i >= 0 {
		if b, ok := buffers[i].Get().(*[]byte); ok {
			return *b
		}
	}
	return make([]byte, size)
}

// giveBuffer takes a buffer that nobody refers to.
func giveBuffer(b []byte) {
	if i := bufferKind(len(b)); i >= 0 {
		buffers[i].Put(&b)
	}
}
