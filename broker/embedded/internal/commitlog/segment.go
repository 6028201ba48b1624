package commitlog

import (
	"errors"
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
	f, err := createEmpty(fsys, tmp, size)
	if err != nil {
		return nil, err
	}
	if err = fsys.Rename(tmp, name); err != nil {
		return nil, errors.Join(err, f.Close(), fsys.Remove(tmp))
	}
	if err = asSync(fsys.SyncDir(".")); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &segment{base: base, name: name, file: f}, nil
}

// createEmpty makes a file of size zeros, durable but for its name.
func createEmpty(fsys vfs.FS, name string, size int64) (vfs.File, error) {
	if err := fsys.Remove(name); err != nil && !vfs.IsNotExist(err) {
		return nil, err
	}
	f, err := fsys.Create(name)
	if err != nil {
		return nil, err
	}
	if err = f.Allocate(size); err == nil {
		err = asSync(f.Sync())
	}
	if err != nil {
		// The space matters when there is none; the name is removed by the
		// next attempt or the next Open otherwise.
		return nil, errors.Join(err, f.Close(), fsys.Remove(name))
	}
	return f, nil
}
