package world

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// ErrPowerOff is what a disk without power answers to every change.
var ErrPowerOff = errors.New("power off")

// Survival says what of the unsynced state survives a power cut; see
// [vfs.CrashOptions].
type Survival struct {
	Name        string
	Keep, Stale float64
}

// Survivals are the ways to survive that tests go through: the worst case of
// the order of calls first.
func Survivals() []Survival {
	return []Survival{
		{"nothing", 0, 0},
		{"everything", 1, 0},
		{"half", 0.5, 0},
		{"half, stale", 0.5, 0.5},
		{"little, stale", 0.15, 1},
	}
}

// Disk is a file system in memory for one life of a store: from power on to
// power off.
type Disk struct {
	// Mem is what a running system sees.
	Mem *vfs.Mem
	// Before decides about each operation while there is power; nil lets all
	// of them pass.
	Before func(op vfs.Op) error

	mu      sync.Mutex
	left    int // changes until the power goes; negative for never
	changes int
	mode    Survival
	rng     *rand.Rand
	after   *vfs.Mem
	where   string
	when    time.Time
}

// NewDisk returns a disk with the content of m that never loses power by
// itself.
func NewDisk(m *vfs.Mem) *Disk { return &Disk{Mem: m, left: -1} }

// CutAt lets the power go in front of change n, counted from 1, of the disk's
// life, so that what a later [Disk.Crash] answers is of that instant.
func (d *Disk) CutAt(n int, mode Survival, rng *rand.Rand) {
	d.left, d.mode, d.rng = n, mode, rng
}

// FS is the disk as a broker sees it.
func (d *Disk) FS() vfs.FS { return vfs.Inject(d.Mem, d.check) }

func (d *Disk) check(op vfs.Op) error {
	d.mu.Lock()
	if op.Kind.Changes() {
		if d.after != nil {
			d.mu.Unlock()
			return ErrPowerOff
		}
		d.changes++
		if d.left > 0 && d.changes >= d.left {
			d.where = fmt.Sprintf("change %d: %s %s", d.changes, op.Kind, op.Name)
			d.when = time.Now()
			d.after = d.Mem.CrashClone(d.mode.options(d.rng))
			d.mu.Unlock()
			return ErrPowerOff
		}
	}
	before := d.Before
	d.mu.Unlock()
	if before != nil {
		return before(op)
	}
	return nil
}

func (s Survival) options(rng *rand.Rand) vfs.CrashOptions {
	return vfs.CrashOptions{Keep: s.Keep, Stale: s.Stale, Rand: rng}
}

// Dead reports whether the power went, and where.
func (d *Disk) Dead() (where string, dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.where, d.after != nil
}

// When is when the power went.
func (d *Disk) When() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.when
}

// Changes is how many changes there were.
func (d *Disk) Changes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changes
}

// Crash answers what is left: of the instant when the power went, or of now.
// From then on the old disk takes no changes.
func (d *Disk) Crash(mode Survival, rng *rand.Rand) *vfs.Mem {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.after == nil {
		d.where, d.when = "at rest", time.Now()
		d.after = d.Mem.CrashClone(mode.options(rng))
	}
	return d.after
}

// Sum is a hash of all names and contents of m, without what is derived from
// the log.
func Sum(seed maphash.Seed, m *vfs.Mem) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	names, _ := m.List(".") // a Mem has a root
	b := make([]byte, 64<<10)
	zeros := make([]byte, len(b))
	for _, name := range names {
		if strings.HasSuffix(name, ".idx") || strings.HasPrefix(name, "STATE-") {
			continue
		}
		f, err := m.OpenRead(name)
		if err != nil {
			continue // a directory
		}
		size, _ := f.Size()
		fmt.Fprintf(&h, "%s %d\n", name, size)
		for at := int64(0); at < size; {
			n, err := f.ReadAt(b, at)
			if !bytes.Equal(b[:n], zeros[:n]) {
				fmt.Fprintf(&h, "%d ", at)
				_, _ = h.Write(b[:n]) // never fails
			}
			if at += int64(n); err != nil {
				break
			}
		}
		_ = f.Close()
	}
	return h.Sum64()
}
