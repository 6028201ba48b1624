package limit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	segmentSize = 32 << 20
	// segmentsKept bounds the folder; older segments are removed.
	segmentsKept = 4
)

// segment is a mapped file.
type segment struct {
	file *os.File
	mem  []byte
}

// mapSegment makes a file of size bytes and faults all its pages in.
func mapSegment(path string, size int) (*segment, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("map segment: %w", err)
	}
	if err = unix.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("allocate %s: %w", path, err), f.Close())
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map %s: %w", path, err), f.Close())
	}
	s := &segment{f, mem}
	if err := unix.Madvise(mem, unix.MADV_POPULATE_WRITE); err != nil {
		return nil, errors.Join(fmt.Errorf("populate %s: %w", path, err), s.close())
	}
	return s, nil
}

func (s *segment) close() error { return errors.Join(unix.Munmap(s.mem), s.file.Close()) }

// Mapping is the limit of writing to the kernel's page cache: a chain of
// mapped segments, the next one faulted in by a second goroutine.
type Mapping struct {
	body  []byte
	ready chan *segment
	stop  chan struct{}
	err   error // of the supplier; read after ready is closed

	mu  sync.Mutex
	cur *segment
	at  int
}

// NewMapping is a [measure.Publisher] in dir.
func NewMapping(dir string) (*Mapping, error) {
	m := &Mapping{body: measure.Body(), ready: make(chan *segment, 1), stop: make(chan struct{})}
	go m.supply(dir)
	if m.cur = <-m.ready; m.cur == nil {
		return nil, m.err
	}
	return m, nil
}

// supply keeps one segment ready.
func (m *Mapping) supply(dir string) {
	defer close(m.ready)
	name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%06d", i)) }
	for i := 0; ; i++ {
		if i >= segmentsKept {
			if m.err = os.Remove(name(i - segmentsKept)); m.err != nil {
				return
			}
		}
		s, err := mapSegment(name(i), segmentSize)
		if m.err = err; err != nil {
			return
		}
		select {
		case m.ready <- s:
		case <-m.stop:
			m.err = s.close()
			return
		}
	}
}

// Publish appends 64 records.
func (m *Mapping) Publish(int) (int, error) {
	for range stride {
		if err := m.append(); err != nil {
			return 0, err
		}
	}
	return stride, nil
}

func (m *Mapping) append() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at+RecordSize > segmentSize {
		next := <-m.ready
		if next == nil {
			return fmt.Errorf("next segment: %w", m.err)
		}
		if err := m.cur.close(); err != nil {
			return err
		}
		m.cur, m.at = next, 0
	}
	m.at += put(m.cur.mem[m.at:], m.body)
	return nil
}

// Close unmaps everything.
func (m *Mapping) Close() error {
	close(m.stop)
	err := m.cur.close()
	for s := range m.ready {
		err = errors.Join(err, s.close())
	}
	return errors.Join(err, m.err)
}
