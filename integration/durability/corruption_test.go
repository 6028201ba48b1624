package durability_test

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// sample is a store with something of everything, and what is in it.
type sample struct {
	disk *vfs.Mem
	want world.Snapshot
	// records by place, with the position in the log.
	records map[world.Place]record
	frames  []int64
	// last may be missing: nothing tells the end of the log from a write that
	// was cut short, if the program was killed right after it.
	last   world.Place
	killed bool
}

type record struct {
	text string
	pos  int64
	size int64 // of the frame, at most
}

// makeSample runs a script in several segments. The program is closed, or
// killed right after its last message.
func makeSample(t *testing.T, killed bool) *sample {
	s := &sample{records: map[world.Place]record{}, killed: killed}
	w := world.New(t, world.Config())
	w.Open()
	for _, o := range script() {
		w.Do(o)
	}
	for i := range 40 {
		w.Do(world.Op{Kind: world.Batch, Topic: i % 2, N: i % 5, X: i})
	}
	w.Do(world.Op{Kind: world.Pass, X: 3})
	ctx := context.Background()
	rs := w.Conn().Send(ctx, driver.SendRequest{Messages: []*driver.Message{{ID: "the-last", Topic: "alpha", Body: make([]byte, 600)}}})
	if rs[0].Err != nil {
		t.Fatal(rs[0].Err)
	}
	s.last = world.Place{Topic: "alpha", Queue: rs[0].Queue, Offset: rs[0].Offset}
	w.Observe()
	var err error
	if s.want, err = world.Take(ctx, w.Conn()); err != nil {
		t.Fatal(err)
	}
	s.note(t, w.Conn())
	if !killed {
		w.Shut()
	}
	s.disk = w.Disk().Mem.CrashClone(vfs.CrashOptions{})
	w.End()
	return s
}

