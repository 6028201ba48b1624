package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

const messageSendUsage = `usage: sluice message send TOPIC [BODY] [-file F] [-lines] [-tag T] [-key K] [-property N=V] …

Sends a message and says where it is. The topic must be there: none is made by accident. Without BODY and
-file the body is read from standard input.

  -file F            the body is what is in the file, - for standard input
  -lines             each line of it is a message of its own, of 4 MiB at most; empty lines are left out. It
                     ends at the first line that fails, and says which one that is: with tail -n +LINE it
                     goes on from there
  -tag T             a tag
  -key K             a business key; several with several -key
  -property N=V      a property of yours; several with several -property
  -delay D           deliver after a duration such as 90s, 72h at most unless the broker is set otherwise
                     (sluice serve and RocketMQ 5)
  -at TIME           deliver at a time such as 2026-01-31T18:00:00Z (the same); without a zone it is one of
                     this machine's, and one in the past is delivered at once
  -delay-level N     deliver after the delay of level N, 1 to 18 of RocketMQ's 1s 5s 10s 30s 1m … 2h
  -queue N           to this queue, instead of each in turn
  -broker NAME       to this broker

  sluice message send orders '{"id":7}' -tag paid -key order-7
  tail -f events.jsonl | sluice message send events -lines

Flags of every such command:
`

// sendFlags say what is sent.
type sendFlags struct {
	file  string
	lines bool
	tag   string
	keys  []string
	props map[string]string
	due   time.Time // what -at says
	queue *cluster.Selection
}

func (r *remote) sendFlags() *sendFlags {
	f := &sendFlags{props: map[string]string{}}
	r.text("file", "a file, or - for standard input", &f.file)
	r.BoolVar(&f.lines, "lines", false, "")
	r.text("tag", "a tag", &f.tag)
	r.value("key", "a word without blanks", func(s string) error {
		f.keys = append(f.keys, s)
		return nil
	})
	r.value("property", "name=value", func(s string) error {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return errForm
		}
		if err := ours(name); err != nil {
			return err
		}
		f.props[name] = value
		return nil
	})
	r.value("delay", "a duration above 0, such as 90s", func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return errForm
		}
		f.props[message.TimerDelayMs] = strconv.FormatInt(max(d.Milliseconds(), 1), 10)
		return nil
	})
	r.value("at", "a time such as 2026-01-31T18:00:00Z", func(s string) error {
		t, err := parseMoment(s)
		if err != nil {
			return errForm
		}
		f.due = t
		f.props[message.TimerDeliverMs] = strconv.FormatInt(t.UnixMilli(), 10)
		return nil
	})
	level := 0
	r.value("delay-level", "1 to 18", func(s string) error {
		if err := number(1, 18, &level)(s); err != nil {
			return err
		}
		f.props[message.Delay] = strconv.Itoa(level)
		return nil
	})
	f.queue = r.selection()
	return f
}

// ours is why a property cannot be one of the user's: clients and brokers give
// its name a meaning, and would take its value for their own.
func ours(name string) error {
	instead := ""
	switch name {
	case message.Keys:
		instead = "; -key sets it"
	case message.Tags:
		instead = "; -tag sets it"
	case message.Delay:
		instead = "; -delay-level sets it"
	case message.TimerDeliverMs:
		instead = "; -at sets it"
	case message.TimerDelayMs, message.TimerDelaySec:
		instead = "; -delay sets it"
	case message.BornHostName, message.BornTimestampName, "BORN_HOST": // the sender's address and time, as tools and consumers show them
	default:
		if !envelope.Reserved(name) {
			return nil
		}
	}
	return fmt.Errorf("clients and brokers use %s themselves%s", short(name), instead)
}

// number reads a number between two bounds, both included.
func number(from, to int, into *int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < from || n > to {
			return errForm
		}
		*into = n
		return nil
	}
}

// check looks at everything that a broker would refuse, or not notice.
func (f *sendFlags) check(r *remote) {
	m := driver.Message{Topic: r.arg(0), Tag: f.tag, Keys: f.keys, Properties: f.props}
	if m.Topic != "" {
		if err := m.Check(); err != nil {
			r.bad("%w", err)
		}
	}
	delays := 0
	for _, name := range []string{"delay", "at", "delay-level"} {
		if r.given(name) {
			delays++
		}
	}
	if delays > 1 {
		r.bad("-delay, -at and -delay-level exclude each other")
	}
	if len(r.args) > 1 && f.file != "" {
		r.bad("BODY and -file exclude each other")
	}
	if len(r.args) > 1 && f.lines {
		r.bad("-lines takes -file or standard input, not BODY")
	}
	if f.tag != "" {
		f.props[message.Tags] = f.tag
	}
	if len(f.keys) > 0 {
		f.props[message.Keys] = message.JoinKeys(f.keys)
	}
}

// tooLate says by the names of the flags what a broker refuses of a time that is
// too far ahead. How far it may be is a setting of the broker, so that it is not
// checked here, but read in the refusal.
func (f *sendFlags) tooLate(err error) error {
	refused, ok := errors.AsType[*cluster.RefusedError](err)
	if !ok {
		return err
	}
	_, rest, _ := strings.Cut(refused.Remark, "the max delay ")
	number, _, _ := strings.Cut(rest, "ms")
	ms, perr := strconv.ParseInt(number, 10, 64)
	if perr != nil || ms > math.MaxInt64/int64(time.Millisecond) {
		return err
	}
	most := time.Duration(ms) * time.Millisecond
	if !f.due.IsZero() {
		return refuse("-at takes a time at most %s ahead, says the broker at %s", shortly(most), refused.Addr)
	}
	return refuse("-delay takes at most %s, says the broker at %s", shortly(most), refused.Addr)
}

