// Package child runs parts of the benchmark in processes of their own: to
// measure a start, memory apart from that of the other cases, and what a kill
// leaves behind. A child is this program again with a hidden first argument; it
// does its part, writes one line, and waits until its input ends.
package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/ours"
	"github.com/sluicemq/sluice/integration/bench/internal/start"
)

// Argument is the first argument of a child.
const Argument = "child"

// Parts that a child can do with a store in a folder.
const (
	Fill      = "fill"      // make it with messages waiting, close it
	Interrupt = "interrupt" // open it, add messages, never close it
	Work      = "work"      // open it, add and consume messages by a new group
)

// Main is the child; args follow [Argument]. It returns the exit code.
func Main(args []string) int {
	s, err := do(args)
	if err == nil {
		fmt.Println(start.Ready)
		_, _ = io.Copy(io.Discard, os.Stdin)
		if s != nil {
			err = s.Close()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// do does a part; the store that it leaves open is closed at the end.
func do(args []string) (*ours.Store, error) {
	if len(args) != 4 {
		return nil, fmt.Errorf("a part, a folder, a number of messages and a group are wanted, not %q", args)
	}
	part, dir, group := args[0], args[1], args[3]
	messages, err := strconv.Atoi(args[2])
	if err != nil {
		return nil, fmt.Errorf("number of messages: %w", err)
	}
	switch part {
	case Fill:
		return nil, ours.Fill(dir, messages)
	case Interrupt:
		return ours.Interrupted(dir, messages)
	case Work:
		return ours.Work(dir, group, messages)
	default:
		return nil, fmt.Errorf("unknown part %q", part)
	}
}

// Process is a child that has done its part.
type Process struct {
	// Took is the time from the start of the process to the end of its part.
	Took  time.Duration
	cmd   *exec.Cmd
	input io.Closer
}

// Start starts a child and waits until it has done its part.
func Start(part, dir string, messages int, group string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	return Program(self, Argument, part, dir, strconv.Itoa(messages), group)
}

// Program starts any program that says [start.Ready] when it has done its part
// and ends with its input.
func Program(path string, args ...string) (*Process, error) {
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	p := &Process{Took: time.Since(begin), cmd: cmd, input: input}
	if err != nil || strings.TrimSpace(line) != start.Ready {
		return nil, errors.Join(fmt.Errorf("%s %q said %q", path, args, line), p.Kill())
	}
	return p, nil
}

// Memory reads the memory of the child in bytes; see [measure.Memory].
func (p *Process) Memory(line string) (float64, error) {
	return measure.Memory(p.cmd.Process.Pid, line)
}

// Stop lets the child end in order.
func (p *Process) Stop() error { return errors.Join(p.input.Close(), p.cmd.Wait()) }

// Kill ends the child by SIGKILL.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it tells of the signal
	return err
}
