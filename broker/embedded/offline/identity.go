package offline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Where the numbers are, in every version of a manifest and in a frame.
const (
	manifestLen      = 80
	manifestVersion  = 4
	manifestStore    = 16
	manifestStart    = 32
	frameHeaderLen   = 38
	frameHeaderStore = 10
)

// identity is what must be known of a store before its frames are judged.
type identity struct {
	store   uint64
	known   bool // the store is
	version int  // of the manifest, 0 without one
	start   int64
}

var errFirst = errors.New("the first frame was read")

// identify reads the manifest that is in use, or without one the first frame.
func identify(fs vfs.FS, f files) (id identity, err error) {
	var first *commitlog.Frame
	report, err := commitlog.Inspect(fs, commitlog.Visitor{Frame: func(fr commitlog.Frame) error {
		first = &commitlog.Frame{Pos: fr.Pos, Base: fr.Base}
		return errFirst
	}})
	if err != nil && !errors.Is(err, errFirst) {
		return id, err
	}
	older := false // manifest: it may not know the last trim
	for _, d := range report.Damage {
		older = older || d.File == currentName || strings.HasPrefix(d.File, manifestPrefix)
	}
	switch {
	case report.Manifest != "":
		b := make([]byte, manifestLen)
		if err := readAt(fs, report.Manifest, b, 0); err != nil {
			return id, err
		}
		id.version = int(binary.BigEndian.Uint16(b[manifestVersion:]))
		id.store, id.known = binary.BigEndian.Uint64(b[manifestStore:]), true
		id.start = int64(binary.BigEndian.Uint64(b[manifestStart:]))
	case first != nil:
		b := make([]byte, frameHeaderLen)
		if err := readAt(fs, segmentName(first.Base), b, first.Pos-first.Base); err != nil {
			return id, err
		}
		id.store, id.known = binary.BigEndian.Uint64(b[frameHeaderStore:]), true
	}
	if older && len(f.segments) > 0 {
		id.start = max(id.start, f.segments[0])
	}
	return id, nil
}

// readAt fills b from a file.
func readAt(fs vfs.FS, name string, b []byte, off int64) error {
	f, err := fs.OpenRead(name)
	if err != nil {
		return err
	}
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read %d bytes of %s at %d: %w", len(b), name, off, err)
	}
	return nil
}
