package embedded_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// small makes files of the log that a test fills quickly.
var small = embedded.Config{
	Queues: 1, MaxBody: 1 << 10, SegmentBytes: 128 << 10,
	Retention: embedded.Retention{Age: -1},
}

// drain fetches everything a lane has, settles it, and answers the bodies and
// the gaps it was told of.
func (c *consumer) drain(lane string) (got []string, gaps []driver.GapError) {
	c.k.Helper()
	l := c.lane(lane)
	for {
		ds, err := l.Fetch(c.k.Context(), 100)
		if gap, ok := errors.AsType[*driver.GapError](err); ok {
			wantCode(c.k, "a gap", err, driver.DataLoss)
			gaps = append(gaps, *gap)
			continue
		}
		c.k.must("fetch from "+lane, err)
		if len(ds) == 0 {
			return got, gaps
		}
		got = append(got, bodies(ds)...)
		c.settle(lane, driver.Ack, 0, ds...)
	}
}

func (k *kit) stats() embedded.Stats {
	k.Helper()
	s, err := k.b.Stats(k.Context())
	k.must("stats", err)
	return s
}

// fill sends n messages of half a KiB whose bodies begin with their number.
func (k *kit) fill(topic string, from, n int) {
	k.Helper()
	pad := strings.Repeat("x", 500)
	for i := from; i < from+n; i += 100 {
		var ms []*driver.Message
		for j := i; j < min(i+100, from+n); j++ {
			ms = append(ms, &driver.Message{Topic: topic, Keys: []string{fmt.Sprint("k", j)}, Body: fmt.Appendf(nil, "%06d%s", j, pad)})
		}
		k.send(ms...)
	}
}

// inOrder requires that the bodies are those from first on, without a gap.
func inOrder(t testing.TB, got []string, first, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("got %d messages, want %d", len(got), n)
	}
	for i, b := range got {
		if want := fmt.Sprintf("%06d", first+i); b[:6] != want {
			t.Fatalf("message %d is %s, want %s", i, b[:6], want)
		}
	}
}

// Messages that retention has removed are told to a group that comes late, as
// one gap that is counted, and nothing else is lost.
func TestRetention_Gap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := small
		cfg.Retention.Bytes = 256 << 10
		k := newKit(t, cfg)
		c := k.join(k.conn, spec("late", "t"))
		k.fill("t", 0, 2000) // about 1.3 MB
		k.send(&driver.Message{Topic: "quiet"})
		time.Sleep(time.Minute)
		s := k.stats()
		if kept := s.End - s.Start; kept > 256<<10+128<<10 || s.Start == 0 {
			t.Errorf("the log keeps %d bytes from %d on", kept, s.Start)
		}
		got, gaps := c.drain("t/0")
		if len(gaps) != 1 || gaps[0].From != 0 || gaps[0].Reason != driver.Retention || gaps[0].Lane != "t/0" {
			t.Fatalf("got gaps %+v, want one from 0 by retention", gaps)
		}
		first := int(gaps[0].To)
		inOrder(t, got, first, 2000-first)
		if s := k.stats(); s.LostToRetention != int64(first) || s.LostToDamage != 0 {
			t.Errorf("counted %d and %d, want %d and 0", s.LostToRetention, s.LostToDamage, first)
		}
		c.close()
		check := func(how string) {
			t.Helper()
			topics, err := k.conn.Extensions().Topics.Topics(t.Context())
			k.must("topics", err)
			if len(topics) != 3 { // and the retry topic
				t.Errorf("%s: topics %+v", how, topics)
			}
			if ds, err := k.conn.Extensions().Query.Browse(t.Context(), "t", 0, 0, 1); err != nil || len(ds) != 1 || ds[0].Offset != int64(first) {
				t.Errorf("%s: browse: %d messages, %v", how, len(ds), err)
			}
			if r := k.send(&driver.Message{Topic: "quiet"}); r[0].Lane != "quiet/0" {
				t.Errorf("%s: %+v", how, r)
			}
			lag, err := k.conn.Extensions().Groups.Lag(t.Context(), "late")
			if err != nil || lag[0].Committed != 2000 || lag[0].Max != 2000 {
				t.Errorf("%s: lag %+v, %v", how, lag, err)
			}
		}
		check("live")
		k.reopen()
		check("after a clean close")
		k.crash()
		check("after a crash")
		k.must("close", k.b.Close(t.Context()))
		for _, name := range k.files("STATE-", ".idx") {
			k.must("remove", k.fs.Remove(name))
		}
		k.open()
		check("without what is derived")
	})
}

