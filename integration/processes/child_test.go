package processes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	roleVariable = "SLUICE_PROCESS_ROLE"
	argsVariable = "SLUICE_PROCESS_ARGS"

	// patience is how long a child may take for anything. It is generous: what
	// is measured is measured inside of the child.
	patience = 60 * time.Second
)

// child is a running process that plays a role.
type child struct {
	t     *testing.T
	role  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // every complete line; closed at its end
	errs  *tail
	once  sync.Once
	state error // of Wait
}

// command says how a child is started; its zero value is the test binary.
type command struct {
	binary string   // instead of the test binary
	prefix []string // in front of the binary, such as strace
	env    []string
}

// start starts a child. It ends with the test at the latest, and with this
// process whatever happens to it.
func start(t *testing.T, how command, role string, args any) *child {
	t.Helper()
	encoded, err := json.Marshal(args)
	if err != nil {
		t.Fatalf("encode the arguments of %s: %v", role, err)
	}
	if how.binary == "" {
		if how.binary, err = os.Executable(); err != nil {
			t.Fatalf("find the test binary: %v", err)
		}
	}
	argv := append(append([]string{}, how.prefix...), how.binary)
	c := &child{t: t, role: role, lines: make(chan string, 4096), errs: &tail{}}
	c.cmd = exec.Command(argv[0], argv[1:]...)
	c.cmd.Env = append(append(os.Environ(), roleVariable+"="+role, argsVariable+"="+string(encoded)), how.env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.cmd.Stderr = c.errs
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatalf("start %s: %v", role, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("start %s: %v", role, err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", role, err)
	}
	go c.read(out)
	t.Cleanup(c.kill)
	return c
}

// read passes on complete lines: a kill may cut the last one.
func (c *child) read(out io.Reader) {
	defer close(c.lines)
	r := bufio.NewReaderSize(out, 1<<16)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		c.lines <- strings.TrimSuffix(line, "\n")
	}
}

// kill sends SIGKILL to the child and all it has started, and waits for its
// end. Lines that were printed before can still be read.
func (c *child) kill() {
	c.once.Do(func() {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself
		c.reap()
	})
}

// reap waits for the end of the child; whoever reads lines goes on meanwhile.
func (c *child) reap() {
	rest := make(chan struct{})
	kept := []string{}
	go func() { // Wait closes the pipe, so all of it has to be read before
		defer close(rest)
		for line := range c.lines {
			kept = append(kept, line)
		}
	}()
	<-rest
	c.state = c.cmd.Wait()
	_ = c.stdin.Close() // the child is gone
	again := make(chan string, len(kept))
	for _, line := range kept {
		again <- line
	}
	close(again)
	c.lines = again
}

// end waits for a child that ends by itself, and fails the test if it does not
// end well. It answers the lines that were not read.
func (c *child) end() []string {
	c.t.Helper()
	killer := time.AfterFunc(patience, func() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) })
	c.once.Do(c.reap)
	killer.Stop()
	var rest []string
	for line := range c.lines {
		rest = append(rest, line)
	}
	if c.state != nil {
		c.t.Fatalf("%s: %v\nlast lines: %q\n%s", c.role, c.state, rest, c.errs)
	}
	return rest
}

// tell writes a line to the child.
func (c *child) tell(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stdin, line+"\n"); err != nil {
		c.t.Fatalf("tell %s %q: %v\n%s", c.role, line, err, c.errs)
	}
}

// await reads lines up to one that begins with the word and answers its other
// words. Every line before goes to note, if that is not nil.
func (c *child) await(word string, note func(line string)) []string {
	c.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.kill()
				c.t.Fatalf("%s ended (%v) before it said %q\n%s", c.role, c.state, word, c.errs)
			}
			if words := strings.Fields(line); len(words) > 0 && words[0] == word {
				return words[1:]
			}
			if note != nil {
				note(line)
			}
		case <-limit.C:
			c.t.Fatalf("%s did not say %q within %v\n%s", c.role, word, patience, c.errs)
		}
	}
}

// work notes lines for the given time, or until the child ends.
func (c *child) work(d time.Duration, note func(line string)) (alive bool) {
	limit := time.NewTimer(d)
	defer limit.Stop()
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return false
			}
			note(line)
		case <-limit.C:
			return true
		}
	}
}

// crash kills the child, notes what it had printed, and fails the test if the
// child had come to harm before.
func (c *child) crash(note func(line string)) {
	c.t.Helper()
	c.kill()
	for line := range c.lines {
		note(line)
	}
	if text := c.errs.String(); text != "" {
		c.t.Fatalf("%s wrote to its standard error:\n%s", c.role, text)
	}
	if st, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGKILL {
		c.t.Fatalf("%s ended before it was killed: %v", c.role, c.cmd.ProcessState)
	}
}

// tail keeps the beginning and the end of what a child writes to its standard
// error.
type tail struct {
	mu   sync.Mutex
	head bytes.Buffer
	last []byte
}

const tailBytes = 8 << 10

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := p
	if room := tailBytes - w.head.Len(); room > 0 {
		n := min(room, len(rest))
		w.head.Write(rest[:n])
		rest = rest[n:]
	}
	w.last = append(w.last, rest...)
	if over := len(w.last) - tailBytes; over > 0 {
		w.last = append(w.last[:0], w.last[over:]...)
	}
	return len(p), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.last) == 0 {
		return w.head.String()
	}
	return w.head.String() + "\n...\n" + string(w.last)
}