// shortly is a duration without the zeros at its end, such as 72h.
func shortly(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// maxLine is the longest line with -lines: what brokers take as a body.
const maxLine = 4 << 20

// runMessageSend is "sluice message send".
func runMessageSend(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	r := newRemote("message send", messageSendUsage, stdout, stderr)
	f := r.sendFlags()
	return r.do(ctx, args, "TOPIC [BODY]", func() { f.check(r) }, func(ctx context.Context, c *cluster.Cluster) error {
		s, err := c.Sender(ctx, r.arg(0), *f.queue)
		if err != nil {
			return r.near(ctx, c, err)
		}
		send := func(body []byte) (sent bool, err error) {
			x, err := s.Send(ctx, cluster.Outgoing{Body: body, Props: f.props})
			if err != nil {
				return false, f.tooLate(err)
			}
			return true, r.sent(x, !f.due.IsZero())
		}
		if len(r.args) > 1 {
			_, err = send([]byte(r.args[1]))
			return err
		}
		in := io.Reader(&interruptible{ctx: ctx, in: os.Stdin, buf: make([]byte, 64<<10)})
		if f.file != "" && f.file != "-" {
			file, err := os.Open(f.file)
			if err != nil {
				return fmt.Errorf("read the body: %w", err)
			}
			defer func() { _ = file.Close() }() // nothing was written
			in = file
		}
		if f.lines {
			return sendLines(ctx, in, send)
		}
		body, err := io.ReadAll(io.LimitReader(in, maxLine+1))
		switch {
		case err != nil:
			return fmt.Errorf("read the body: %w", err)
		case len(body) > maxLine:
			return refuse("the body has more than %v, which brokers do not take", size(maxLine))
		}
		_, err = send(body)
		return err
	})
}

// linesError is why not all lines were sent, and how far it came, so that its
// user can go on from there.
type linesError struct {
	line int // of the input, from 1 on, empty ones counted
	sent int // messages, without that of the line
	// begun: the line was read, and its message may have gone out.
	begun bool
	err   error
}

// Error says what is wrong with which line.
func (e *linesError) Error() string {
	return fmt.Sprintf("line %d: %v; %s sent before it", e.line, e.err, e.messages())
}

// Unwrap answers the reason.
func (e *linesError) Unwrap() error { return e.err }

// where says how far it came, of one that was interrupted.
func (e *linesError) where() string {
	if e.begun {
		return fmt.Sprintf("at line %d, which may have been sent all the same; %s sent before it", e.line, e.messages())
	}
	return fmt.Sprintf("before line %d; %s sent", e.line, e.messages())
}

func (e *linesError) messages() string {
	switch e.sent {
	case 0:
		return "nothing was"
	case 1:
		return "1 message was"
	}
	return counted(int64(e.sent), "message") + " were"
}

// sendLines sends each line by itself. send reports whether the message was sent,
// which it can be although there is an error.
func sendLines(ctx context.Context, in io.Reader, send func(body []byte) (sent bool, err error)) error {
	lines := bufio.NewReaderSize(in, maxLine+len("\r\n"))
	sent := 0
	for n := 1; ; n++ {
		failed := func(begun bool, err error) error {
			return &linesError{line: n, sent: sent, begun: begun, err: err}
		}
		line, err := nextLine(lines)
		switch {
		case ctx.Err() != nil: // also at the end: Ctrl-C ends both sides of a pipe
			return failed(false, context.Cause(ctx))
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return failed(false, err)
		case len(line) == 0:
			continue
		}
		done, err := send(line)
		switch {
		case err == nil:
			sent++
		case done:
			return failed(false, err)
		default:
			return failed(cluster.MaybeDone(err), err)
		}
	}
}

// nextLine reads a line, without what ends it. What stands there until the next
// call is lines' own. A line that an error has cut off is none: half of a message
// is worse than no message.
func nextLine(lines *bufio.Reader) ([]byte, error) {
	line, err := lines.ReadSlice('\n')
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.Is(err, bufio.ErrBufferFull), err == nil && len(line) > maxLine:
		return nil, refuse("it has more than %v, which brokers do not take", size(maxLine))
	case err != nil:
		return nil, fmt.Errorf("read it: %w", err)
	}
	return line, nil
}

// interruptible is standard input that Ctrl-C ends.
type interruptible struct {
	ctx context.Context
	in  io.Reader
	buf []byte
}

type readResult struct {
	n   int
	err error
}

// Read ends with ctx. Then the goroutine stays behind until the process ends,
// because nothing else ends a read from a terminal.
func (r *interruptible) Read(p []byte) (int, error) {
	done := make(chan readResult, 1)
	part := r.buf[:min(len(p), len(r.buf))]
	go func() {
		n, err := r.in.Read(part)
		done <- readResult{n, err}
	}()
	select {
	case x := <-done:
		return copy(p, part[:x.n]), x.err
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	}
}

// sent says where a message is; timed ones are due at some time.
func (r *remote) sent(s cluster.Sent, timed bool) error {
	if s.Delayed {
		return r.done(s, "took %s for %s, to be delivered later", s.ID, s.Topic)
	}
	note := ""
	if timed {
		note = ", to be delivered at once: the time of -at is past"
	}
	switch s.Status {
	case cluster.StoredUnflushed:
		note += ", not known to be on disk"
	case cluster.StoredUnreplicated:
		note += ", not known to be on a replica"
	case cluster.StoredNoReplica:
		note += ", on no replica"
	}
	return r.done(s, "sent %s to %s: broker %s, queue %d, offset %d%s", s.ID, s.Topic, s.Broker, s.Queue, s.Offset, note)
}
