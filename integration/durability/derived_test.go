package durability_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// library is a large store with something of everything, closed, and copies of
// its disk from earlier moments.
type library struct {
	disk    *vfs.Mem
	earlier []*vfs.Mem
	halves  []driver.Half
	// now is what can be seen at once, later what can be seen when everything
	// is due and decided.
	now, later []string
}

const dueAfter = time.Hour

func derivedConfig() embedded.Config {
	c := world.Config()
	c.MaxBatch, c.Queues = 1000, 4
	return c
}

// makeLibrary stores n messages in three topics.
func makeLibrary(t *testing.T, n int) *library {
	l := &library{disk: vfs.NewMem()}
	ctx := t.Context()
	rng := world.Rand(uint64(n), 11)
	for part := range 4 {
		cfg := derivedConfig()
		cfg.FS = l.disk
		b, err := embedded.Open("", cfg)
		if err != nil {
			t.Fatal(err)
		}
		c := b.Connect("writer")
		for from := part * n / 4; from < (part+1)*n/4; from += 500 {
			l.store(t, c, rng, from, min(500, (part+1)*n/4-from))
		}
		consumeSome(t, c, fmt.Sprintf("topic-%d", part%3), 100)
		time.Sleep(7 * time.Second) // positions and checkpoints
		waitIdle()
		if part < 3 {
			l.earlier = append(l.earlier, world.Copy(l.disk))
		}
		if err := b.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// store sends n messages, some delayed, and prepares a few half messages.
func (l *library) store(t *testing.T, c driver.Conn, rng *rand.Rand, from, n int) {
	t.Helper()
	var ms []*driver.Message
	for i := range n {
		id := from + i
		m := &driver.Message{
			ID: fmt.Sprintf("m-%d", id), Topic: fmt.Sprintf("topic-%d", id%3), Body: fmt.Appendf(nil, "message %d %0*d", id, rng.IntN(200), 0),
			Keys: []string{fmt.Sprintf("customer-%d", id%997)}, Tag: []string{"", "red", "blue"}[id%3],
		}
		if id%50 == 0 {
			m.DeliverAt = time.Now().Add(dueAfter - time.Duration(rng.IntN(1000))*time.Second)
		}
		ms = append(ms, m)
	}
	for i, r := range c.Send(t.Context(), driver.SendRequest{Messages: ms}) {
		if r.Err != nil {
			t.Fatalf("send %s: %v", ms[i].ID, r.Err)
		}
	}
	for i := range 2 {
		h, err := c.Extensions().Tx.Prepare(t.Context(), "producers", &driver.Message{ID: fmt.Sprintf("h-%d-%d", from, i), Topic: "topic-1", Body: []byte("half")})
		if err != nil {
			t.Fatal(err)
		}
		l.halves = append(l.halves, h)
	}
}

// consumeSome lets a group settle up to n messages of each lane, with a hole.
func consumeSome(t *testing.T, c driver.Conn, topic string, n int) {
	t.Helper()
	m := &member{}
	sub, err := c.Subscribe(t.Context(), driver.SubscribeSpec{Group: "readers", Topic: topic}, m)
	if err != nil {
		t.Fatal(err)
	}
	waitIdle()
	for _, l := range m.lanes() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		ds, err := l.Fetch(ctx, n)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range ds {
			if i == 7 {
				continue // comes again
			}
			s := driver.Settlement{Delivery: d, Outcome: driver.Ack}
			if i == 3 {
				s.Outcome, s.Delay = driver.Retry, dueAfter
			}
			if err := l.Settle(t.Context(), []driver.Settlement{s}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := sub.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// read opens a disk and answers what can be seen now and later.
func (l *library) read(t *testing.T, disk *vfs.Mem) (now, later []string) {
	t.Helper()
	cfg := derivedConfig()
	cfg.FS = disk
	b, err := embedded.Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	c := b.Connect("reader")
	s, err := world.Take(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range l.halves {
		if err := c.Extensions().Tx.Resolve(t.Context(), h, []driver.Decision{driver.Commit, driver.Rollback}[i%2]); err != nil {
			t.Fatalf("decide half %d: %v", i, err)
		}
	}
	time.Sleep(2 * dueAfter)
	waitIdle()
	after, err := world.Take(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lines(), after.WithoutTimes().Lines()
}

// TestDerivedFiles deletes what can be made anew from the log, or puts back
// what it was at an earlier moment, in several combinations. All queues, all
// keys, delayed messages, half messages and positions have to be the same.
//
// It catches a file that is believed though it does not fit the log.
func TestDerivedFiles(t *testing.T) {
	t.Parallel()
	if replaying() {
		t.Skip("SEED is for other tests")
	}
	var l *library
	n := cases(t, "DURABILITY_MESSAGES", 6000, 100_000, 1_000_000)
	bubble(t, func(t *testing.T) { l = makeLibrary(t, n) })
	bubble(t, func(t *testing.T) { l.now, l.later = l.read(t, world.Copy(l.disk)) })
	derived := 0
	for _, names := range world.Files(l.disk) {
		for _, name := range names {
			if isDerived(name) {
				derived++
			}
		}
	}
	t.Logf("%d messages, %d lines, %d derived files", n, len(l.now), derived)
	if derived == 0 {
		t.Error("the store has no derived files, so nothing was tested")
	}
	changes := derivedChanges()
	inParallel(t, len(changes), func(t *testing.T, i int) {
		disk := world.Copy(l.disk)
		if err := changes[i].apply(l, disk); err != nil {
			t.Fatal(err)
		}
		now, later := l.read(t, disk)
		if diff := world.Diff(l.now, now); diff != "" {
			t.Errorf("%s:\n%s", changes[i].name, diff)
		}
		if diff := world.Diff(l.later, later); diff != "" {
			t.Errorf("%s, when everything is due and decided:\n%s", changes[i].name, diff)
		}
	})
}

// change is something that happens to derived files.
type change struct {
	name  string
	apply func(l *library, disk *vfs.Mem) error
}

func derivedChanges() []change {
	remove := func(which func(i int, kind string) bool) func(*library, *vfs.Mem) error {
		return func(_ *library, disk *vfs.Mem) error {
			for kind, names := range world.Files(disk) {
				for i, name := range names {
					if isDerived(name) && which(i, kind) {
						if err := disk.Remove(name); err != nil {
							return err
						}
					}
				}
			}
			return disk.SyncDir(".")
		}
	}
	// back puts the derived files of an earlier moment in place; fresh keeps
	// the present ones that did not exist then.
	back := func(moment int, fresh bool) func(*library, *vfs.Mem) error {
		return func(l *library, disk *vfs.Mem) error {
			if !fresh {
				if err := remove(func(int, string) bool { return true })(l, disk); err != nil {
					return err
				}
			}
			for _, names := range world.Files(l.earlier[moment]) {
				for _, name := range names {
					if !isDerived(name) {
						continue
					}
					b, err := world.ReadFile(l.earlier[moment], name)
					if err == nil {
						err = world.WriteFile(disk, name, b)
					}
					if err != nil {
						return err
					}
				}
			}
			return nil
		}
	}
	return []change{
		{"all deleted", remove(func(int, string) bool { return true })},
		{"all but the index files deleted", remove(func(_ int, kind string) bool { return kind != ".idx" })},
		{"index files deleted", remove(func(_ int, kind string) bool { return kind == ".idx" })},
		{"every second one deleted", remove(func(i int, _ string) bool { return i%2 == 0 })},
		{"the first ones deleted", remove(func(i int, _ string) bool { return i == 0 })},
		{"all from an early moment", back(0, false)},
		{"all from a late moment", back(2, false)},
		{"early ones beside the present ones", back(0, true)},
		{"late ones beside the present ones", back(2, true)},
	}
}
