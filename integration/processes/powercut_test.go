package processes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/drivertest/history"
	"github.com/sluicemq/sluice/broker/embedded"
)

const (
	// cutsPerStore bounds the size of a store, and with it the time to read it.
	cutsPerStore = 50
	// slack is what a weak mode may be late with its sync on a busy disk.
	slack = 500 * time.Millisecond
)

// TestPowerCut takes pictures of the disk below a live file system, which is
// what a cut of the power leaves, and opens the store on each of them. What
// was answered before the picture has to be there.
//
// A picture holds every block that the file system has submitted, so the test
// finds a missing sync of a file. It does not reorder writes as the cache of a
// drive may, and it finds no missing sync of a directory.
func TestPowerCut(t *testing.T) {
	if !torture() {
		t.Skip("needs TORTURE=1, root, loop devices, mkfs.xfs and mkfs.ext4")
	}
	for _, tool := range []string{"mount", "umount", "mkfs.xfs", "mkfs.ext4"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	cuts := count(t, "CUTS", 1000, 1000, 1000)
	for _, c := range []struct {
		fs   string
		mode embedded.Sync
		cuts int
	}{
		{"ext4", embedded.SyncAlways, cuts * 2 / 5},
		{"xfs", embedded.SyncAlways, cuts * 2 / 5},
		{"ext4", embedded.SyncEvery(50 * time.Millisecond), cuts / 5},
		{"ext4", embedded.SyncNever, 10},
	} {
		t.Run(fmt.Sprint(c.fs, " ", c.mode), func(t *testing.T) { cutPower(t, newLab(t, c.fs), c.mode, max(1, c.cuts)) })
	}
}

func cutPower(t *testing.T, b *lab, mode embedded.Sync, cuts int) {
	r := seeded(t)
	began, broken, lost, checked := time.Now(), 0, 0, 0
	for done := 0; done < cuts; {
		dir := filepath.Join(b.disk, fmt.Sprint("store-", done))
		c := start(t, command{}, "worker", workerArgs{store: store{Dir: dir, Sync: time.Duration(mode)}, Seed: r.Uint64(), Pace: 2 * time.Millisecond})
		l := newLedger(t)
		c.await("ready", l.note)
		for range min(cutsPerStore, cuts-done) {
			c.work(between(r, 10*time.Millisecond, 100*time.Millisecond), l.note)
			known := l.answers // read before the cut
			cut := time.Now()
			b.cut()
			n := b.inspect(filepath.Base(dir), known, cut, mode)
			if n > 0 {
				broken++
			}
			lost += n
			checked += len(known)
			done++
		}
		c.crash(l.note)
		if len(l.wrong) > 0 {
			t.Error(l.wrong)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d cuts, %d of them lost %d answered messages of %d; %v each", cuts, broken, lost, checked, (time.Since(began) / time.Duration(cuts)).Round(time.Millisecond))
	switch {
	case mode == embedded.SyncNever && lost == 0:
		t.Error("nothing was lost without a sync: these cuts prove nothing")
	case mode != embedded.SyncNever && lost > 0:
		t.Errorf("%d of %d cuts have lost what was promised", broken, cuts)
	}
}

// lab is a disk that can be photographed: XFS on a loop device holds the file
// of the disk, on which the file system below test lives.
type lab struct {
	t     *testing.T
	fs    string
	image string // the disk
	disk  string // where its file system is mounted
	photo string
	look  string // where the photo is mounted
}

func newLab(t *testing.T, fs string) *lab {
	t.Helper()
	dir := t.TempDir()
	b := &lab{t: t, fs: fs, disk: filepath.Join(dir, "disk"), look: filepath.Join(dir, "look")}
	outer := filepath.Join(dir, "outer")
	for _, d := range []string{outer, b.disk, b.look} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.image, b.photo = filepath.Join(outer, "disk.img"), filepath.Join(outer, "photo.img")
	file := filepath.Join(dir, "outer.img")
	b.format(file, 8<<30, "mkfs.xfs", "-q", "-m", "reflink=1")
	b.mount(file, outer)
	b.format(b.image, 1<<30, "mkfs."+fs, map[string]string{"ext4": "-qF", "xfs": "-qf"}[fs])
	b.mount(b.image, b.disk)
	return b
}

// format makes a sparse file with a file system.
func (b *lab) format(file string, size int64, mkfs ...string) {
	b.t.Helper()
	f, err := os.Create(file)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.run(append(mkfs, file)...)
}

// mount mounts file for the rest of the test.
func (b *lab) mount(file, at string) {
	b.t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", file, at).CombinedOutput(); err != nil {
		b.t.Skipf("loop devices cannot be used here: %v: %s", err, out)
	}
	b.t.Cleanup(func() { b.unmount(at) })
}

// unmount takes off what is mounted at the directory; who was killed a moment
// ago may still hold it.
func (b *lab) unmount(at string) {
	b.t.Helper()
	var out []byte
	var err error
	for range 100 {
		if out, err = exec.Command("umount", at).CombinedOutput(); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Errorf("unmount %s: %v: %s", at, err, out)
}

func (b *lab) run(argv ...string) {
	b.t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// ficlone is the request FICLONE of ioctl(2) on Linux: one file becomes an
// atomic copy of another that shares its blocks.
const ficlone = 0x40049409

// cut takes a photo of the disk.
func (b *lab) cut() {
	b.t.Helper()
	b.clone(b.image, b.photo)
	b.clone(b.photo, b.spare())
}

// spare is a photo that nobody opens unless the other one shows a failure.
func (b *lab) spare() string { return b.photo + ".spare" }

func (b *lab) clone(image, to string) {
	b.t.Helper()
	from, err := os.Open(image)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = from.Close() }() // only read
	into, err := os.Create(to)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = into.Close() }() // nothing was written through it
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, into.Fd(), ficlone, from.Fd()); errno != 0 {
		b.t.Fatalf("clone %s: %v", image, errno)
	}
}

// open mounts a photo while f runs.
func (b *lab) open(photo string, f func()) {
	b.t.Helper()
	options := "loop"
	if b.fs == "xfs" {
		options += ",nouuid" // the original is mounted as well
	}
	b.run("mount", "-o", options, photo, b.look)
	defer func() {
		b.unmount(b.look)
		if err := os.Remove(photo); err != nil {
			b.t.Error(err)
		}
	}()
	f()
}

// inspect counts what the store on the photo misses of what was known. The
// first store that misses what it must not miss is kept and ends the test.
func (b *lab) inspect(name string, known []answered, cut time.Time, mode embedded.Sync) (lost int) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			b.open(b.spare(), func() { b.keep(name) })
			b.t.FailNow()
		}
	}()
	b.open(b.photo, func() { lost = b.compare(filepath.Join(b.look, name), known, cut, mode) })
	return lost
}

