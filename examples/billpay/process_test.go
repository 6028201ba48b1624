//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluicemq/sluice/internal/redistest"
)

// built is the program, compiled once per test run, for what must happen to a
// process: signals, kill -9, another user.
var built struct {
	once sync.Once
	err  error
}

func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the program as a process of its own, and waits for it")
	}
	built.once.Do(func() {
		if programDir, built.err = os.MkdirTemp("", "billpay-test-"); built.err != nil {
			return
		}
		built.err = os.Chmod(programDir, 0o755) // another user runs it too
		if out, err := exec.Command("go", "build", "-o", filepath.Join(programDir, "billpay"), ".").CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(programDir, "billpay")
}

// long answers how many seeds a test tries that takes minutes: those of the
// gate, or twenty.
func long(t *testing.T) int {
	t.Helper()
	switch {
	case os.Getenv("TORTURE") == "1":
		return 20
	case os.Getenv("SLUICE_LONG") == "1":
		return 8
	}
	t.Skip("takes minutes; set SLUICE_LONG=1")
	return 0
}

// start runs the program as a process of its own, which a panic of the tests
// does not leave behind.
func start(t *testing.T, stdin io.Reader, args ...string) (*exec.Cmd, func() result) {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // no effect after wait
	return cmd, func() result {
		var failed *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	}
}

// someCommitted waits until the run in dir has paid n bills.
func someCommitted(t *testing.T, dir string, n int) {
	t.Helper()
	db, err := folder(dir).view("bills")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		var paid int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM bills WHERE state = 'paid'`).Scan(&paid); err == nil && paid >= n {
			return
		}
	}
	t.Fatalf("%d bills were not paid in time", n)
}

// Ctrl-C in the middle drains, says what was done and exits with 130; a later
// run on the same folder continues.
func TestBinary_Interrupt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	const n = 400
	csv := write(t, "bills.csv", sample(n, 12, 4000))
	cmd, wait := start(t, nil, "-bills", csv, "-dir", dir, "-chaos", "0.1", "-seed", "5", "-json")
	someCommitted(t, dir, 40)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	r := wait()
	got := r.report(t)
	if r.status != exitInterrupted || !got.Interrupted || got.Committed < 40 || got.Lost+got.DoublePayouts+got.LedgerInversions != 0 {
		t.Fatalf("status %d, %+v\n%s", r.status, got, r.stderr)
	}
	if got.DrainMS > 10_000 {
		t.Errorf("the drain took %d ms", got.DrainMS)
	}
	after := runHere(t.Context(), nil, "-bills", csv, "-dir", dir, "-chaos", "0.1", "-seed", "5", "-json").wantInOrder(t, n)
	if after.Committed < got.Committed {
		t.Errorf("before %+v\nafter  %+v", got, after)
	}
}

// A second interrupt ends the process at once, and costs nothing but time.
func TestBinary_InterruptBeforeAnythingWasPaid(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	pr, pw := io.Pipe() // an input that never ends
	defer pw.Close()
	cmd, wait := start(t, pr, "-bills", "-", "-dir", dir, "-json")
	if _, err := io.WriteString(pw, header+"\nB1,A1,gas,100,200\n"); err != nil {
		t.Fatal(err)
	}
	someCommitted(t, dir, 1)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	r := wait()
	if got := r.report(t); r.status != exitInterrupted || got.Bills != 1 {
		t.Errorf("status %d, %+v\n%s", r.status, got, r.stderr)
	}
}

// killAndContinue kills a run after a while and lets a second one finish it.
func killAndContinue(t *testing.T, csv string, bills int, seed uint64, after time.Duration) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"-bills", csv, "-dir", dir, "-chaos", "0.1", "-seed", strconv.FormatUint(seed, 10), "-json"}
	cmd, wait := start(t, nil, args...)
	time.Sleep(after) // the moment is random on purpose
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	wait()
	_, wait = start(t, nil, args...)
	got := wait().wantInOrder(t, bills)
	t.Logf("seed %d, killed after %s: %+v", seed, after, got)
}

// After kill -9 at a random moment a second run on the same folder finishes the
// work, and the sums cover both runs.
func TestBinary_KillAndContinue(t *testing.T) {
	t.Parallel()
	csv := write(t, "bills.csv", sample(300, 12, 1500))
	seed := uint64(time.Now().UnixNano())
	t.Logf("SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 3 {
		after := time.Duration(rng.Int64N(int64(1500 * time.Millisecond)))
		t.Run(fmt.Sprint(i), func(t *testing.T) { killAndContinue(t, csv, 300, seed%100+uint64(i), after) })
	}
}

// The file that ships, with seeds from 1 on, each in less than 30 s.
func TestBinary_Seeds(t *testing.T) {
	t.Parallel() // they mostly wait
	for seed := range long(t) {
		began := time.Now()
		_, wait := start(t, nil, "-bills", "bills.csv", "-chaos", "0.1", "-seed", strconv.Itoa(seed+1), "-json")
		got := wait().wantInOrder(t, 1000)
		took := time.Since(began)
		t.Logf("seed %d took %s: %+v", seed+1, took.Round(time.Millisecond), got)
		if got.CheckedBack == 0 || got.DuplicatesSuppressed == 0 || got.StoppedByWallet != 0 {
			t.Errorf("seed %d: %+v", seed+1, got)
		}
		if took > 30*time.Second {
			t.Errorf("seed %d took %s", seed+1, took)
		}
	}
}

// The same, killed at a random moment and continued.
func TestBinary_SeedsKilled(t *testing.T) {
	t.Parallel() // they mostly wait
	seeds := long(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range seeds {
		killAndContinue(t, "bills.csv", 1000, uint64(i+1), time.Duration(rng.Int64N(int64(6*time.Second))))
	}
}

// A run that dies holds leases in a Redis that lives on. The next run waits for
// them, and neither takes a message that is locked for one that is done nor pays
// it twice.
func TestRedis_OutlivesAKilledRun(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t).Addr
	dir := filepath.Join(t.TempDir(), "run")
	csv := write(t, "bills.csv", sample(200, 12, 1500))
	args := []string{"-bills", csv, "-dir", dir, "-redis", addr, "-chaos", "0.1", "-seed", "11", "-json"}
	cmd, wait := start(t, nil, args...)
	someCommitted(t, dir, 60)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wait()
	_, wait = start(t, nil, args...)
	wait().wantInOrder(t, 200)
}

// A folder that may only be read: the run is refused, and what is there stays.
func TestBinary_ReadOnlyFolder(t *testing.T) {
	t.Parallel()
	top, err := os.MkdirTemp("", "billpay-ro-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	dir := filepath.Join(top, "run")
	if r := runHere(t.Context(), strings.NewReader(sample(5, 2, 300)), "-bills", "-", "-dir", dir, "-json"); r.status != exitDone {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	mode := func(dirs, files os.FileMode) {
		err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.Chmod(path, dirs)
			}
			return os.Chmod(path, files)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mode(0o555, 0o444)
	cmd := exec.Command(program(t), "-dir", dir, "-json")
	if os.Geteuid() == 0 { // root writes anywhere
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	mode(0o755, 0o644)
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(out), "billpay: ") ||
		!strings.Contains(string(out), "permission denied") && !strings.Contains(string(out), "read-only") {
		t.Errorf("%v: %s", err, out)
	}
	runHere(t.Context(), nil, "-dir", dir, "-json").wantInOrder(t, 5)
}
