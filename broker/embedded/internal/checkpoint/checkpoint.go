// Package checkpoint keeps snapshots of state that follows from the log, so
// that opening a store need not read the log from its start. What a snapshot
// says is the caller's: it is a string of bytes that belongs to a position.
//
// # Files
//
// The checkpoint of position P is the file "STATE-", or the [Kind] it is of, and P in 20 digits, in the
// root of the file system. Numbers are big endian.
//
//	offset  size  content
//	     0     4  magic, "SLCP"
//	     4     2  version, 1
//	     6     2  0
//	     8     8  identity of the store
//	    16     8  position
//	    24     8  length n of the payload
//	    32     n  payload
//	  32+n     4  CRC-32C of all before
//
// A file is made under its name and ".tmp", synced, renamed, and the directory
// is synced: under its name it is complete. It never changes. Two are kept, so
// that one that cannot be read, or that does not go with the other files of
// the store, leaves another.
//
// Nothing here may run beside itself on one file system.
package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const (
	magic   = 0x534C4350
	version = 1

	headerSize = 32
	crcSize    = 4

	tmpSuffix = ".tmp"
	digits    = 20
)

// Kind is the beginning of the names of files that belong together.
type Kind string

// The kinds of a store.
const (
	// State is a checkpoint: it saves reading the log up to its position.
	State Kind = "STATE-"
	// Base is what the removed part of a log had said.
	Base Kind = "BASE-"
)

// Name is the name of the file of position pos.
func (k Kind) Name(pos int64) string { return fmt.Sprintf("%s%0*d", string(k), digits, pos) }

// Errors that callers branch on; what is returned wraps them.
var (
	// ErrNone: there is no checkpoint that can be used.
	ErrNone = errors.New("no usable checkpoint")
	// ErrNotAccepted: the caller did not accept the checkpoint.
	ErrNotAccepted = errors.New("not accepted")
	// ErrDamaged: the file is not what was written, or of another store.
	ErrDamaged = errors.New("damaged checkpoint")
	// ErrVersion: a newer program wrote the file.
	ErrVersion = errors.New("unknown format of a checkpoint")
	// ErrTidy: the checkpoint is written, durable, but an old one could not
	// be removed. The next [Write] tries again.
	ErrTidy = errors.New("an old checkpoint could not be removed")
)

func (k Kind) parse(name string) (pos int64, ok bool) {
	s, ok := strings.CutPrefix(name, string(k))
	if !ok || len(s) != digits || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	pos, err := strconv.ParseInt(s, 10, 64)
	return pos, err == nil
}

// parseAny also knows what a crash leaves.
func (k Kind) parseAny(name string) (pos int64, temporary, ok bool) {
	name, temporary = strings.CutSuffix(name, tmpSuffix)
	pos, ok = k.parse(name)
	return pos, temporary, ok
}

// list answers the positions of the files there are, newest first.
func (k Kind) list(fs vfs.FS) ([]int64, error) {
	names, err := fs.List(".")
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var all []int64
	for _, name := range names {
		if pos, ok := k.parse(name); ok {
			all = append(all, pos)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func encodeHeader(store uint64, pos int64, n int) []byte {
	be := binary.BigEndian
	b := make([]byte, 0, headerSize)
	b = be.AppendUint32(b, magic)
	b = be.AppendUint16(b, version)
	b = be.AppendUint16(b, 0)
	b = be.AppendUint64(b, store)
	b = be.AppendUint64(b, uint64(pos))
	return be.AppendUint64(b, uint64(n))
}

// plausible tells whether a file of that size may begin like that. Other
// versions may have another length.
func plausible(head []byte, size int64) bool {
	be := binary.BigEndian
	if be.Uint32(head) != magic {
		return false
	}
	return be.Uint16(head[4:]) != version || be.Uint64(head[24:]) == uint64(size-headerSize-crcSize)
}

// decode verifies a whole file and answers its payload, which shares memory
// with b.
func decode(b []byte, store uint64, pos int64) ([]byte, error) {
	be := binary.BigEndian
	if len(b) < headerSize+crcSize || be.Uint32(b) != magic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	end := len(b) - crcSize
	if be.Uint32(b[end:]) != checksum(b[:end]) {
		return nil, fmt.Errorf("%w: the checksum does not match", ErrDamaged)
	}
	if v := be.Uint16(b[4:]); v != version || be.Uint16(b[6:]) != 0 {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", ErrVersion, v, version)
	}
	switch {
	case be.Uint64(b[8:]) != store:
		return nil, fmt.Errorf("%w: it belongs to store %x, not to %x", ErrDamaged, be.Uint64(b[8:]), store)
	case int64(be.Uint64(b[16:])) != pos:
		return nil, fmt.Errorf("%w: it is of position %d", ErrDamaged, int64(be.Uint64(b[16:])))
	case be.Uint64(b[24:]) != uint64(end-headerSize):
		return nil, fmt.Errorf("%w: it holds %d bytes in place of %d", ErrDamaged, end-headerSize, be.Uint64(b[24:]))
	}
	return b[headerSize:end:end], nil
}