// note notes every message with its position.
func (s *sample) note(t *testing.T, c driver.Conn) {
	topics, err := c.Extensions().Topics.Topics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range topics {
		for q := range topic.Queues {
			err := world.Each(t.Context(), c, topic.Name, q, func(d *driver.Delivery) {
				_, pos, err := message.ParseOffsetID(d.OffsetID)
				if err != nil {
					t.Fatal(err)
				}
				s.frames = append(s.frames, pos)
				// Names, properties and headers are far below this.
				s.records[world.Place{Topic: topic.Name, Queue: q, Offset: d.Offset}] = record{world.Describe(d), pos, int64(len(d.Body)) + 1024}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCorruption damages a random byte, tail or range of a random file of every
// kind, and opens the store. It either refuses, with an error that says so, or
// answers every message as it was or an error for it, and what can be made anew
// from the rest is.
//
// It catches a checksum that leaves out the header, and a log that is cut off
// at its first bad frame.
func TestCorruption(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	tally := map[string]int{}
	samples := map[bool]*sample{}
	for _, killed := range []bool{false, true} {
		bubble(t, func(t *testing.T) { samples[killed] = makeSample(t, killed) })
	}
	forSeeds(t, cases(t, "DURABILITY_CORRUPTIONS", 300, 1000, 100_000), func(t *testing.T, seed uint64) {
		what := corrupt(t, seed, samples[seed%2 == 0])
		mu.Lock()
		defer mu.Unlock()
		tally[what]++
	})
	t.Logf("results by file kind: %v", tally)
}

// corrupt damages one file and answers what came of it.
func corrupt(t *testing.T, seed uint64, s *sample) string {
	disk, rng := world.Copy(s.disk), world.Rand(seed, 3)
	cfg := world.Config()
	cfg.FS = disk
	if seed%5 == 0 {
		return s.rotUnder(t, seed, cfg, disk)
	}
	damage, err := world.Rot(disk, rng, s.frames)
	if err != nil {
		t.Fatal(err)
	}
	kind := world.FileKind(damage.File)
	name := fmt.Sprintf("SEED=%d, program killed: %v, %v", seed, s.killed, damage)
	if replaying() {
		t.Log(name)
	}
	sums := maphash.MakeSeed()
	before := world.Sum(sums, disk)
	b, err := embedded.Open("", cfg)
	if err != nil {
		if driver.CodeOf(err) != driver.Corrupt {
			t.Fatalf("%s: open answers %v (%v), want it to be corrupt", name, err, driver.CodeOf(err))
		}
		if !strings.Contains(err.Error(), damage.File) && kind == ".log" {
			t.Errorf("%s: the error does not name the file: %v", name, err)
		}
		if world.Sum(sums, disk) != before {
			t.Fatalf("%s: the store was refused, and changed all the same", name)
		}
		s.quarantined(t, name, disk, damage)
		return kind + " refused"
	}
	defer b.Close(context.Background())
	if s.compare(t, name, b.Connect("reader"), damage, false) {
		return kind + " detected on read"
	}
	return kind + " no harm"
}

// rotUnder damages the log under an open broker, which answers every message as
// it was, or an error for it, and never a false one.
func (s *sample) rotUnder(t *testing.T, seed uint64, cfg embedded.Config, disk *vfs.Mem) string {
	b, err := embedded.Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	damage, err := world.Rot(disk, world.Rand(seed, 3), s.frames)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("SEED=%d, while the store is open, %v", seed, damage)
	if s.compare(t, name, b.Connect("reader"), damage, true) {
		return world.FileKind(damage.File) + " detected while open"
	}
	return world.FileKind(damage.File) + " no harm while open"
}

// compare reads every message by itself. It reports whether some could not be
// read.
func (s *sample) compare(t *testing.T, name string, c driver.Conn, damage world.Damage, hole bool) (errs bool) {
	t.Helper()
	missing := 0
	for at, want := range s.records {
		ds, err := c.Extensions().Query.Browse(t.Context(), at.Topic, at.Queue, at.Offset, 1)
		switch code := driver.CodeOf(err); {
		case err != nil && code == driver.Corrupt, hole && code == driver.DataLoss:
			errs = true
			if !s.touches(damage, want) && !isDerived(damage.File) {
				t.Fatalf("%s: %v cannot be read, though it was not damaged: %v", name, at, err)
			}
		case code == driver.NotFound && hole && s.touches(damage, want):
			errs = true // all that the log said of the topic lies in the hole
		case err != nil:
			t.Fatalf("%s: %v: %v (%v), want a corrupt record or none", name, at, err, code)
		case len(ds) == 0 || ds[0].Offset != at.Offset:
			if hole && s.touches(damage, want) {
				errs = true // groups hear of it, see consume
				continue
			}
			if at != s.last || !s.killed {
				t.Fatalf("%s: %v is lost, and nobody said so", name, at)
			}
			missing++
		default:
			if got := world.Describe(ds[0]); got != want.text {
				t.Fatalf("%s: %v is\n%s, want\n%s", name, at, got, want.text)
			}
		}
	}
	if errs || missing > 0 || hole {
		return errs
	}
	got, err := world.Take(t.Context(), c)
	if isDerived(damage.File) && driver.CodeOf(err) == driver.Corrupt {
		return true
	}
	if err != nil {
		t.Fatalf("%s: %v (%v)", name, err, driver.CodeOf(err))
	}
	if diff := s.want.Diff(got); diff != "" {
		t.Fatalf("%s: the store differs:\n%s", name, diff)
	}
	return false
}

// touches reports whether damage may concern a record.
func (s *sample) touches(d world.Damage, r record) bool {
	base := world.SegmentBase(d.File)
	return base >= 0 && r.pos < base+d.To && r.pos+r.size > base+d.From
}

// quarantined opens a damaged store with the bad ranges set aside: all that was
// not damaged is served, and a group is told what is missing.
func (s *sample) quarantined(t *testing.T, name string, disk *vfs.Mem, damage world.Damage) {
	t.Helper()
	if world.FileKind(damage.File) != ".log" {
		return
	}
	cfg := quarantine(world.Config())
	cfg.FS = disk
	name += ", quarantine"
	b, err := embedded.Open("", cfg)
	if err != nil {
		t.Fatalf("%s: open: %v", name, err)
	}
	defer b.Close(context.Background())
	c := b.Connect("reader")
	s.compare(t, name, c, damage, true)
	s.consume(t, name, c)
	s.goOn(t, name, c)
}

// goOn sends to every topic that is known still, and requires that no message
// gets the offset of one that was there, lost or not.
func (s *sample) goOn(t *testing.T, name string, c driver.Conn) {
	t.Helper()
	topics, err := c.Extensions().Topics.Topics(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, topic := range topics {
		if strings.HasPrefix(topic.Name, "%") {
			continue
		}
		for range 2 * topic.Queues {
			rs := c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: topic.Name, Body: []byte("next")}}})
			if rs[0].Err != nil {
				t.Fatalf("%s: send: %v", name, rs[0].Err)
			}
			at := world.Place{Topic: topic.Name, Queue: rs[0].Queue, Offset: rs[0].Offset}
			if _, used := s.records[at]; used && (at != s.last || !s.killed) {
				t.Fatalf("%s: %v is used again", name, at)
			}
		}
	}
}

// consume lets a fresh group read everything and requires that deliveries and
// gaps together are all there was.
func (s *sample) consume(t *testing.T, name string, c driver.Conn) {
	t.Helper()
	const topic = "alpha"
	m := &member{}
	sub, err := c.Subscribe(t.Context(), driver.SubscribeSpec{Group: "after-damage", Topic: topic, Ordered: true}, m)
	if err != nil {
		t.Fatalf("%s: subscribe: %v", name, err)
	}
	defer sub.Close(context.Background())
	waitIdle()
	seen := map[world.Place]bool{}
	for _, l := range m.lanes() {
		q := l.Info().Queue
		for empty := 0; empty < 2; {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			ds, err := l.Fetch(ctx, 32)
			cancel()
			if from, to, ok := gapOf(err, driver.Damage); ok {
				for o := from; o < to; o++ {
					seen[world.Place{Topic: topic, Queue: q, Offset: o}] = true
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: fetch from %s: %v, want a gap", name, l.Name(), err)
			}
			if len(ds) == 0 {
				empty++
			}
			for _, d := range ds {
				at := world.Place{Topic: topic, Queue: q, Offset: d.Offset}
				seen[at] = true
				if want := s.records[at]; want.text != "" && world.Describe(d) != want.text {
					t.Fatalf("%s: %v came as\n%s, want\n%s", name, at, world.Describe(d), want.text)
				}
				if err := l.Settle(t.Context(), []driver.Settlement{{Delivery: d, Outcome: driver.Ack}}); err != nil {
					t.Fatalf("%s: settle: %v", name, err)
				}
			}
		}
	}
	for at := range s.records {
		if at.Topic == topic && !seen[at] && (at != s.last || !s.killed) {
			t.Fatalf("%s: %v was neither delivered nor reported as a gap", name, at)
		}
	}
}
