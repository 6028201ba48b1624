package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// calmDirty is how many dirty bytes a case may find left by the one before.
	calmDirty = 16 << 20
	// calmOthers is how many cores others may use when a case begins.
	calmOthers = 0.25
)

// Scratch is a folder for the stores of one run.
type Scratch struct {
	root string
	// patience is what may still be waited for others in this run.
	patience time.Duration
}

// NewScratch makes an empty folder in dir, named after the program. A run waits at most patience for
// others to leave the machine alone.
func NewScratch(dir, program string, patience time.Duration) (*Scratch, error) {
	root, err := os.MkdirTemp(dir, program+"-")
	if err != nil {
		return nil, fmt.Errorf("make scratch folder: %w", err)
	}
	return &Scratch{root: root, patience: patience}, nil
}

// Path is a place in the folder.
func (s *Scratch) Path(name string) string { return filepath.Join(s.root, name) }

// Fresh makes an empty folder. Remove it by [Scratch.Remove].
func (s *Scratch) Fresh() (string, error) { return os.MkdirTemp(s.root, "case-") }

// Remove deletes a folder of Fresh.
func (s *Scratch) Remove(dir string) error { return os.RemoveAll(dir) }

// Close deletes everything.
func (s *Scratch) Close() error { return os.RemoveAll(s.root) }

// Free is how many bytes the file system of the folder has left.
func (s *Scratch) Free() (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.root, &st); err != nil {
		return 0, fmt.Errorf("read free space of %s: %w", s.root, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// InMemory reports whether the folder is on a file system without a disk.
func (s *Scratch) InMemory() bool {
	const tmpfs = 0x01021994
	var st syscall.Statfs_t
	return syscall.Statfs(s.root, &st) == nil && st.Type == tmpfs
}

// Calm writes dirty pages back, waits until they are on the disk and, within
// the patience of the run, until others use little of the processors, so that
// no case pays for the one before it.
func (s *Scratch) Calm() {
	syscall.Sync()
	for end := time.Now().Add(20 * time.Second); dirty() > calmDirty && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	const look = 100 * time.Millisecond
	for s.patience > 0 {
		before := Read()
		time.Sleep(look)
		s.patience -= look
		if before.Spent().Others < calmOthers {
			return
		}
	}
}

// dirty is how many bytes wait to be written to the disk.
func dirty() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	sum := int64(0)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "Dirty" || name == "Writeback" {
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			sum += kib << 10
		}
	}
	return sum
}
