package commitlog

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// mapped is the writer's side of a log that is written through memory.
type mapped struct {
	tail   *tail // the last segment; nil if none is mapped
	wantAt int64 // how much of the tail is used when the keeper is told
	keeper *keeper
}

// tail is a segment in memory. The segment has no base and no name before it
// is the last one.
type tail struct {
	file vfs.File
	m    *shared
	b    []byte
	// present is how far pages have been made present, or cannot be. It belongs
	// to the goroutine that prepares segments.
	present int64
}

// populate makes pages present for what is written next, behind used. Without
// support the first write to each waits.
func (t *tail) populate(used int64) error {
	from, to := max(t.present, used), min(used+presentAhead, int64(len(t.b)))
	if from >= to {
		return nil
	}
	t.present = to
	if err := t.m.populate(from, to); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// wantStep is after how many bytes the keeper is told how much is used.
func (t *tail) wantStep() int64 { return min(presentAhead/2, int64(len(t.b)/wantPart)) }

// shared is a mapping that readers, the keeper and syncs use beside the writer,
// until it is closed.
type shared struct {
	vfs.Mapping
	mu     sync.RWMutex
	closed bool
}

// Close waits for the others, and unmaps.
func (s *shared) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.Mapping.Close()
}

// read copies what lies at off into p. It reports false if that is not to be
// had here; then the file has it.
func (s *shared) read(p []byte, off int64) (ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false
	}
	b := s.Bytes()
	if off < 0 || off+int64(len(p)) > int64(len(b)) {
		return false
	}
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if recover() != nil {
			ok = false // reading the file tells why
		}
	}()
	copy(p, b[off:])
	return true
}

func (s *shared) populate(from, to int64) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil
	}
	return s.Populate(from, to)
}

func (s *shared) release(from, to int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.closed {
		s.Release(from, to)
	}
}

// live is the last segment as readers see it.
type live struct {
	base int64
	m    *shared
}

// show lets readers have the last segment from memory: what was written just
// now is read most often, and a copy costs a third of a call of the system.
func (l *Log) show(base int64, t *tail) { l.live.Store(&live{base, t.m}) }

// wantPart of a segment is filled before the next one is made: early enough to
// have it in time, late enough to leave small stores small.
const wantPart = 16

// presentAhead is how many bytes in front of the writer are made present: enough
// for some milliseconds at the rate of a fast disk, and no more, since a sync of
// the last segment writes them, and the writer waits for each page again.
const presentAhead = 8 << 20

// startMapped makes the log write through memory if its FS can.
func (l *Log) startMapped() error {
	m := &mapped{keeper: newKeeper(l)}
	var err error
	if segs := l.segments(); len(segs) > 0 {
		m.tail, err = mapTail(segs[len(segs)-1].file)
	} else {
		err = l.probe()
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		l.opts.Logger.Info("the log is not written through memory", slog.Any("reason", err))
		return nil
	case err != nil:
		return err
	}
	if m.tail != nil {
		l.show(l.base, m.tail)
		m.wantAt = l.next - l.base + m.tail.wantStep()
	}
	l.mapped = m
	m.keeper.start()
	return nil
}

// mapTail maps a whole file; an empty one has no mapping.
func mapTail(f vfs.File) (*tail, error) {
	mapper, ok := f.(vfs.Mapper)
	if !ok {
		return nil, fmt.Errorf("map segment: %w", errors.ErrUnsupported)
	}
	size, err := f.Size()
	if err != nil || size == 0 {
		return nil, err
	}
	m, err := mapper.Map(size)
	if err != nil {
		return nil, err
	}
	return &tail{file: f, m: &shared{Mapping: m}, b: m.Bytes()}, nil
}

// probe maps a file that is surely there, to learn whether files can be.
func (l *Log) probe() error {
	f, err := l.opts.FS.OpenReadWrite(currentName)
	if err != nil {
		return err
	}
	t, err := mapTail(f)
	if t != nil {
		err = t.m.Close()
	}
	return errors.Join(err, f.Close())
}

// stopMapped ends what runs beside the writer. Nothing is appended any more.
func (l *Log) stopMapped() error {
	if l.mapped == nil {
		return nil
	}
	err := l.mapped.keeper.stop()
	if t := l.mapped.tail; t != nil {
		err = errors.Join(err, t.m.Close())
		l.mapped.tail = nil
	}
	return err
}

// appendMapped writes the frame of h where it belongs.
func (l *Log) appendMapped(h header, parts [][]byte) error {
	m, at, size := l.mapped, l.next-l.base, h.frameSize()
	if m.tail == nil || at+size > int64(len(m.tail.b)) || at > 0 && at+size > l.opts.SegmentBytes {
		if err := l.makeRoom(size); err != nil {
			return err
		}
		at = 0
	}
	if err := putGuarded(m.tail.b[at:at+size], h, parts); err != nil {
		return l.fail("append through memory", err)
	}
	l.next += size
	l.flushed.Store(l.next)
	if at += size; at > m.wantAt {
		m.wantAt = at + m.tail.wantStep()
		m.keeper.want(m.tail, at)
	}
	return nil
}

// putGuarded is putFrame into memory that a file system may fail to provide.
func putGuarded(b []byte, h header, parts [][]byte) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			fault, ok := p.(interface {
				error
				Addr() uintptr
			})
			if !ok {
				panic(p) //nolint:forbidigo // it is not ours to answer
			}
			err = fault
		}
	}()
	putFrame(b, h, parts)
	return nil
}

// makeRoom makes the next frame, of size bytes, begin an empty segment that
// can hold it.
func (l *Log) makeRoom(size int64) error {
	if l.next != l.base || len(l.segments()) == 0 {
		if err := l.rollMapped(); err != nil {
			return err
		}
	}
	if t := l.mapped.tail; t != nil && size <= int64(len(t.b)) {
		return nil
	}
	return l.growTail(size)
}

// rollMapped makes a prepared segment the last one. Its name is in the kernel
// before its first frame, and durable before anything in it is called so.
func (l *Log) rollMapped() error {
	m, name := l.mapped, segmentName(l.next)
	next, err := m.keeper.take()
	if err != nil {
		return l.ioError("prepare a segment", err)
	}
	if err := l.opts.FS.Rename(preparedName, name); err != nil {
		m.keeper.giveBack(next)
		return l.ioError("name segment "+name, err)
	}
	l.names.Add(1)
	l.publish(&segment{base: l.next, name: name, file: next.file})
	old := m.tail
	m.tail, l.base, m.wantAt = next, l.next, next.wantStep()
	l.show(l.base, next)
	m.keeper.full(old)
	return nil
}

// growTail makes the empty last segment large enough for one frame.
func (l *Log) growTail(size int64) error {
	segs := l.segments()
	s := segs[len(segs)-1]
	if t := l.mapped.tail; t != nil {
		l.mapped.tail = nil
		if err := t.m.Close(); err != nil {
			return l.fail("unmap "+s.name, err)
		}
	}
	err := s.file.Allocate(max(size, l.opts.SegmentBytes))
	if err == nil {
		l.mapped.tail, err = mapTail(s.file)
	}
	if err != nil {
		return l.ioError("enlarge "+s.name, err)
	}
	l.show(s.base, l.mapped.tail)
	l.mapped.wantAt = l.mapped.tail.wantStep()
	return nil
}
