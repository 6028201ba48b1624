package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// keptOutput is how much of the beginning and of the end of what a server writes is
// kept, in bytes: enough to tell its address and why it has ended.
const keptOutput = 4 << 10

// Server is a program that serves until it is told to end. It dies with this
// process.
type Server struct {
	cmd     *exec.Cmd
	begun   time.Time
	written output
	exited  chan struct{}
}

// output keeps the beginning and the end of what is written to it.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, text...)
	if over := len(o.text) - 2*keptOutput; over > 0 {
		o.text = append(o.text[:keptOutput], o.text[keptOutput+over:]...)
	}
	return len(text), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// Build compiles the command of a package, from the folder of this module.
func Build(path, pkg string) error {
	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, pkg).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build in the folder of this module: %w\n%s", err, out)
	}
	return nil
}

// Serve starts a program that serves. Its outputs are kept unless the command
// has others.
func Serve(cmd *exec.Cmd) (*Server, error) {
	s := &Server{cmd: cmd, exited: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &s.written
	}
	cmd.Stderr = &s.written
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s.begun = time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(s.exited)
		_ = cmd.Wait() // how it ended is seen in what it wrote
	}()
	return s, nil
}

// PID is the number of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Begun is when the process was started.
func (s *Server) Begun() time.Time { return s.begun }

// Output is what the server has written: its beginning and its end.
func (s *Server) Output() string { return s.written.String() }

// Await asks every millisecond until the server is ready; it fails when the
// server ends or the limit is over, and tells what the server wrote.
func (s *Server) Await(limit time.Duration, ready func() error) error {
	for end := s.begun.Add(limit); ; {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s has ended: %s", s.cmd.Path, s.Output())
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not ready after %v: %w; it wrote %s", s.cmd.Path, limit, err, s.Output())
		}
	}
}

// Pause stops the process where it is, until [Server.Resume].
func (s *Server) Pause() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume continues a process that was paused.
func (s *Server) Resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// Memory reads the memory of the process in bytes; see [measure.Memory].
func (s *Server) Memory(line string) (float64, error) { return measure.Memory(s.PID(), line) }

// Stop ends the server in order, and by force when that takes longer than the
// limit.
func (s *Server) Stop(limit time.Duration) error {
	err := errors.Join(s.Resume(), s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
		return nil
	case <-time.After(limit):
		return errors.Join(err, s.Kill())
	}
}

// Kill ends the server by SIGKILL and waits until it is gone.
func (s *Server) Kill() error {
	err := s.cmd.Process.Kill()
	<-s.exited
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
