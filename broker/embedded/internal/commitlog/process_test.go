package commitlog_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const (
	childDir    = "COMMITLOG_TEST_DIR"
	childMapped = "COMMITLOG_TEST_MAPPED"
)

// TestChild is the other process of TestOpen_AfterKill; alone it does nothing.
func TestChild(t *testing.T) {
	path := os.Getenv(childDir)
	if path == "" {
		t.Skip("it is started by TestOpen_AfterKill")
	}
	dir, err := vfs.Dir(path, vfs.CreateMissing)
	check(t, err)
	mapped := os.Getenv(childMapped) != ""
	l, got, _, err := openWith(commitlog.Options{FS: dir, SegmentBytes: 4096, Mapped: mapped})
	check(t, err)
	appendAll(t, l, len(got), len(got)+40, 100)
	if !mapped {
		check(t, l.Flush())
	}
	fmt.Println("flushed")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until it is killed
}

// A process that is killed loses nothing that it flushed, or appended to a
// mapped log, and its lock.
func TestOpen_AfterKill(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	dir, err := vfs.Dir(path, vfs.MustExist)
	check(t, err)
	defer func() { check(t, dir.Close()) }()
	for round := range 8 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
		child.Env = append(os.Environ(), childDir+"="+path)
		if round%4 > 1 {
			child.Env = append(child.Env, childMapped+"=1")
		}
		hold, err := child.StdinPipe()
		check(t, err)
		out, err := child.StdoutPipe()
		check(t, err)
		check(t, child.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "flushed\n" {
			t.Fatalf("the child said %q, %v", line, err)
		}
		_, _, _, err = open(dir, 4096)
		if e, ok := errors.AsType[*vfs.LockedError](err); !ok || !strings.HasPrefix(e.Holder, fmt.Sprintf("pid %d ", child.Process.Pid)) {
			t.Errorf("open beside the child: %v", err)
		}
		check(t, child.Process.Kill())
		_ = child.Wait() // it was killed
		_ = hold.Close()
		l, got, rec := mustOpen(t, dir, 4096)
		if len(got) != 40*(round+1) || rec.Clean || rec.TruncatedBytes != 0 {
			t.Fatalf("round %d: %d records, %+v", round, len(got), rec)
		}
		for i, r := range got {
			if r.payload != value(i, 100) || r.kind != commitlog.Kind(i%7) {
				t.Fatalf("record %d is %.40v", i, r)
			}
		}
		check(t, l.Close())
	}
}
