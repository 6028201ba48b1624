package remoting

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Compression is a way to compress bodies; its numbers are those in the system
// flag of a message.
type Compression int32

// The ways to compress.
const (
	// CompressionLZ4 is the LZ4 frame format.
	CompressionLZ4 Compression = 1
	// CompressionZSTD is a zstd frame.
	CompressionZSTD Compression = 2
	// CompressionZLIB is a stream after RFC 1950, what every client reads;
	// Apache's Go client reads no other.
	CompressionZLIB Compression = 3
)

// String is the name of the format. Clients that give none mean zlib.
func (c Compression) String() string {
	switch c {
	case CompressionLZ4:
		return "LZ4"
	case CompressionZSTD:
		return "zstd"
	case CompressionZLIB, 0:
		return "zlib"
	}
	return "format " + strconv.Itoa(int(c))
}

// CompressionLevel is the level that Apache's producers use.
const CompressionLevel = 5

// Limits of [Inflate].
const (
	// MaxInflated is eight times the largest message of a stock broker.
	MaxInflated = 32 << 20
	// MaxRatio is how many times its compressed size a body may have. Text
	// stays below 20.
	MaxRatio = 200
	// freeInflated is always granted: short bodies of one repeated byte go
	// beyond every ratio and do no harm.
	freeInflated = 64 << 10
	// maxWindow is what the zstd format asks every decoder to support.
	maxWindow = 8 << 20
)

// Errors of compression; those that are returned wrap them with details.
var (
	// ErrInflateLimit: the body is larger than allowed.
	ErrInflateLimit = errors.New("larger than allowed")
	// ErrCompression: there is no such way to compress.
	ErrCompression = errors.New("no such compression")
)

// SysFlag is what a message that is compressed this way has in its system flag.
func (c Compression) SysFlag() int32 {
	return message.SysCompressed | int32(c)<<message.SysCompressionShift
}

// The tables of encoders and decoders are large: hundreds of KiB. They are
// used again; that is all that is shared.
var (
	zlibReaders sync.Pool
	zstdReaders = sync.Pool{New: func() any {
		// With one at a time a decoder has no goroutines; lowmem has it grow
		// with what is decoded.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			return err
		}
		return d
	}}
	lz4Readers = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
)

// Compress compresses b; a level below 1 is [CompressionLevel]. The result may
// be larger than b. LZ4 has one level only.
func Compress(kind Compression, level int, b []byte) ([]byte, error) {
	if level < 1 {
		level = CompressionLevel
	}
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch kind {
	case CompressionLZ4:
		w = lz4.NewWriter(&out)
	case CompressionZSTD:
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
	case CompressionZLIB, 0:
		w, err = zlib.NewWriterLevel(&out, min(level, zlib.BestCompression))
	default:
		err = ErrCompression
	}
	if err != nil {
		return nil, fmt.Errorf("compress body by %v: %w", kind, err)
	}
	_, err = w.Write(b)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("compress body by %v: %w", kind, err)
	}
	return out.Bytes(), nil
}

// Inflate answers the body of a message with that system flag: b itself if it
// is not compressed, else what it stands for, with memory of its own. It is
// refused with an error that wraps [ErrInflateLimit] if it has more than limit
// bytes, of which [MaxInflated] is the default and the most, or more than
// [MaxRatio] times the size of b and 64 KiB. No more than twice that is
// allocated, besides the tables of the decoder.
func Inflate(sysFlag int32, b []byte, limit int) ([]byte, error) {
	if sysFlag&message.SysCompressed == 0 {
		return b, nil
	}
	if limit <= 0 || limit > MaxInflated {
		limit = MaxInflated
	}
	limit = int(min(int64(limit), max(freeInflated, MaxRatio*int64(len(b)))))
	kind := Compression(sysFlag >> message.SysCompressionShift & message.SysCompressionMask)
	out, err := inflate(kind, b, limit)
	if err != nil {
		return nil, fmt.Errorf("inflate body of %d bytes by %v to at most %d: %w", len(b), kind, limit, err)
	}
	return out, nil
}

func inflate(kind Compression, b []byte, limit int) ([]byte, error) {
	in := bytes.NewReader(b)
	switch kind {
	case CompressionLZ4:
		r := lz4Readers.Get().(*lz4.Reader)
		defer lz4Readers.Put(r)
		r.Reset(in)
		return readUpTo(r, limit, len(b))
	case CompressionZSTD:
		r, ok := zstdReaders.Get().(*zstd.Decoder)
		if !ok {
			return nil, ErrCompression // its options are constants and valid
		}
		defer zstdReaders.Put(r)
		if err := r.Reset(in); err != nil {
			return nil, err
		}
		out, err := readUpTo(r, limit, len(b))
		return out, errors.Join(err, r.Reset(nil))
	case CompressionZLIB, 0:
		r, _ := zlibReaders.Get().(io.ReadCloser)
		var err error
		if r == nil {
			r, err = zlib.NewReader(in)
		} else {
			err = r.(zlib.Resetter).Reset(in, nil)
		}
		if err != nil {
			return nil, err
		}
		defer zlibReaders.Put(r)
		return readUpTo(r, limit, len(b))
	default:
		return nil, ErrCompression
	}
}

// readUpTo reads r to its end; memory grows with what was read.
func readUpTo(r io.Reader, limit, size int) ([]byte, error) {
	out := make([]byte, 0, min(limit, max(512, 3*size)))
	for {
		if len(out) == cap(out) {
			if len(out) == limit {
				return out, atEnd(r)
			}
			more := make([]byte, len(out), min(limit, 2*cap(out)))
			copy(more, out)
			out = more
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// atEnd reports anything that r has still got as too much.
func atEnd(r io.Reader) error {
	var one [1]byte
	for range emptyRead {
		n, err := r.Read(one[:])
		switch {
		case n > 0:
			return ErrInflateLimit
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}
