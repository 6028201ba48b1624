package child

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command is what to run.
type Command struct {
	Path string
	Args []string
	Dir  string
	Env  []string          // added to this process's own
	Line func(line string) // gets each line of standard output, from one goroutine; may be nil
}

// Child is a running program.
type Child struct {
	// In is its standard input.
	In io.WriteCloser

	name  string
	cmd   *exec.Cmd
	ended chan struct{}

	mu   sync.Mutex
	tail []string // its last lines, of both outputs
}

// tailLines is how much of what a program said is kept for a failure's report.
const tailLines = 60

// Start starts a program.
func Start(c Command) (*Child, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	k := &Child{name: c.Path, cmd: cmd, ended: make(chan struct{})}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	errs, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	k.In = in
	var readers sync.WaitGroup
	readers.Go(func() { k.read(out, c.Line) })
	readers.Go(func() { k.read(errs, nil) })
	go func() {
		readers.Wait()
		_ = cmd.Wait() // how it ended is told by its state
		close(k.ended)
	}()
	return k, nil
}

func (k *Child) read(r io.Reader, line func(string)) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		k.mu.Lock()
		if k.tail = append(k.tail, s.Text()); len(k.tail) > tailLines {
			k.tail = slices.Delete(k.tail, 0, len(k.tail)-tailLines)
		}
		k.mu.Unlock()
		if line != nil {
			line(s.Text())
		}
	}
}

// Pid is its process id, which is its group's too.
func (k *Child) Pid() int { return k.cmd.Process.Pid }

// Ended is closed when it is gone and all its output was read.
func (k *Child) Ended() <-chan struct{} { return k.ended }

// Tail is what it said last.
func (k *Child) Tail() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.tail, "\n")
}

// Signal sends a signal to its whole group.
func (k *Child) Signal(s syscall.Signal) {
	_ = syscall.Kill(-k.Pid(), s) // it may be gone already, and that is the point
}

// Kill ends it at once and waits until it is gone.
func (k *Child) Kill() {
	k.Signal(syscall.SIGKILL)
	<-k.ended
}

// Stop asks it to end, waits as long as patience, then kills it. It reports
// whether it ended by itself.
func (k *Child) Stop(patience time.Duration) bool {
	k.Signal(syscall.SIGCONT)
	k.Signal(syscall.SIGTERM)
	select {
	case <-k.ended:
		return true
	case <-time.After(patience):
		k.Kill()
		return false
	}
}

// Ports lie below those that the system gives to outgoing connections, or one of
// them could have the port of a server that was killed and is to come back.
const lowest, highest = 20_000, 32_000

// given are the ports that FreePort has answered.
var given struct {
	sync.Mutex
	ports []int
}

// FreePort is a port of the loopback that is free now, such that port-2 and
// port+1 are free as well: a broker of Apache's listens on all three. No port is
// given twice, nor one that is too near to one that was.
func FreePort() (int, error) {
	given.Lock()
	defer given.Unlock()
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest)
		near := func(other int) bool { return max(other-port, port-other) <= 3 }
		if !slices.ContainsFunc(given.ports, near) && free(port-2) && free(port) && free(port+1) {
			given.ports = append(given.ports, port)
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: no three together in 1000 tries")
}

func free(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
