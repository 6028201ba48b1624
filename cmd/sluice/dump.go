package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sluicemq/sluice/broker/embedded/offline"
)

const dumpUsage = `usage: sluice log dump DIR [-from POS] [-limit N] [-topic T] [-body] [-json]

Shows the frames of the log in DIR, a line for each: its position, its file and
the offset there, its size, its kind, and what it says. Nothing is sorted out:
what was removed, settled or rolled back is shown as it was written.

  -from POS   begin with the first frame at this position or behind
  -limit N    show at most N frames, 0 for all
  -topic T    show only messages of topic T, its creation, deletion, positions
              and settings
  -body       show the bodies of messages
  -json       print an object of JSON for each frame; bodies are in base64

A store that a process has open can be read; the end of it may move meanwhile.

exit codes: 0 all was shown, 1 damaged places were left out, 2 wrong usage or DIR cannot be read
`

// dump is what is asked of "sluice log dump".
type dump struct {
	from  int64
	limit int
	topic string
	body  bool
	json  bool

	w       *bufio.Writer
	encoder *json.Encoder // to w
	shown   int
}

// errEnough ends a dump in order.
var errEnough = errors.New("enough was shown")

// runDump is "sluice log dump".
func runDump(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	d := dump{w: bufio.NewWriterSize(stdout, 64<<10)}
	d.encoder = json.NewEncoder(d.w)
	d.encoder.SetEscapeHTML(false)
	flags := newFlags("log dump", dumpUsage)
	flags.Int64Var(&d.from, "from", 0, "")
	flags.IntVar(&d.limit, "limit", 0, "")
	flags.text("topic", "the name of a topic", &d.topic)
	flags.BoolVar(&d.body, "body", false, "")
	flags.BoolVar(&d.json, "json", false, "")
	dir, code, done := parse(flags, args, stdout, stderr)
	switch {
	case done:
		return code
	case d.from < 0:
		return wrong(stderr, "sluice help log dump", "log dump: -from takes 0 and more, not %d", d.from)
	case d.limit < 0:
		return wrong(stderr, "sluice help log dump", "log dump: -limit takes 0 and more, not %d", d.limit)
	}
	fs, err := open(dir)
	if err != nil {
		return failed(stderr, err)
	}
	defer func() { _ = fs.Close() }() // nothing was written
	if held := holder(dir); held != "" {
		fmt.Fprintf(stderr, "sluice: %s: the end of the log may move\n", held)
	}
	err = offline.Dump(ctx, fs, d.frame)
	if errors.Is(err, errEnough) {
		err = nil
	}
	if werr := d.w.Flush(); werr != nil {
		return failed(stderr, fmt.Errorf("print frames: %w", werr))
	}
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, offline.ErrDamaged):
		fmt.Fprintf(stderr, "sluice: %v; sluice log verify says more\n", err)
		return exitDamage
	}
	return failed(stderr, explain(dir, err))
}

// frame shows f, if it is asked for.
func (d *dump) frame(f offline.Frame) error {
	if f.Pos < d.from || d.topic != "" && topicOf(f) != d.topic {
		return nil
	}
	var err error
	if d.json {
		err = d.encoder.Encode(newFrameJSON(f, d.body))
	} else {
		_, err = d.w.WriteString(frameLine(f, d.body))
	}
	if err != nil {
		return fmt.Errorf("print frames: %w", err)
	}
	if d.shown++; d.shown == d.limit {
		return errEnough
	}
	return nil
}

// topicOf is the topic that a frame is about, "" if it is about none.
func topicOf(f offline.Frame) string {
	switch {
	case f.Message != nil:
		return f.Message.Topic
	case f.Topic != nil:
		return f.Topic.Name
	case f.Positions != nil:
		return f.Positions.Topic
	case f.Settings != nil && f.Settings.Topic:
		return f.Settings.Name
	}
	return ""
}
