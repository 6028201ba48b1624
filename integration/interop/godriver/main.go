package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// command is one line of input.
type command struct {
	verb      string
	arguments map[string]string
}

func parse(line string) (command, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return command{}, errors.New("read a command: the line is empty")
	}
	c := command{verb: words[0], arguments: map[string]string{}}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		plain, err := url.QueryUnescape(value)
		if err != nil {
			return c, fmt.Errorf("read argument %s of %s: %w", name, c.verb, err)
		}
		c.arguments[name] = plain
	}
	return c, nil
}

func (c command) has(name string) bool    { _, ok := c.arguments[name]; return ok }
func (c command) text(name string) string { return c.arguments[name] }

func (c command) number(name string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(c.arguments[name], 10, 64); err == nil {
		return n
	}
	return otherwise
}

// fields is one JSON line of output.
type fields map[string]any

var output sync.Mutex

func line(f fields) {
	b, err := json.Marshal(f)
	if err != nil {
		b = fmt.Appendf(nil, `{"event":"complaint","text":%q}`, err)
	}
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(b, '\n'))
}

func event(name, handle string, f fields) {
	f["event"], f["on"], f["at"] = name, handle, time.Now().UnixMilli()
	line(f)
}

func main() {
	level := os.Getenv("SLUICE_INTEROP_LOG")
	if level == "" {
		level = "error"
	}
	rlog.SetLogLevel(level)
	d := &drivers{producers: table[producerHandle]{}, pushes: table[pushHandle]{}, pulls: table[pullHandle]{}}
	line(fields{"event": "ready", "on": "go"})
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		c, err := parse(in.Text())
		if err != nil {
			line(fields{"event": "complaint", "text": err.Error()})
			continue
		}
		go d.answer(c)
	}
	// The end of the input is the end of the test: nothing is worth a farewell.
	os.Exit(0)
}

// drivers are the open clients by handle.
type drivers struct {
	producers table[producerHandle]
	pushes    table[pushHandle]
	pulls     table[pullHandle]
}

func (d *drivers) answer(c command) {
	defer func() {
		if p := recover(); p != nil {
			line(fields{"id": c.number("id", 0), "error": fmt.Sprint("panic: ", p)})
		}
	}()
	f, err := d.run(c)
	if f == nil {
		f = fields{}
	}
	f["id"] = c.number("id", 0)
	if err != nil {
		f["error"], f["code"] = err.Error(), code(err)
	}
	line(f)
}

// code is the response code inside an error, 0 if there is none.
func code(err error) int {
	if b, ok := errors.AsType[primitive.MQBrokerErr](err); ok {
		return int(b.ResponseCode)
	}
	return 0
}

func (d *drivers) run(c command) (fields, error) {
	switch c.verb {
	case "producer":
		return nil, d.openProducer(c)
	case "send":
		return d.send(c)
	case "bulk":
		return d.bulk(c)
	case "push":
		return nil, d.openPush(c)
	case "suspend", "resume":
		return nil, d.suspend(c)
	case "tally":
		return d.tally(c)
	case "lite":
		return nil, d.openPull(c)
	case "poll":
		return d.poll(c)
	case "pull":
		return d.pull(c)
	case "topic":
		return d.topic(c)
	case "close":
		return nil, d.close(c)
	}
	return nil, fmt.Errorf("run a command: unknown verb %s", c.verb)
}

func (d *drivers) close(c command) error {
	h := c.text("h")
	if p, ok := d.producers.take(h); ok {
		return p.shutdown()
	}
	if p, ok := d.pushes.take(h); ok {
		err := p.consumer.Shutdown()
		if p.replies != nil {
			err = errors.Join(err, p.replies.Shutdown())
		}
		return err
	}
	if p, ok := d.pulls.take(h); ok {
		return p.consumer.Shutdown()
	}
	return fmt.Errorf("close %s: nothing is open by this name", h)
}

// table is a map of handles for several goroutines.
type table[T any] map[string]*T

var tables sync.Mutex

func (t table[T]) put(name string, v *T) {
	tables.Lock()
	defer tables.Unlock()
	t[name] = v
}

func (t table[T]) get(name string) (*T, error) {
	tables.Lock()
	defer tables.Unlock()
	if v := t[name]; v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("find %s: nothing is open by this name", name)
}

func (t table[T]) take(name string) (*T, bool) {
	tables.Lock()
	defer tables.Unlock()
	v := t[name]
	delete(t, name)
	return v, v != nil
}
