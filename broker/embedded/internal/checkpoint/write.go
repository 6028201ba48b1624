package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// pieceSize is how much is written at once.
const pieceSize = 1 << 20

// Write makes payload the checkpoint of position pos, durable; one of that
// position is replaced. The log must be durable up to pos before: a checkpoint
// of what is lost would be taken for the truth once the log is as long again.
//
// After that it removes all but this one and the newest before it; those
// beyond pos are of a log that was longer once. If that fails the error
// matches [ErrTidy]. After any other error those of before are still there.
func Write(fs vfs.FS, k Kind, store uint64, pos int64, payload []byte) error {
	if pos < 0 {
		return fmt.Errorf("write checkpoint: position %d is negative", pos)
	}
	name := k.Name(pos)
	if err := writeFile(fs, name, encodeHeader(store, pos, len(payload)), payload); err != nil {
		return fmt.Errorf("write checkpoint %s: %w", name, err)
	}
	if err := tidy(fs, k, pos); err != nil {
		return fmt.Errorf("after checkpoint %s was written: %w: %w", name, ErrTidy, err)
	}
	return nil
}

// writeFile makes name hold header, payload and checksum, durable, or leaves
// what it held.
func writeFile(fs vfs.FS, name string, header, payload []byte) error {
	tmp := name + tmpSuffix
	if err := fs.Remove(tmp); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	f, err := fs.Create(tmp)
	if err != nil {
		return err
	}
	err = writeTo(f, header, payload)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(tmp, name)
	}
	if err != nil {
		// Without space, what was written must not take some. A leftover is
		// removed by the next Write.
		if gone := fs.Remove(tmp); gone != nil && !vfs.IsNotExist(gone) {
			err = errors.Join(err, gone)
		}
		return err
	}
	return fs.SyncDir(".")
}

// writeTo writes in pieces, so that a large payload is not copied as a whole.
func writeTo(f vfs.File, header, payload []byte) error {
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(crc32.Checksum(header, table), table, payload)
	b := make([]byte, 0, min(pieceSize, len(header)+len(payload)+crcSize))
	b = append(b, header...)
	for off, sealed := int64(0), false; ; b = b[:0] {
		n := copy(b[len(b):cap(b)], payload)
		b, payload = b[:len(b)+n], payload[n:]
		if len(payload) == 0 && cap(b)-len(b) >= crcSize {
			b, sealed = binary.BigEndian.AppendUint32(b, crc), true
		}
		if _, err := f.WriteAt(b, off); err != nil || sealed {
			return err
		}
		off += int64(len(b))
	}
}

// tidy removes all checkpoints but that of pos and the newest before it, and
// what a crash has left of others.
func tidy(fs vfs.FS, k Kind, pos int64) error {
	names, err := fs.List(".")
	if err != nil {
		return err
	}
	all, err := k.list(fs)
	if err != nil {
		return err
	}
	before := int64(-1)
	for _, p := range all { // newest first
		if p < pos {
			before = p
			break
		}
	}
	var errs []error
	for _, name := range names {
		p, temporary, ok := k.parseAny(name)
		if !ok || !temporary && (p == pos || p == before) {
			continue
		}
		if err := fs.Remove(name); err != nil && !vfs.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
