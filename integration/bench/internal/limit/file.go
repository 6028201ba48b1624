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

// logSize is the file that syncs wrap around in, so that they meet blocks that
// were written before.
const logSize = 128 << 20

// writtenLog makes a file of logSize bytes whose blocks are written and synced.
func writtenLog(dir string) (*os.File, error) {
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < logSize && err == nil; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros, at)
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		return nil, errors.Join(fmt.Errorf("fill log: %w", err), f.Close())
	}
	return f, nil
}

// Writes is one system call a message into a growing file, under one lock.
type Writes struct {
	mu   sync.Mutex
	file *os.File
	body []byte
	rec  []byte
	at   int64
}

// NewWrites is a [measure.Publisher] in dir.
func NewWrites(dir string) (*Writes, error) {
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	return &Writes{file: f, body: measure.Body(), rec: make([]byte, RecordSize)}, nil
}

// Publish writes one record.
func (w *Writes) Publish(int) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.file.WriteAt(w.rec[:put(w.rec, w.body)], w.at)
	w.at += int64(n)
	return 1, err
}

// Close closes the file.
func (w *Writes) Close() error { return w.file.Close() }

// Fdatasync is one record and one fdatasync a call, for one worker.
type Fdatasync struct {
	file *os.File
	body []byte
	rec  []byte
	at   int64
}

// NewFdatasync is a [measure.Publisher] in dir.
func NewFdatasync(dir string) (*Fdatasync, error) {
	f, err := writtenLog(dir)
	if err != nil {
		return nil, err
	}
	return &Fdatasync{file: f, body: measure.Body(), rec: make([]byte, RecordSize)}, nil
}

// Publish writes and syncs one record.
func (s *Fdatasync) Publish(int) (int, error) {
	if s.at+RecordSize > logSize {
		s.at = 0
	}
	n, err := s.file.WriteAt(s.rec[:put(s.rec, s.body)], s.at)
	if err != nil {
		return 0, err
	}
	s.at += int64(n)
	return 1, unix.Fdatasync(int(s.file.Fd()))
}

// Close closes the file.
func (s *Fdatasync) Close() error { return s.file.Close() }