// files lists the files of the store whose names hold one of parts.
func (k *kit) files(parts ...string) (out []string) {
	k.Helper()
	names, err := k.fs.List(".")
	k.must("list", err)
	for _, name := range names {
		for _, p := range parts {
			if strings.Contains(name, p) {
				out = append(out, name)
			}
		}
	}
	return out
}

// A message that is still to become visible holds up retention.
func TestRetention_Pinned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := small
		cfg.Retention.Bytes = 1
		k := newKit(t, cfg)
		half, err := k.conn.Extensions().Tx.Prepare(t.Context(), "p", &driver.Message{Topic: "t", Body: []byte("half")})
		k.must("prepare", err)
		k.fill("t", 0, 1000)
		time.Sleep(time.Minute)
		if s := k.stats(); s.Start != 0 || s.Halves != 1 {
			t.Fatalf("start is %d with %d open half messages", s.Start, s.Halves)
		}
		k.must("commit", k.conn.Extensions().Tx.Resolve(t.Context(), half, driver.Commit))
		k.send(&driver.Message{Topic: "t", Body: []byte("later"), DeliverAt: time.Now().Add(time.Hour)})
		k.fill("t", 0, 1000)
		time.Sleep(time.Minute)
		s := k.stats()
		if s.Start == 0 || s.Delayed != 1 {
			t.Fatalf("start is %d with %d delayed messages", s.Start, s.Delayed)
		}
		k.fill("t", 0, 1000)
		time.Sleep(time.Minute)
		if now := k.stats(); now.Start != s.Start {
			t.Errorf("the log was cut from %d to %d before a message that is not due", s.Start, now.Start)
		}
		time.Sleep(2 * time.Hour)
		if now := k.stats(); now.Start == s.Start || now.Delayed != 0 {
			t.Errorf("the log begins at %d still, %d messages are delayed", now.Start, now.Delayed)
		}
	})
}

// A client elsewhere that asks for what retention has taken from its group is told
// where the queue begins; the log and the counters say what is lost, once. Who has
// read it, looks back, or begins, has lost nothing.
func TestRetention_MissedElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg := small
		cfg.Retention.Bytes, cfg.Logger = 256<<10, slog.New(slog.NewTextHandler(&log, nil))
		k := newKit(t, cfg)
		k.fill("t", 0, 100)
		cursor := func(group string) embedded.Cursor { return k.store().Cursor(group, "t", 0) }
		cursor("behind").Commit(40)
		cursor("nothing read").Commit(0)
		k.fill("t", 100, 1900)
		cursor("done").Commit(2000)
		time.Sleep(time.Minute)
		q := k.queue("t", 0)
		first := q.Min()
		if first <= 100 {
			t.Fatalf("the queue begins at %d", first)
		}
		want := int64(0)
		for _, c := range []struct {
			group       string
			asked, from int64 // from is first where nothing is lost
		}{
			{"done", 0, first},
			{"done", 10, first},
			{"new", 0, first},
			{"broadcast", 50, 50},
			{"behind", 40, 40},
			{"behind", 40, first},
			{"nothing read", 0, 0},
			{"nothing read", 0, first},
		} {
			synctest.Wait() // nobody else writes to the log
			log.Reset()
			cursor(c.group).Missed(q, c.asked)
			told := lines(log.String(), "level=ERROR", "lost to a group", "lane=t/0", fmt.Sprint("from=", c.from), fmt.Sprint("to=", first), "reason=retention")
			if told != min(int(first-c.from), 1) || told == 0 && log.Len() > 0 {
				t.Errorf("%s asks for %d: %s", c.group, c.asked, log.String())
			}
			if want += first - c.from; k.stats().LostToRetention != want {
				t.Errorf("%s asks for %d: counted %d, want %d", c.group, c.asked, k.stats().LostToRetention, want)
			}
		}
		if at, ok := cursor("behind").Position(); !ok || at != first {
			t.Errorf("the group goes on at %d, want %d", at, first)
		}
		if _, ok := cursor("broadcast").Position(); ok {
			t.Error("a broadcast group has a position now")
		}
	})
}