// keep copies a store from the photo that is mounted.
func (b *lab) keep(name string) {
	to, err := keep(b.t.Name(), filepath.Join(b.look, name))
	if err != nil {
		b.t.Logf("the store could not be kept: %v", err)
		return
	}
	b.t.Logf("the store is kept in %s", to)
}

func (b *lab) compare(dir string, known []answered, cut time.Time, mode embedded.Sync) (lost int) {
	b.t.Helper()
	found := map[place]history.Value{}
	for _, line := range start(b.t, command{}, "reader", workerArgs{store: store{Dir: dir}}).end() {
		var group, id, process string
		var lane string
		var offset int64
		var counter int
		if n, _ := fmt.Sscanf(line, "d %s %s %s %d %s %d", &id, &group, &lane, &offset, &process, &counter); n == 6 {
			found[place{lane, offset}] = history.Value{Process: process, Counter: counter}
		}
	}
	for _, a := range known {
		if got, ok := found[a.at]; ok && got != a.value {
			b.t.Errorf("%v lies at %s/%d, where %v was answered", got, a.at.lane, a.at.offset, a.value)
		} else if !ok && !(mode > 0 && cut.Sub(a.read) < time.Duration(mode)+slack) {
			if lost++; lost == 1 && mode != embedded.SyncNever {
				b.t.Errorf("%v was answered for %s/%d at least %v before the cut and is lost", a.value, a.at.lane, a.at.offset, cut.Sub(a.read))
			}
		}
	}
	return lost
}
