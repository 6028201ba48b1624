package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// terminal opens a pseudo terminal; text written to it can be read from screen.
func terminal(t *testing.T) (tty, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	ioctl := func(request uintptr, arg *uint32) {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(unsafe.Pointer(arg))); e != 0 {
			t.Fatal(e)
		}
	}
	var unlock, number uint32
	ioctl(syscall.TIOCSPTLCK, &unlock)
	ioctl(syscall.TIOCGPTN, &number)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return tty, screen
}

// Progress shows on a terminal, and nowhere else (see TestRun_NoFaults).
func TestRun_ShowsProgressOnATerminal(t *testing.T) {
	t.Parallel()
	tty, screen := terminal(t)
	seen := make(chan string)
	go func() {
		b, _ := io.ReadAll(screen) // ends with EIO when the terminal is closed
		seen <- string(b)
	}()
	var out strings.Builder
	status := run(t.Context(), []string{"-bills", "-", "-json"}, strings.NewReader(sample(20, 3, 500)), &out, tty)
	_ = tty.Close()
	if got := <-seen; status != exitDone || !strings.Contains(got, "20/20 decided") || strings.Count(got, "\r\x1b[K") < 3 {
		t.Errorf("status %d, the terminal shows %q", status, got)
	}
}
