package tcp

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// build is the program under test, made once from this checkout.
type build struct {
	once sync.Once
	dir  string
	err  error
}

var program build

func (b *build) path(t *testing.T) string {
	t.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "sluice-tcp"); b.err != nil {
			return
		}
		args := []string{"build", "-o", filepath.Join(b.dir, "sluice")}
		if raced {
			args = append(args, "-race")
		}
		cmd := exec.Command("go", append(args, "./cmd/sluice")...)
		cmd.Dir = filepath.Join("..", "..")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatalf("build sluice: %v", b.err)
	}
	return filepath.Join(b.dir, "sluice")
}

func (b *build) remove() error { return os.RemoveAll(b.dir) }

// server is a running "sluice serve".
type server struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   *heard
	errs  *heard
	done  chan struct{} // closed when it has ended
	state error         // of Wait, read after done
}

// place is where a server works.
type place struct {
	dir  string // of the store
	addr string
	cwd  string // and home; empty for those of the test
}

// start starts a server. It ends with the test at the latest, and with this
// process whatever happens to it.
func start(t *testing.T, at place, args ...string) *server {
	t.Helper()
	s := &server{t: t, out: newHeard(), errs: newHeard(), done: make(chan struct{})}
	args = append([]string{"serve", "-dir", at.dir, "-listen", at.addr, "-log", "error"}, args...)
	s.cmd = exec.Command(program.path(t), args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.errs
	if at.cwd != "" {
		s.cmd.Dir = at.cwd
		s.cmd.Env = append(os.Environ(), "HOME="+at.cwd, "TMPDIR="+at.cwd)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start the server: %v", err)
	}
	go func() {
		defer close(s.done)
		s.state = s.cmd.Wait()
	}()
	t.Cleanup(s.end)
	return s
}

// ready waits for the one line of a server that is ready.
func (s *server) ready() {
	s.t.Helper()
	select {
	case <-s.out.line:
	case <-s.done:
		s.t.Fatalf("the server ended before it was ready: %v\n%s", s.state, s.errs)
	case <-time.After(patience):
		s.t.Fatalf("the server was not ready within %v\n%s", patience, s.errs)
	}
	if text := s.out.String(); !strings.HasPrefix(text, "sluice serve: ready at ") {
		s.t.Fatalf("the server said %q\n%s", text, s.errs)
	}
}

// end kills the server if it still runs, and waits for its end.
func (s *server) end() {
	select {
	case <-s.done: // its number may be somebody else's by now
	default:
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may just have ended
		<-s.done
	}
}

// kill sends kill -9 and fails the test if the server had come to harm before.
func (s *server) kill() {
	s.t.Helper()
	s.end()
	if st, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGKILL {
		s.t.Fatalf("the server ended before it was killed: %v\n%s", s.cmd.ProcessState, s.errs)
	}
	if text := s.errs.String(); text != "" {
		s.t.Fatalf("the server complained:\n%s", text)
	}
}

// stop asks the server to end and requires that it ends in order.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatalf("stop the server: %v\n%s", err, s.errs)
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Fatalf("the server had not ended %v after SIGTERM\n%s", patience, s.errs)
	}
	if s.state != nil {
		s.t.Fatalf("the server did not end in order: %v\n%s", s.state, s.errs)
	}
}

// memory is what the server has in memory now, and had at the most, in bytes.
func (s *server) memory() (now, most int64) {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatalf("read the memory of the server: %v", err)
	}
	for line := range bytes.Lines(status) {
		w := strings.Fields(string(line))
		if len(w) != 3 || w[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(w[1], 10, 64)
		if err != nil {
			s.t.Fatalf("read the memory of the server: %q", line)
		}
		switch w[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			most = n << 10
		}
	}
	return now, most
}

// forgetMemory lets the most of the server's memory begin anew.
func (s *server) forgetMemory() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0) // else a later phase is blamed, too
}

// mkdir makes directories.
func mkdir(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// freeAddr is a loopback address that nobody uses, with a port that the kernel
// gives to nobody who dials: a client must not take the port while the server
// is down, not even by a connection to itself.
func freeAddr(t *testing.T, r *rand.Rand) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+r.IntN(12000))
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no port is free")
	return ""
}

// heard keeps the beginning of what a server writes.
type heard struct {
	line chan struct{} // closed with the first whole line

	mu  sync.Mutex
	buf bytes.Buffer
	has bool
}

const heardBytes = 64 << 10

func newHeard() *heard { return &heard{line: make(chan struct{})} }

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Write(p[:min(len(p), max(0, heardBytes-h.buf.Len()))])
	if !h.has && bytes.IndexByte(p, '\n') >= 0 {
		h.has = true
		close(h.line)
	}
	return len(p), nil
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.String()
}
