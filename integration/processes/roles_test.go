package processes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// play is the main function of a child: it plays the role and answers the exit
// code. What it returns as an error goes to the standard error, where the
// parent takes any word for a failure.
func play(role, args string) int {
	roles := map[string]func(*stage) error{
		"worker": playWorker,
		"drain":  playDrain,
		"reader": playReader,
		"syncer": playSyncer,
		"filler": playFiller,
		"opener": playOpener,
		"clock":  playClock,
		"holder": playHolder,
		"delay":  playDelays,
	}
	f := roles[role]
	if f == nil {
		fmt.Fprintf(os.Stderr, "role %q is unknown\n", role)
		return 2
	}
	s := &stage{args: []byte(args), commands: make(chan string)}
	go s.listen()
	if err := f(s); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		return 1
	}
	return 0
}

// stage is what a role has to talk with its parent.
type stage struct {
	args     []byte
	commands chan string
}

// listen passes on the commands of the parent, and ends this process when the
// parent ends: that also works where a tracer stands in between.
func (s *stage) listen() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		s.commands <- in.Text()
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// expect waits for one command.
func (s *stage) expect(word string) error {
	if got := <-s.commands; got != word {
		return fmt.Errorf("told %q, expected %q", got, word)
	}
	return nil
}

func (s *stage) parse(v any) error { return json.Unmarshal(s.args, v) }

// say writes one line with one system call, so that it is either in the pipe
// or was never said.
func (s *stage) say(format string, args ...any) { s.write(fmt.Appendf(nil, format+"\n", args...)) }

// write writes lines with as few system calls as the pipe allows: up to 4 KiB
// go in as a whole.
func (s *stage) write(lines []byte) {
	const whole = 4096
	for len(lines) > 0 {
		n := len(lines)
		if n > whole {
			n = bytes.LastIndexByte(lines[:whole], '\n') + 1
		}
		if _, err := os.Stdout.Write(lines[:n]); err != nil {
			os.Exit(3) // the parent has gone
		}
		lines = lines[n:]
	}
}

// store says how a role opens its store.
type store struct {
	Dir  string
	Sync time.Duration // as embedded.Sync
	Body int           // the largest body; defaults to 64 KiB
	// Keep and PerPass are the retention; nothing is removed by default, whatever
	// the clock says.
	Keep    time.Duration
	PerPass int
}

func (a store) config() embedded.Config {
	if a.Body == 0 {
		a.Body = 64 << 10
	}
	if a.Keep == 0 {
		a.Keep = -1
	}
	return embedded.Config{
		Sync: embedded.Sync(a.Sync), MaxBody: a.Body, Queues: queues,
		SegmentBytes: segmentBytes(a.Body), // small: many rolls
		Retention:    embedded.Retention{Age: a.Keep, PerPass: a.PerPass},
	}
}

func segmentBytes(body int) int64 { return int64(body) + 192<<10 }

func (a store) open() (*embedded.Broker, error) { return embedded.Open(a.Dir, a.config()) }

const (
	topic  = "work"
	queues = 4
)

// modes are the rows of the table at [embedded.Sync].
var modes = []struct {
	name string
	sync embedded.Sync
}{
	{"always", embedded.SyncAlways},
	{"every", embedded.SyncEvery(50 * time.Millisecond)},
	{"never", embedded.SyncNever},
}

// outcome is what an answer of Send means for the history.
func outcome(err error) string {
	var e *driver.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e) && !e.MaybeDone:
		return "failed"
	default:
		return "unknown"
	}
}

// oneLine makes an error fit into a line.
func oneLine(err error) string {
	if err == nil {
		return "nil"
	}
	return strings.ReplaceAll(err.Error(), "\n", " | ")
}
