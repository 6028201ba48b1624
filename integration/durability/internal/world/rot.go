package world

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// FileKind is the kind of a file of a store by its name.
func FileKind(name string) string {
	switch i := strings.LastIndexByte(name, '.'); {
	case i > 0:
		return name[i:]
	case strings.IndexByte(name, '-') > 0:
		return name[:strings.IndexByte(name, '-')]
	default:
		return name
	}
}

// Files lists the files of a disk by kind.
func Files(m *vfs.Mem) map[string][]string {
	out := map[string][]string{}
	names, _ := m.List(".") // a Mem has a root
	for _, name := range names {
		if _, err := m.Size(name); err == nil {
			out[FileKind(name)] = append(out[FileKind(name)], name)
		}
	}
	return out
}

// Damage is what was done to one file.
type Damage struct {
	File     string
	What     string
	From, To int64 // bytes of the file that differ at most
}

// String names the file and the bytes.
func (d Damage) String() string {
	return fmt.Sprintf("%s of %s, bytes %d to %d", d.What, d.File, d.From, d.To)
}

// Rot damages one file of m: of a random kind, at a random place, mostly where
// there is something to damage, and often in the header of a frame of the log,
// which frames lists by their positions.
func Rot(m *vfs.Mem, rng *rand.Rand, frames []int64) (d Damage, err error) {
	files := Files(m)
	var kinds []string
	for k := range files {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	of := files[kinds[rng.IntN(len(kinds))]]
	name, at := of[rng.IntN(len(of))], int64(-1)
	if len(frames) > 0 && rng.IntN(3) == 0 {
		name, at = locate(files[".log"], frames[rng.IntN(len(frames))]+rng.Int64N(frameHeader))
	}
	f, err := m.OpenReadWrite(name)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := content(f)
	if err != nil {
		return d, err
	}
	end := len(b)
	if used := len(bytes.TrimRight(b, "\x00")); rng.IntN(10) > 0 {
		end = used
	}
	if end == 0 {
		return Damage{File: name, What: "nothing"}, nil
	}
	if at < 0 || at >= int64(len(b)) {
		at = int64(rng.IntN(end))
	}
	d = Damage{File: name, From: at, To: at + 1}
	switch rng.IntN(3) {
	case 0:
		d.What = "bit flip"
		_, err = f.WriteAt([]byte{b[at] ^ 1<<rng.IntN(8)}, at)
	case 1:
		d.What, d.To = "truncation", int64(len(b))
		err = f.Truncate(at)
	default:
		d.What, d.To = "zeros", min(at+1+rng.Int64N(2048), int64(len(b)))
		_, err = f.WriteAt(make([]byte, d.To-at), at)
	}
	return d, errors.Join(err, f.Sync(), m.SyncDir("."))
}

// frameHeader is about the length of the header of a frame.
const frameHeader = 40

// Locate finds the segment of m that holds a position of the log, and where in
// it.
func Locate(m *vfs.Mem, pos int64) (name string, offset int64) {
	return locate(Files(m)[".log"], pos)
}

// locate finds the segment, of those named, that holds a position of the log.
func locate(segments []string, pos int64) (name string, offset int64) {
	slices.Sort(segments)
	var base int64
	for _, s := range segments {
		if b := SegmentBase(s); b <= pos {
			name, base = s, b
		}
	}
	return name, pos - base
}

// SegmentBase is where in the log a segment begins, by its name; -1 for other
// files.
func SegmentBase(name string) int64 {
	digits, ok := strings.CutSuffix(name, ".log")
	if n, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
		return n
	}
	return -1
}

func content(f vfs.File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if _, err = f.ReadAt(b, 0); errors.Is(err, io.EOF) {
		err = nil
	}
	return b, err
}

// ReadFile answers the content of a file of m.
func ReadFile(m *vfs.Mem, name string) (b []byte, err error) {
	f, err := m.OpenRead(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return content(f)
}

// WriteFile makes or replaces a file of m, durable.
func WriteFile(m *vfs.Mem, name string, b []byte) error {
	if err := m.Remove(name); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	f, err := m.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Truncate(int64(len(b))), f.Sync(), f.Close(), m.SyncDir("."))
}

// Copy answers an independent copy of all that m holds.
func Copy(m *vfs.Mem) *vfs.Mem { return m.CrashClone(vfs.CrashOptions{Keep: 1}) }
