package processes

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// skewVariable names the file from which a skewed program reads by how many
// seconds its wall clock is wrong.
const skewVariable = "SLUICE_CLOCK_SKEW"

// skewSource goes into package time. The file is mapped, so a change shows at
// once and costs a read of memory.
const skewSource = `package time

import (
	"syscall"
	"unsafe"
)

var skew *int64

func init() {
	name, ok := syscall.Getenv("` + skewVariable + `")
	if !ok {
		return
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic("open the file of the skew: " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("map the file of the skew: " + err.Error())
	}
	skew = (*int64)(unsafe.Pointer(&page[0]))
}

func skewed(sec int64) int64 {
	if skew != nil {
		sec += *skew
	}
	return sec
}
`

// What time.Now reads from the runtime, and the same with an error.
var (
	readsClock = []byte("\tsec, nsec, mono := runtimeNow()\n")
	readsSkew  = []byte("\tsec, nsec, mono := runtimeNow()\n\tsec = skewed(sec)\n")
)

// buildSkewed builds this test binary with a wall clock that can be set wrong
// while it runs. The product is not changed, and monotonic time is not touched.
func buildSkewed(t *testing.T) string {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("find GOROOT: %v", err)
	}
	timeDir := filepath.Join(string(bytes.TrimSpace(goroot)), "src", "time")
	original := filepath.Join(timeDir, "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatalf("read the source of package time: %v", err)
	}
	changed := bytes.Replace(source, readsClock, readsSkew, 1)
	if bytes.Equal(changed, source) || bytes.Index(source, readsClock) < bytes.Index(source, []byte("\nfunc Now() Time {")) {
		t.Fatalf("time.Now of this Go release does not read the clock by %q any more: adapt readsClock to %s", bytes.TrimSpace(readsClock), original)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for name, content := range map[string][]byte{"time.go": changed, "sluice_skew.go": []byte(skewSource)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(timeDir, name)] = path
	}
	overlay := filepath.Join(dir, "overlay.json")
	encoded, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "skewed.test")
	began := time.Now()
	if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build with a skewed clock: %v\n%s", err, out)
	}
	t.Logf("built with a skewed clock within %v", time.Since(began).Round(time.Second))
	return binary
}

// wrongClock is the file that skewed programs read.
type wrongClock struct {
	t    *testing.T
	path string
}

func newWrongClock(t *testing.T) *wrongClock {
	c := &wrongClock{t: t, path: filepath.Join(t.TempDir(), "skew")}
	c.set(0)
	return c
}

// set changes the clock of every program that reads the file, in whole seconds.
func (c *wrongClock) set(by time.Duration) {
	c.t.Helper()
	b := binary.LittleEndian.AppendUint64(nil, uint64(int64(by/time.Second)))
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		c.t.Fatalf("set the clock: %v", err)
	}
	if err := f.Close(); err != nil {
		c.t.Fatal(err)
	}
}
