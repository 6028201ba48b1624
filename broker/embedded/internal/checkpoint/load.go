package checkpoint

import (
	"errors"
	"fmt"
	"io"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Load answers the newest checkpoint that can be read and that accept takes;
// nil takes all. accept is asked after the file was verified. Skipped says why
// newer ones were not taken, newest first; they wrap [ErrDamaged],
// [ErrVersion], [ErrNotAccepted] or what the file system says. If none is left
// the error is [ErrNone]. Nothing is removed.
func Load(fs vfs.FS, k Kind, store uint64, accept func(pos int64) bool) (pos int64, payload []byte, skipped []error, err error) {
	all, err := k.list(fs)
	if err != nil {
		return 0, nil, nil, err
	}
	for _, pos := range all {
		payload, err := read(fs, k, store, pos)
		if err == nil && accept != nil && !accept(pos) {
			err = ErrNotAccepted
		}
		if err == nil {
			return pos, payload, skipped, nil
		}
		skipped = append(skipped, fmt.Errorf("checkpoint %s: %w", k.Name(pos), err))
	}
	return 0, nil, skipped, ErrNone
}

// read reads and verifies one file.
func read(fs vfs.FS, k Kind, store uint64, pos int64) (_ []byte, err error) {
	f, err := fs.OpenRead(k.Name(pos))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	// What claims to be large must look like a checkpoint before memory is
	// taken for it.
	head := make([]byte, headerSize)
	if n, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	} else if n < headerSize || !plausible(head, size) {
		return nil, fmt.Errorf("%w: it does not begin as one of its %d bytes", ErrDamaged, size)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %d bytes: %w", size, err)
	}
	return decode(b, store, pos)
}
