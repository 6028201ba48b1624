// Package redistest runs a real redis-server for a test: in a directory of its
// own, on a free port, gone with the test process whatever happens to it.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is one redis-server process. It listens on 127.0.0.1 only.
type Server struct {
	// Addr is host:port, the same after a restart.
	Addr string

	dir  string
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
}

// Start runs a server that is stopped with the test. Without a redis-server on
// the PATH the test is skipped, or fails where the environment says CI=true.
// The settings, such as "appendonly", "yes", are added to those of a server
// that keeps nothing on disk and never evicts.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("redis-server is needed where CI=true: %v", err)
		}
		t.Skipf("no redis-server to test with: %v", err)
	}
	if len(settings)%2 != 0 {
		t.Fatalf("settings come in pairs, got %q", settings)
	}
	// A Unix socket path is limited to 107 bytes, so TCP; the free port may be
	// taken by somebody else before the server binds it, so try again.
	var err error
	for range 5 {
		s := &Server{dir: t.TempDir()}
		if s.Addr, err = freeAddr(); err != nil {
			continue
		}
		_, port, _ := net.SplitHostPort(s.Addr)
		s.args = []string{
			"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--daemonize", "no",
			"--save", "", "--maxmemory-policy", "noeviction", "--logfile", filepath.Join(s.dir, "log"),
		}
		for i := 0; i < len(settings); i += 2 {
			s.args = append(s.args, "--"+settings[i], settings[i+1])
		}
		if err = s.start(); err == nil {
			t.Cleanup(s.Kill)
			return s
		}
	}
	t.Fatalf("start redis-server: %v", err)
	return nil
}

// Client returns a client with default options, closed with the test.
func (s *Server) Client(t testing.TB) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Pid is the process id of the server.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill ends the server as a crash would. It may be called on a dead one.
func (s *Server) Kill() {
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	<-s.done
}

// Restart starts a killed server again, with its data if it kept any.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("restart redis-server: %v", err)
	}
}

// Freeze stops the server without closing a connection; Thaw lets it go on.
func (s *Server) Freeze(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("send %v to redis-server: %v", sig, err)
	}
}

// start runs the process and waits until it answers.
func (s *Server) start() error {
	cmd := exec.Command("redis-server", s.args...)
	cmd.SysProcAttr = processAttributes()
	started, done := make(chan error), make(chan struct{})
	go func() {
		// Pdeathsig is about the thread that forks: this one must live as
		// long as the server does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.cmd, s.done = cmd, done
	if err := s.ready(); err != nil {
		s.Kill()
		return err
	}
	return nil
}

func (s *Server) ready() error {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer c.Close()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		info, err := c.Info(ctx, "server").Result()
		cancel()
		if err == nil {
			// Another process may have won the port.
			if pid := fmt.Sprintf("process_id:%d\r\n", s.Pid()); !strings.Contains(info, pid) {
				return fmt.Errorf("port of %s belongs to another server", s.Addr)
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("redis-server ended at once: %s", log)
		case <-deadline:
			return errors.Join(errors.New("redis-server does not answer"), err)
		}
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	a, _ := l.Addr().(*net.TCPAddr)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port)), nil
}
