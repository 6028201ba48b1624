package processes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/history"
)

// playOpener opens a store when it is told to, and holds it. It says "opened",
// or "refused MILLISECONDS CODE TEXT" and ends.
func playOpener(s *stage) error {
	var args store
	if err := s.parse(&args); err != nil {
		return err
	}
	s.say("waiting")
	if err := s.expect("open"); err != nil {
		return err
	}
	began := time.Now()
	_, err := args.open()
	took := time.Since(began)
	if err != nil {
		s.say("refused %d %s %s", took.Milliseconds(), driver.CodeOf(err), oneLine(err))
		return nil
	}
	s.say("opened")
	return s.expect("end") // holds it until it is killed
}

// TestLock: of many processes one has the store. The others are told at once
// who it is and change nothing, and a kill sets the store free.
func TestLock(t *testing.T) {
	racers := count(t, "RACERS", 50, 50, 200)
	dir := storeDir(t)
	want := fillStore(t, dir)

	crowd := startOpeners(t, dir, racers)
	for _, c := range crowd {
		c.tell("open") // all are up and wait, so these come together
	}
	holder := judgeRace(t, crowd)
	crowd = startOpeners(t, dir, racers)
	before := snapshot(t, dir)
	for _, c := range crowd {
		c.tell("open")
	}
	refuseAll(t, crowd, holder.cmd.Process.Pid)
	if diff := before.differs(snapshot(t, dir)); diff != "" {
		t.Errorf("openers that were refused have changed the store: %s", diff)
	}

	holder.crash(func(string) {})
	began := time.Now()
	got := contents(t, dir)
	t.Logf("after the kill of the holder the store was open, read and closed within %v", time.Since(began).Round(time.Millisecond))
	if got != want {
		t.Errorf("the store holds %d bytes of messages after the race, %d before; they should be the same", len(got), len(want))
	}
}

func startOpeners(t *testing.T, dir string, n int) []*child {
	crowd := make([]*child, n)
	for i := range crowd {
		crowd[i] = start(t, command{}, "opener", store{Dir: dir})
	}
	for _, c := range crowd {
		c.await("waiting", nil)
	}
	return crowd
}

// judgeRace answers the one that got the store.
func judgeRace(t *testing.T, crowd []*child) *child {
	t.Helper()
	var winner *child
	for _, c := range crowd {
		words := firstWords(t, c)
		if words[0] == "opened" {
			if winner != nil {
				t.Fatalf("processes %d and %d have opened one store", winner.cmd.Process.Pid, c.cmd.Process.Pid)
			}
			winner = c
			continue
		}
		refused(t, c, words)
	}
	if winner == nil {
		t.Fatalf("of %d processes none could open the store", len(crowd))
	}
	return winner
}

// refuseAll requires that everyone is refused and told who has the store.
func refuseAll(t *testing.T, crowd []*child, holder int) {
	t.Helper()
	slowest := 0
	for _, c := range crowd {
		words := firstWords(t, c)
		if words[0] == "opened" {
			t.Fatalf("process %d has opened a store that process %d holds", c.cmd.Process.Pid, holder)
		}
		slowest = max(slowest, refused(t, c, words))
		if text := strings.Join(words[3:], " "); !strings.Contains(text, fmt.Sprintf("pid %d ", holder)) {
			t.Errorf("the error does not name process %d, which holds the store: %s", holder, text)
		}
	}
	t.Logf("%d openers were refused, the slowest after %d ms", len(crowd), slowest)
}

// firstWords answers the words of the next line.
func firstWords(t *testing.T, c *child) []string {
	t.Helper()
	select {
	case line, ok := <-c.lines:
		if words := strings.Fields(line); ok && len(words) > 0 {
			return words
		}
		c.kill()
		t.Fatalf("an opener said nothing: %v\n%s", c.state, c.errs)
	case <-time.After(patience):
		t.Fatalf("an opener said nothing within %v", patience)
	}
	return nil
}

// refused judges "refused MILLISECONDS CODE TEXT". The bound is generous: the
// processors are shared by all of the crowd.
func refused(t *testing.T, c *child, words []string) (ms int) {
	t.Helper()
	if words[0] != "refused" || len(words) < 4 {
		t.Fatalf("an opener said %q", words)
	}
	ms, err := strconv.Atoi(words[1])
	if err != nil || ms > 2000 {
		t.Errorf("an opener was refused after %s ms only", words[1])
	}
	if words[2] != driver.FailedPrecondition.String() {
		t.Errorf("an opener was refused with %s, want %v: %q", words[2], driver.FailedPrecondition, words)
	}
	c.end()
	return ms
}

// fillStore writes a little and answers the contents.
func fillStore(t *testing.T, dir string) string {
	t.Helper()
	b, err := store{Dir: dir}.open()
	if err != nil {
		t.Fatal(err)
	}
	c := b.Connect("filler")
	for i := range 50 {
		body := history.Body(history.Value{Process: "f", Counter: i}, 1000)
		if r := c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: topic, Body: body}}}); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return contents(t, dir)
}

// contents opens the store, answers all of its bodies with their places, and
// closes it.
func contents(t *testing.T, dir string) string {
	t.Helper()
	b, err := store{Dir: dir}.open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	var out strings.Builder
	c := b.Connect("reader")
	for q := range queues {
		ds, err := c.Extensions().Query.Browse(t.Context(), topic, q, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			fmt.Fprintf(&out, "%d/%d %q\n", q, d.Offset, d.Body)
		}
	}
	return out.String()
}

// files are the contents of a directory.
type files map[string][]byte

func snapshot(t *testing.T, dir string) files {
	t.Helper()
	out := files{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		out[path], err = os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) { // a temporary file of the holder
			delete(out, path)
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatalf("read the store: %v", err)
	}
	return out
}

func (f files) differs(g files) string {
	var out []string
	for name, b := range f {
		if after, there := g[name]; !there || !bytes.Equal(b, after) {
			out = append(out, name)
		}
	}
	for name := range g {
		if _, there := f[name]; !there {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}
