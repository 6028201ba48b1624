package processes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/history"
)

// fillerArgs configure the role "filler". It is told, in turns:
//
//	fill   send until the store is full; says "full MS CODE RETRYABLE TEXT"
//	serve  read, acknowledge, ask for health; says "served N"
//	room   send every few milliseconds until it works; says "again MS"
//	end    close and say "end"
//
// Its other lines are those of the worker.
type fillerArgs struct {
	store
	// Limit makes the disk full by a limit of this process on the size of files.
	Limit bool
}

type filler struct {
	*producer
	args     fillerArgs
	consumer *consumer
}

func playFiller(s *stage) error {
	var args fillerArgs
	if err := s.parse(&args); err != nil {
		return err
	}
	b, err := args.open()
	if err != nil {
		return err
	}
	gate := make(chan struct{})
	f := &filler{args: args, consumer: newConsumer(s, b.Connect("consumer"), "consumer", liveGroup, gate)}
	f.producer = &producer{stage: s, conn: b.Connect("producer"), process: "p0"}
	if err := f.consumer.join(); err != nil {
		return err
	}
	close(gate)
	s.say("ready")
	for {
		var err error
		switch word := <-s.commands; word {
		case "fill":
			err = f.fill()
		case "serve":
			err = f.serve()
		case "room":
			err = f.room()
		case "end":
			err = b.Close(context.Background())
			s.say("end")
			return err
		default:
			err = fmt.Errorf("told %q", word)
		}
		if err != nil {
			return err
		}
	}
}

// one sends one message and says what came of it.
func (f *filler) one() error {
	v := history.Value{Process: f.process, Counter: f.next}
	f.next++
	f.stage.say("i %s %d k", v.Process, v.Counter)
	r := f.conn.Send(context.Background(), driver.SendRequest{Messages: []*driver.Message{
		{Topic: topic, OrderingKey: fmt.Sprint(f.next), Body: history.Body(v, 16<<10)},
	}})[0]
	f.stage.say("a %s %d %d %d %s", v.Process, v.Counter, r.Queue, r.Offset, outcome(r.Err))
	return r.Err
}

func (f *filler) fill() error {
	if f.args.Limit {
		for range 20 {
			if err := f.one(); err != nil {
				return err
			}
		}
		if err := limitFiles(4096); err != nil {
			return err
		}
	}
	began := time.Now()
	for time.Since(began) < patience {
		if err := f.one(); err != nil {
			var e *driver.Error
			retryable := errors.As(err, &e) && e.Retryable
			f.stage.say("full %d %s %t %s", time.Since(began).Milliseconds(), driver.CodeOf(err), retryable, oneLine(err))
			return nil
		}
	}
	return fmt.Errorf("the store was not full after %v", patience)
}

// serve requires that a full store serves what it has.
func (f *filler) serve() error {
	ctx := context.Background()
	n := 0
	for q := range queues {
		ds, err := f.conn.Extensions().Query.Browse(ctx, topic, q, 0, 1<<20)
		if err != nil {
			return fmt.Errorf("read on a full disk: %w", err)
		}
		n += len(ds)
	}
	// The consumer goes on meanwhile: with nothing behind, everything was
	// fetched and acknowledged on the full disk.
	if err := drained(f.conn, f.consumer); err != nil {
		return fmt.Errorf("consume on a full disk: %w", err)
	}
	if err := f.one(); err == nil {
		return errors.New("a send was taken before there was room")
	}
	f.stage.say("served %d", n)
	return nil
}

func (f *filler) room() error {
	if f.args.Limit {
		if err := limitFiles(unlimited); err != nil {
			return err
		}
	}
	began, last := time.Now(), error(nil)
	for time.Since(began) < patience {
		if last = f.one(); last == nil {
			f.stage.say("again %d", time.Since(began).Milliseconds())
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("there was room, and no send worked within %v: %w", patience, last)
}

const unlimited = ^uint64(0)

// limitFiles sets how long a file of this process may become.
func limitFiles(n uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		return err
	}
	l.Cur = min(n, l.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l)
}

// recoverWithin is how soon a store has to take messages again.
const recoverWithin = 2 * time.Second

// TestDiskFull fills the disk and makes room again, many times, under one
// process that stays up.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, m := range modes[:2] {
		t.Run("tmpfs "+m.name, func(t *testing.T) {
			t.Parallel()
			dir := mountTmpfs(t, 64<<20)
			ballast := filepath.Join(dir, "ballast")
			fillRounds(t, fillerArgs{store: store{Dir: filepath.Join(dir, "store"), Sync: time.Duration(m.sync)}},
				func() { takeAll(t, ballast) }, func() { giveBack(t, ballast, 1<<20+1<<19) })
		})
		t.Run("file size "+m.name, func(t *testing.T) {
			t.Parallel()
			fillRounds(t, fillerArgs{store: store{Dir: storeDir(t), Sync: time.Duration(m.sync)}, Limit: true}, func() {}, func() {})
		})
	}
}

func fillRounds(t *testing.T, args fillerArgs, full, room func()) {
	rounds := count(t, "FILLS", 3, 20, 100)
	if !args.Limit {
		rounds = min(rounds, 25) // each takes a segment of the 64 MiB
	}
	l := newLedger(t)
	c := start(t, command{}, "filler", args)
	c.await("ready", l.note)
	slowest := 0
	for i := range rounds {
		full()
		c.tell("fill")
		words := c.await("full", l.note)
		if words[1] != driver.ResourceExhausted.String() || words[2] != "true" {
			t.Errorf("round %d: a full disk is answered with %s, retryable %s, want a retryable %v: %q", i, words[1], words[2], driver.ResourceExhausted, words)
		}
		c.tell("serve")
		c.await("served", l.note)
		room()
		c.tell("room")
		ms, err := strconv.Atoi(c.await("again", l.note)[0])
		if slowest = max(slowest, ms); err != nil || ms > int(recoverWithin.Milliseconds()) {
			t.Errorf("round %d: there was room, and a message was taken after %d ms only", i, ms)
		}
	}
	c.tell("end")
	c.await("end", l.note)
	c.end()
	l.fault("end of the process")
	drain := start(t, command{}, "drain", workerArgs{store: args.store})
	drain.await("drained", l.note)
	drain.end()
	if err := l.check(); err != nil {
		t.Error(err)
	}
	_, stored, _ := l.h.Counts()
	t.Logf("%d rounds, %d messages stored, messages taken %d ms after there was room at the latest", rounds, stored, slowest)
}

// mountTmpfs mounts a small file system of its own, or skips the test.
func mountTmpfs(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("a tmpfs cannot be mounted here, only the limit of the process is tested: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	keepOnFailure(t, filepath.Join(dir, "store"))
	return dir
}

// takeAll makes the ballast as large as it gets.
func takeAll(t *testing.T, ballast string) {
	t.Helper()
	f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(zeros)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// giveBack makes the ballast n bytes smaller.
func giveBack(t *testing.T, ballast string, n int64) {
	t.Helper()
	info, err := os.Stat(ballast)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() < n {
		t.Fatalf("the store has used up the disk: %d bytes are left to give back, of %s", info.Size(), strings.TrimSuffix(ballast, "ballast"))
	}
	if err := os.Truncate(ballast, info.Size()-n); err != nil {
		t.Fatal(err)
	}
}