// Who wants less kept than one file of the log takes is told that more is.
func TestRetention_LessThanAFile(t *testing.T) {
	t.Parallel()
	for most, want := range map[int64]bool{0: false, 1: true, small.SegmentBytes - 1: true, small.SegmentBytes: false} {
		var log bytes.Buffer
		cfg := small
		cfg.Retention.Bytes, cfg.Logger = most, slog.New(slog.NewTextHandler(&log, nil))
		k := newKit(t, cfg)
		k.must("close", k.b.Close(t.Context()))
		if got := strings.Contains(log.String(), "more is kept than retention says"); got != want {
			t.Errorf("Retention.Bytes %d: told is %v, want %v: %s", most, got, want, &log)
		}
	}
}

// Age alone removes whole files, a few at a time.
func TestRetention_AgeAndPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := small
		cfg.Retention = embedded.Retention{Age: time.Hour, PerPass: 2}
		k := newKit(t, cfg)
		k.fill("t", 0, 2000)
		files := k.stats().Segments
		time.Sleep(30 * time.Minute)
		if s := k.stats(); s.Segments != files {
			t.Fatalf("%d of %d files are left before their time", s.Segments, files)
		}
		time.Sleep(31 * time.Minute)
		at := k.stats().Segments
		if at >= files {
			t.Fatal("nothing was removed")
		}
		time.Sleep(10 * time.Second)
		if now := k.stats().Segments; at-now > 2 {
			t.Errorf("%d files were removed in one pass", at-now)
		}
		time.Sleep(time.Hour)
		if s := k.stats(); s.Segments != 1 {
			t.Errorf("%d files are left of %d", s.Segments, files)
		}
	})
}

// The state of a store is the same whether it was read from checkpoint and
// index, or from the log alone.
func TestDerived_Rebuilt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, small)
		k.fill("t", 0, 1500)
		k.send(&driver.Message{Topic: "t", ID: "later", DeliverAt: time.Now().Add(time.Hour)})
		look := func() string {
			var b strings.Builder
			s := k.stats()
			fmt.Fprintln(&b, s.Topics, s.Delayed, s.Halves)
			for at := int64(0); at < 1500; at += 100 {
				ds, err := k.conn.Extensions().Query.Browse(t.Context(), "t", 0, at, 100)
				k.must("browse", err)
				for _, d := range ds {
					fmt.Fprintln(&b, d.Offset, d.ID, d.OffsetID, d.StoredAt, string(d.Body[:6]))
				}
			}
			for _, key := range []string{"k0", "k700", "k1499"} {
				ds, err := k.conn.Extensions().Query.ByKey(t.Context(), "t", key, driver.TimeRange{}, 10)
				k.must("by key", err)
				fmt.Fprintln(&b, key, len(ds), ds[0].Offset)
			}
			return b.String()
		}
		want := look()
		k.reopen()
		if len(k.files("STATE-")) == 0 || len(k.files(".idx")) < 5 {
			t.Errorf("files: %q", k.files(""))
		}
		if got := look(); got != want {
			t.Error("after a clean close it looks different")
		}
		k.crash()
		if got := look(); got != want {
			t.Error("after a crash it looks different")
		}
		for i, part := range []string{"STATE-", ".idx"} {
			k.must("close", k.b.Close(t.Context()))
			for _, name := range k.files(part) {
				k.must("remove", k.fs.Remove(name))
			}
			k.open()
			if got := look(); got != want {
				t.Errorf("%d: without %s it looks different", i, part)
			}
		}
	})
}
