package java

import (
	"bufio"
	"context"
	_ "embed" // the class
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

//go:embed Driver.java
var driverClass []byte

// driverHeap is the memory of the client: more than it needs.
var driverHeap = []string{"-Xms1g", "-Xmx1g"}

const (
	// stopLimit is how long the client may take to leave.
	stopLimit = 10 * time.Second
	// drainLimit is how long a backlog may take.
	drainLimit = 2 * time.Minute
)

// Driver is Apache's Java client in a process of its own.
type Driver struct {
	*child.Server
	commands io.WriteCloser
	answers  *bufio.Reader
}

// StartDriver compiles the class into dir, which it makes, and starts it.
func StartDriver(ctx context.Context, dir, packages string) (*Driver, error) {
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
		return nil, fmt.Errorf("make folder for the Java client: %w", err)
	}
	if err := compile(ctx, dir, packages, "Driver", driverClass); err != nil {
		return nil, err
	}
	cmd := Command(dir, packages, driverHeap, "Driver")
	commands, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the Java client: %w", err)
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the Java client: %w", err)
	}
	server, err := child.Serve(cmd)
	if err != nil {
		return nil, err
	}
	return &Driver{server, commands, bufio.NewReader(answers)}, nil
}

// Sent is what a loop of the client, or a consumer of it, has measured.
type Sent struct {
	Messages          int64
	Elapsed, P50, P99 time.Duration
	CPU               time.Duration // of the client
}

// Figures are those of a loop; server is the processor time that the server
// has used meanwhile.
func (s Sent) Figures(server time.Duration) measure.Figures {
	n := float64(max(s.Messages, 1))
	return measure.Figures{
		"rate": float64(s.Messages) / s.Elapsed.Seconds(), "p50_us": measure.Micros(s.P50), "p99_us": measure.Micros(s.P99),
		"cpu_us": measure.Micros(s.CPU) / n, "server_us": measure.Micros(server) / n,
	}
}

// Send lets callers send to a topic for a time, each waiting for its answer.
func (d *Driver) Send(nameServer, topic string, callers int, span time.Duration) (Sent, error) {
	return d.do(fmt.Sprintf("send %s %s %d %d %d", nameServer, topic, measure.BodySize, callers, span.Milliseconds()))
}

// Drain lets a push consumer of a new group take so many waiting messages, from
// the first handler to the last. Its answer has no latencies.
func (d *Driver) Drain(nameServer, topic string, messages int) (Sent, error) {
	return d.do(fmt.Sprintf("drain %s %s %d %d", nameServer, topic, messages, drainLimit.Milliseconds()))
}

// do gives a command and reads its answer.
func (d *Driver) do(command string) (Sent, error) {
	if _, err := fmt.Fprintln(d.commands, command); err != nil {
		return Sent{}, fmt.Errorf("tell the Java client to %s: %w", command, err)
	}
	line, err := d.answers.ReadString('\n')
	if err != nil {
		return Sent{}, fmt.Errorf("read from the Java client: %w; it wrote %s", err, d.Output())
	}
	return parseSent(line)
}

// parseSent reads the line of an answer.
func parseSent(line string) (Sent, error) {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if word != "done" {
		return Sent{}, fmt.Errorf("the Java client answers %q", line)
	}
	var s Sent
	if _, err := fmt.Sscan(rest, &s.Messages, (*int64)(&s.Elapsed), (*int64)(&s.P50), (*int64)(&s.P99), (*int64)(&s.CPU)); err != nil {
		return Sent{}, fmt.Errorf("the Java client answers %q: %w", line, err)
	}
	if s.Messages <= 0 || s.Elapsed <= 0 {
		return Sent{}, fmt.Errorf("the Java client has done nothing: %q", line)
	}
	return s, nil
}

// Close ends the client.
func (d *Driver) Close() error {
	return errors.Join(d.Resume(), d.commands.Close(), d.Stop(stopLimit))
}
