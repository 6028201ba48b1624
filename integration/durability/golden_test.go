package durability_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

const goldenDir = "testdata/golden"

// Files of a golden folder beside the store itself.
const (
	goldenStore  = "store"      // the files, without the zeros at their ends
	goldenSizes  = "sizes.txt"  // name and size of each
	goldenHalves = "halves.txt" // undecided half messages: id, group, handle
	goldenNow    = "now.txt"    // what can be seen at once
	goldenLater  = "later.txt"  // what can be seen when everything is due and decided
)

// TestGolden opens a store of each format that was ever released and compares
// what is in it. See the README of testdata for how folders are made.
//
// It catches a change of a format that was not meant.
func TestGolden(t *testing.T) {
	t.Parallel()
	if format := *updateGolden; format != "" {
		for _, killed := range []bool{false, true} {
			bubble(t, func(t *testing.T) { makeGolden(t, format, killed) })
		}
	}
	folders, err := filepath.Glob(filepath.Join(goldenDir, "*", "*", goldenStore))
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) == 0 {
		t.Skip("no format was released yet; see testdata/README.md")
	}
	for _, f := range folders {
		f = filepath.Dir(f)
		t.Run(strings.TrimPrefix(f, goldenDir+"/"), func(t *testing.T) {
			bubble(t, func(t *testing.T) { openGolden(t, f) })
		})
	}
}

// goldenConfig is plain, so that every version can open the folders.
func goldenConfig(disk *vfs.Mem) embedded.Config {
	c := world.Config()
	c.FS = disk
	return c
}

// makeGolden writes a folder with a store that was closed, or killed.
func makeGolden(t *testing.T, format string, killed bool) {
	w := world.New(t, world.Config())
	w.Plain = true
	w.Open()
	for _, o := range goldenScript() {
		w.Do(o)
	}
	halves := w.Undecided()
	if !killed {
		w.Shut()
	}
	disk := w.Disk().Mem.CrashClone(vfs.CrashOptions{})
	w.End()
	dir := filepath.Join(goldenDir, format, map[bool]string{false: "closed", true: "killed"}[killed])
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, h := range halves {
		text = append(text, fmt.Sprintf("%s %s %x", h.TxID, h.Group, h.Handle))
	}
	saveStore(t, dir, disk)
	save(t, filepath.Join(dir, goldenHalves), text)
	now, later := readGolden(t, disk, halves)
	save(t, filepath.Join(dir, goldenNow), now)
	save(t, filepath.Join(dir, goldenLater), later)
}

// goldenScript leaves something of everything.
func goldenScript() []world.Op {
	return append(script(), world.Op{Kind: world.Delayed, X: 4}, world.Op{Kind: world.Prepare, X: 9}, world.Op{Kind: world.Prepare, Topic: 2, X: 8})
}

// openGolden compares a folder.
func openGolden(t *testing.T, dir string) {
	disk := loadStore(t, dir)
	var halves []driver.Half
	for _, l := range load(t, filepath.Join(dir, goldenHalves)) {
		f := strings.Fields(l)
		handle, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		halves = append(halves, driver.Half{TxID: f[0], Group: f[1], Handle: handle})
	}
	now, later := readGolden(t, disk, halves)
	if diff := world.Diff(load(t, filepath.Join(dir, goldenNow)), now); diff != "" {
		t.Errorf("%s holds other things:\n%s", dir, diff)
	}
	if diff := world.Diff(load(t, filepath.Join(dir, goldenLater)), later); diff != "" {
		t.Errorf("%s, when everything is due and decided, holds other things:\n%s", dir, diff)
	}
}

// readGolden opens a copy of disk and reads everything, now and later.
func readGolden(t *testing.T, disk *vfs.Mem, halves []driver.Half) (now, later []string) {
	t.Helper()
	b, err := embedded.Open("", goldenConfig(world.Copy(disk)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	c := b.Connect("reader")
	s, err := world.Take(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range halves {
		if err := c.Extensions().Tx.Resolve(t.Context(), h, []driver.Decision{driver.Commit, driver.Rollback}[i%2]); err != nil {
			t.Fatalf("decide %s: %v", h.TxID, err)
		}
	}
	time.Sleep(3 * time.Hour)
	waitIdle()
	after, err := world.Take(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := world.Settings(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return append(s.Lines(), kept...), append(after.WithoutTimes().Lines(), kept...)
}

// saveStore writes the files of a disk without the zeros at their ends.
func saveStore(t *testing.T, dir string, disk *vfs.Mem) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, goldenStore), 0o750); err != nil {
		t.Fatal(err)
	}
	var sizes []string
	for _, names := range world.Files(disk) {
		for _, name := range names {
			b, err := world.ReadFile(disk, name)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, goldenStore, name), bytes.TrimRight(b, "\x00"), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, fmt.Sprintf("%s %d", name, len(b)))
		}
	}
	slices.Sort(sizes)
	save(t, filepath.Join(dir, goldenSizes), sizes)
}

// loadStore reads them back with their zeros.
func loadStore(t *testing.T, dir string) *vfs.Mem {
	t.Helper()
	disk := vfs.NewMem()
	for _, l := range load(t, filepath.Join(dir, goldenSizes)) {
		var name string
		var size int
		if _, err := fmt.Sscan(l, &name, &size); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, goldenStore, name))
		if err == nil {
			err = world.WriteFile(disk, name, append(b, make([]byte, size-len(b))...))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

func save(t *testing.T, name string, lines []string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\n")
}

// updateGolden names the format whose folder is to be written.
var updateGolden = flag.String("update-golden", "", "write the golden folders of this format, such as log2")
