package embedded_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/offline"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// damage changes a byte of a file of the store, for good.
func (k *kit) damage(name string, off int64) {
	k.Helper()
	f, err := k.fs.OpenReadWrite(name)
	k.must("open", err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	k.must("read", err)
	b[0] ^= 0x40
	_, err = f.WriteAt(b, off)
	k.must("write", err)
	k.must("sync", f.Sync())
	k.must("close", f.Close())
}

// A message whose bytes have changed stops its lane, loudly, until the operator
// has decided; then the group is told which one is lost, once, and gets all
// others.
func TestDamage_MetByReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, small)
		c := k.join(k.conn, spec("g", "t"))
		c.lane("t/0")
		k.fill("t", 0, 1000)
		c.close()
		k.must("close", k.b.Close(t.Context()))
		k.damage(k.files(".log")[1], 5000)
		k.open()
		c = k.join(k.conn, spec("g", "t"))
		var got []string
		var failure error
		for failure == nil {
			var ds []*driver.Delivery
			if ds, failure = c.lane("t/0").Fetch(t.Context(), 64); failure == nil {
				got = append(got, bodies(ds)...)
				c.settle("t/0", driver.Ack, 0, ds...)
			}
		}
		wantCode(t, "the damaged message", failure, driver.Corrupt)
		_, failure = c.lane("t/0").Fetch(t.Context(), 64)
		wantCode(t, "the damaged message again", failure, driver.Corrupt)
		at := len(got)
		inOrder(t, got, 0, at)
		c.close()
		k.cfg.OnCorruption = embedded.Quarantine
		k.reopen()
		c = k.join(k.conn, spec("g", "t"))
		got, gaps := c.drain("t/0")
		if len(gaps) != 1 || gaps[0] != (driver.GapError{Lane: "t/0", From: int64(at), To: int64(at) + 1, Reason: driver.Damage}) {
			t.Fatalf("got gaps %+v, want one at %d by damage", gaps, at)
		}
		inOrder(t, got, at+1, 999-at)
		if s := k.stats(); s.LostToDamage != 1 || s.ReadErrors == 0 {
			t.Errorf("counted %d lost, %d read errors", s.LostToDamage, s.ReadErrors)
		}
		c.close()
		k.reopen()
		c = k.join(k.conn, spec("g", "t"))
		if got, gaps := c.drain("t/0"); len(got)+len(gaps) > 0 {
			t.Errorf("after another start: %d messages, gaps %+v", len(got), gaps)
		}
	})
}

// Damage that opening meets refuses the store, or puts the range out of use:
// everything else is there, no offset is used twice, and every group is told.
func TestDamage_MetByOpening(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, small)
		for _, g := range []string{"one", "two"} {
			c := k.join(k.conn, spec(g, "t"))
			c.lane("t/0")
			c.close()
		}
		k.fill("t", 0, 1000)
		k.must("close", k.b.Close(t.Context()))
		for _, name := range k.files("STATE-", ".idx") {
			k.must("remove", k.fs.Remove(name))
		}
		k.damage(k.files(".log")[1], 5000)
		k.cfg.FS = k.fs
		_, err := embedded.Open("", k.cfg)
		wantCode(t, "open", err, driver.Corrupt)
		k.cfg.OnCorruption = embedded.Quarantine
		for turn := range 2 {
			k.open()
			s := k.stats()
			if len(s.Holes) != 1 || s.Holes[0].File != k.files(".log")[1] || s.Holes[0].Bytes == 0 {
				t.Fatalf("turn %d: holes %+v", turn, s.Holes)
			}
			r := k.send(&driver.Message{Topic: "t", Body: []byte("000000 after")})
			if r[0].Offset != int64(1000+turn) {
				t.Errorf("turn %d: got offset %d, want the one behind the last message", turn, r[0].Offset)
			}
			c := k.join(k.conn, spec([]string{"one", "two"}[turn], "t"))
			got, gaps := c.drain("t/0")
			if len(gaps) != 1 || gaps[0].Reason != driver.Damage || gaps[0].Lost() > 2 || gaps[0].Unsure {
				t.Fatalf("turn %d: gaps %+v, want one in the middle", turn, gaps)
			}
			if want := 1000 - int(gaps[0].Lost()) + 1 + turn; len(got) != want {
				t.Errorf("turn %d: got %d messages, want %d", turn, len(got), want)
			}
			c.close()
			k.must("close", k.b.Close(t.Context()))
		}
		k.open()
	})
}

// idle makes a store whose topics idle-0 to idle-2 have n messages each, all in
// front of a damaged one of topic busy. The group "one" has settled what the
// first of them holds, and a message for it that is due in an hour waits.
func idle(t testing.TB, n int) *kit {
	k := newKit(t, small)
	for i := range 3 {
		k.fill(fmt.Sprint("idle-", i), 0, n)
	}
	c := k.join(k.conn, spec("one", "idle-0"))
	if got, _ := c.drain("idle-0/0"); len(got) != n {
		t.Fatalf("got %d messages, want %d", len(got), n)
	}
	c.close()
	k.send(&driver.Message{Topic: "idle-0", Body: []byte("later"), DeliverAt: time.Now().Add(time.Hour)})
	k.fill("busy", 0, 1000)
	k.must("close", k.b.Close(t.Context()))
	k.derive()
	logs := k.files(".log")
	k.damage(logs[len(logs)-2], 5000)
	k.cfg.OnCorruption = embedded.Quarantine
	return k
}

// derive has everything that is derived from the log made anew.
func (k *kit) derive() {
	k.Helper()
	for _, name := range k.files("STATE-", ".idx") {
		k.must("remove", k.fs.Remove(name))
	}
}

// lines are the lines of a log that hold all the words.
func lines(log string, words ...string) (n int) {
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// A hole behind the last message of a queue may have held more of them. Their
// offsets are left out; but nobody is told that there were any, groups that had
// everything are not behind, and a topic of which more messages follow, or that
// was made later, goes on without a jump.
func TestDamage_BehindTheLastMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := idle(t, 100)
		time.Sleep(2 * time.Hour) // what waits is due at once
		var log bytes.Buffer
		k.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		k.open()
		time.Sleep(time.Second)
		if got := k.queue("busy", 0).Max(); got != 1000 {
			t.Errorf("the queue with later messages goes on at %d", got)
		}
		q := k.queue("idle-1", 0)
		if q.Max() <= 100 || q.Max() > 110 || q.End() != 100 {
			t.Errorf("the queue goes on at %d, its messages end at %d", q.Max(), q.End())
		}
		if n := lines(log.String(), "level=ERROR", "out of use", "messages_at_most="); n != 1 {
			t.Errorf("the damage is told %d times:\n%s", n, log.String())
		}
		lag := func() int64 {
			all, err := k.conn.Extensions().Groups.Lag(t.Context(), "one")
			k.must("lag", err)
			behind := int64(0)
			for _, l := range all {
				behind += l.Behind()
			}
			return behind
		}
		// The retry topic is empty, and idle-0 has one message more.
		first := k.queue("idle-0", 0)
		if lag() != first.Max()-100 || first.End() != first.Max() {
			t.Errorf("the group is %d behind, %d to %d", lag(), first.End(), first.Max())
		}
		c := k.join(k.conn, spec("one", "idle-0"))
		got, gaps := c.drain("idle-0/0")
		if len(got) != 1 || len(gaps) != 1 || gaps[0].From != 100 || gaps[0].To != q.Max() || !gaps[0].Unsure {
			t.Errorf("got %q, gaps %+v", got, gaps)
		}
		if got, gaps := c.drain("idle-0/0"); len(got)+len(gaps) > 0 {
			t.Errorf("again: %q, gaps %+v", got, gaps)
		}
		if got, gaps := c.drain("%RETRY%one/0"); len(got) > 0 || len(gaps) != 1 || !gaps[0].Unsure {
			t.Errorf("redeliveries: %q, gaps %+v", got, gaps)
		}
		if lag() != 0 {
			t.Errorf("the group is %d behind", lag())
		}
		if s := k.stats(); s.LostToDamage != 0 || lines(log.String(), "level=ERROR", "to a group") > 0 {
			t.Errorf("counted %d lost:\n%s", s.LostToDamage, log.String())
		}
		// One that comes late meets the gap behind the messages.
		late := k.join(k.conn, spec("late", "idle-1"))
		if got, gaps := late.drain("idle-1/0"); len(got) != 100 || len(gaps) != 1 || !gaps[0].Unsure || gaps[0].From != 100 {
			t.Errorf("late: %d messages, gaps %+v", len(got), gaps)
		}
		late.close()
		c.close()
		k.must("put", k.store().PutTopic(t.Context(), embedded.Topic{Name: "new", Queues: 1}))
		want := k.queue("idle-2", 0).Max()
		for range 2 {
			k.must("close", k.b.Close(t.Context()))
			k.derive()
			k.open()
			q := k.queue("idle-2", 0)
			if q.Max() != want || q.End() != 100 || k.queue("new", 0).Max() != 0 || k.queue("busy", 0).Max() != 1000 {
				t.Errorf("after another start: %d to %d, a new topic at %d", q.End(), q.Max(), k.queue("new", 0).Max())
			}
		}
		if r := k.send(&driver.Message{Topic: "idle-2", Body: []byte("next")}); r[0].Offset != want || k.queue("idle-2", 0).End() != want+1 {
			t.Errorf("the next message has offset %d, want %d", r[0].Offset, want)
		}
	})
}

// A start that ends between the note of a hole and the offsets that are left out
// because of it, wholly or in part, leaves that to the next one.
func TestDamage_KilledBeforeOffsetsAreLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sample := idle(t, 20)
		for n := range 80 {
			k := &kit{TB: t, cfg: sample.cfg, fs: sample.fs.CrashClone(vfs.CrashOptions{Keep: 1, Rand: rand.New(rand.NewPCG(1, 2))})}
			k.cfg.FS = vfs.Inject(k.fs, func(op vfs.Op) error {
				if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, ".log") {
					return &vfs.ShortWrite{N: min(int(op.Len), 8*n), Err: syscall.EIO}
				}
				return nil
			})
			b, err := embedded.Open("", k.cfg)
			if err == nil {
				t.Errorf("after %d bytes: the start went through", 8*n)
				k.must("close", b.Close(t.Context()))
			}
			k.open()
			for i := range 3 {
				q := k.queue(fmt.Sprint("idle-", i), 0)
				if q.Max() <= 20 || q.Max() > 30 || q.End() != 20 {
					t.Errorf("after %d bytes: topic %d goes on at %d, its messages end at %d", 8*n, i, q.Max(), q.End())
				}
			}
			if k.queue("%RETRY%one", 0).Max() == 0 || k.queue("busy", 0).Max() != 1000 {
				t.Errorf("after %d bytes: redeliveries at %d, later messages at %d", 8*n, k.queue("%RETRY%one", 0).Max(), k.queue("busy", 0).Max())
			}
			k.must("close", k.b.Close(t.Context()))
		}
	})
}

// A message that cannot be read is told of once, not at each try, with the length
// that it has; messages that are lost one behind the other are one line.
func TestDamage_Lines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		k := newKit(t, small)
		k.fill("t", 0, 300)
		k.must("close", k.b.Close(t.Context()))
		for i := range 5 {
			k.damage(k.files(".log")[0], int64(5000+700*i))
		}
		k.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		k.open()
		read := func(group string, offset int64) (embedded.Found, error) {
			_, f, err := k.queue("t", 0).Read(offset, embedded.Selection{Group: group, Messages: 64, Bytes: 1 << 20}, nil)
			return f, err
		}
		f, err := read("g", 0)
		if k.must("read", err); f.Messages == 0 || log.Len() > 0 && lines(log.String(), "cannot be read") > 1 {
			t.Fatalf("%+v: %s", f, log.String())
		}
		for range 3 {
			_, err = read("g", f.Next)
			wantCode(t, "the damaged message", err, driver.Corrupt)
		}
		if damage, ok := errors.AsType[*commitlog.CorruptError](err); !ok || damage.Length > 1000 {
			t.Errorf("the damage is %+v", damage)
		}
		if n := lines(log.String(), "level=ERROR", "cannot be read", "group=g"); n != 1 {
			t.Errorf("told %d times: %s", n, log.String())
		}
		time.Sleep(2 * time.Minute)
		_, _ = read("g", f.Next)
		if n := lines(log.String(), "level=ERROR", "cannot be read", "group=g"); n != 2 {
			t.Errorf("after a while told %d times: %s", n, log.String())
		}
		k.cfg.OnCorruption = embedded.Quarantine
		k.reopen()
		for group, want := range map[string]string{"g": "level=ERROR msg=\"messages are lost to a group\"", "": "level=WARN msg=\"a reader without a group"} {
			synctest.Wait() // nobody else writes to the log
			log.Reset()
			if f, err = read(group, 0); err != nil || f.Lost < 4 {
				t.Fatalf("%+v, %v", f, err)
			}
			if n := lines(log.String(), want); n != 1 || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("%q: %s", group, log.String())
			}
		}
	})
}

// Retention that removes a quarantined range with the files around it leaves a
// store in which nothing is damaged, and queues that begin with a message.
func TestDamage_RangeIsRemoved(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(k *kit, logs []string){
		"a file":    func(k *kit, logs []string) { k.remove(logs[1]) },
		"a message": func(k *kit, logs []string) { k.damage(logs[1], 5000) },
		"the end":   func(k *kit, logs []string) { k.cutOff(logs[1], 100<<10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, small)
				k.fill("t", 0, 600)
				k.fill("idle", 0, 10)
				k.fill("t", 600, 400)
				k.must("close", k.b.Close(t.Context()))
				k.derive()
				behind := k.files(".log")[2]
				hurt(k, k.files(".log"))
				k.cfg.OnCorruption = embedded.Quarantine
				k.open()
				k.must("close", k.b.Close(t.Context()))
				verify := func() int64 {
					t.Helper()
					rep, err := offline.Verify(t.Context(), k.fs)
					if err != nil || len(rep.Damage) > 0 {
						t.Errorf("%v, %v", rep.Damage, err)
					}
					return rep.End
				}
				start, err := strconv.ParseInt(strings.TrimSuffix(behind, ".log"), 10, 64)
				k.must("parse", err)
				k.cfg.Retention.Bytes = verify() - start + 5000
				k.open()
				time.Sleep(time.Minute)
				if s := k.stats(); s.Start != start || len(s.Holes) > 0 {
					t.Fatalf("the log begins at %d, holes %+v", s.Start, s.Holes)
				}
				c := k.join(k.conn, spec("fresh", "t"))
				got, _ := c.drain("t/0")
				if first := k.queue("t", 0).Min(); len(got) == 0 || !strings.HasPrefix(got[0], fmt.Sprintf("%06d", first)) {
					t.Errorf("a new group gets %d messages, the queue begins at %d", len(got), first)
				}
				c.close()
				k.must("close", k.b.Close(t.Context()))
				verify()
			})
		})
	}
}

// A search that would have found a damaged message says so, and not that there is
// none; nor is damage what a wrong id is answered with.
func TestDamage_Queries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, small)
		k.fill("t", 0, 300)
		find := func(n int) (embedded.Record, string, error) {
			key := fmt.Sprint("k", n)
			b, found, err := k.store().Find(embedded.Query{Topic: "t", Key: key, ToMs: 1 << 50, Limit: 8}, nil)
			if (err == nil) == (found == 0) {
				t.Errorf("%s: %d found, %v", key, found, err)
			}
			ds, derr := k.conn.Extensions().Query.ByKey(t.Context(), "t", key, driver.TimeRange{}, 8)
			if driver.CodeOf(derr) != driver.CodeOf(err) || len(ds) != found {
				t.Errorf("%s: %d and %d found, %v and %v", key, found, len(ds), err, derr)
			}
			if err != nil {
				return embedded.Record{}, "", err
			}
			return embedded.Record{Bytes: b}, ds[0].ID, nil
		}
		at := map[int]int64{} // position by number
		ids := map[int]string{}
		for _, n := range []int{5, 7} {
			r, id, err := find(n)
			k.must("find", err)
			v, _, err := message.DecodeView(r.Bytes)
			k.must("decode", err)
			at[n], ids[n] = v.PhysicalOffset, id
		}
		k.must("close", k.b.Close(t.Context()))
		k.damage(k.files(".log")[0], at[5]+200) // its content
		k.damage(k.files(".log")[0], at[7]+2)   // its header
		k.open()
		for _, n := range []int{5, 7} {
			_, _, err := find(n)
			wantCode(t, fmt.Sprint("find ", n), err, driver.Corrupt)
			_, err = k.conn.Extensions().Query.ByID(t.Context(), "t", ids[n])
			wantCode(t, fmt.Sprint("id of ", n), err, driver.Corrupt)
		}
		_, err := k.store().Record(at[5], nil)
		wantCode(t, "the record", err, driver.Corrupt)
		_, err = k.store().Record(at[5]+1, nil)
		wantCode(t, "no record", err, driver.NotFound)
		_, _, err = find(6)
		k.must("find the one between", err)
		// Others with the key are found, and the damage is told beside them.
		var ms []*driver.Message
		for range 3 {
			ms = append(ms, &driver.Message{Topic: "u", Keys: []string{"same"}, Body: []byte("body")})
		}
		same := embedded.Query{Topic: "u", Key: "same", ToMs: 1 << 50, Limit: 8}
		k.send(ms...)
		b, found, err := k.store().Find(same, nil)
		if k.must("find", err); found != 3 {
			t.Fatalf("%d found", found)
		}
		v, _, err := message.DecodeView(b) // the newest
		k.must("decode", err)
		k.must("close", k.b.Close(t.Context()))
		logs := k.files(".log")
		base, err := strconv.ParseInt(strings.TrimSuffix(logs[len(logs)-1], ".log"), 10, 64)
		k.must("parse", err)
		k.damage(logs[len(logs)-1], v.PhysicalOffset-base+100)
		k.open()
		if _, found, err = k.store().Find(same, nil); found != 2 || driver.CodeOf(err) != driver.Corrupt {
			t.Errorf("%d found, %v", found, err)
		}
	})
}

// Files of the log that are missing or cut short in front of an intact checkpoint
// are damage like any other: opening refuses, or the group hears of every message
// that it has lost, no offset is used twice, and what came later goes on.
func TestDamage_MissingFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hurt func(k *kit, logs []string)
		last bool // the newest messages are lost
	}{
		"the oldest":          {func(k *kit, logs []string) { k.remove(logs[0]) }, false},
		"the oldest two":      {func(k *kit, logs []string) { k.remove(logs[:2]...) }, false},
		"one in the middle":   {func(k *kit, logs []string) { k.remove(logs[2]) }, false},
		"the newest":          {func(k *kit, logs []string) { k.remove(logs[len(logs)-1]) }, true},
		"all":                 {func(k *kit, logs []string) { k.remove(logs...) }, true},
		"the newest is short": {func(k *kit, logs []string) { k.cutOff(logs[len(logs)-1], 1000) }, true},
		"the newest is empty": {func(k *kit, logs []string) { k.cutOff(logs[len(logs)-1], 0) }, true},
		"the oldest is short": {func(k *kit, logs []string) { k.cutOff(logs[0], 5000) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, small)
				k.fill("early", 0, 5)
				k.must("settings", k.store().PutGroup(t.Context(), embedded.Group{Name: "set", Settings: []byte("first")}))
				k.fill("t", 0, 1000)
				k.send(&driver.Message{Topic: "quiet"}) // two that only a late file tells of
				k.must("settings", k.store().PutGroup(t.Context(), embedded.Group{Name: "settoo", Settings: []byte("last")}))
				for _, topic := range []string{"early", "t"} {
					g := k.join(k.conn, spec("g", topic))
					g.settle(topic+"/0", driver.Ack, 0, g.fetch(topic+"/0", 5)...)
					g.close()
				}
				time.Sleep(2 * time.Second) // the position is in the log
				k.fill("t", 1000, 10)
				k.must("close", k.b.Close(t.Context()))
				c.hurt(k, k.files(".log"))
				k.cfg.FS = k.fs
				_, err := embedded.Open("", k.cfg)
				wantCode(t, "open", err, driver.Corrupt)
				k.cfg.OnCorruption = embedded.Quarantine
				var log bytes.Buffer
				k.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				k.open()
				if s := k.stats(); len(s.Holes) != 1 {
					t.Fatalf("holes %+v", s.Holes)
				}
				if q := k.queue("t", 0); name == "the oldest" || name == "the oldest two" {
					// Who begins with the first message is told what is lost in front of it.
					fresh := k.join(k.conn, spec("fresh", "t"))
					got, gaps := fresh.drain("t/0")
					if len(got) == 0 || len(gaps) != 1 || gaps[0] != (driver.GapError{Lane: "t/0", To: q.Min(), Reason: driver.Damage}) ||
						q.Min() == 0 || !strings.HasPrefix(got[0], fmt.Sprintf("%06d", q.Min())) {
						t.Errorf("a new group begins with %q, the queue at %d, gaps %+v", got[0], q.Min(), gaps)
					}
					fresh.close()
				}
				g := k.join(k.conn, spec("g", "t"))
				got, gaps := g.drain("t/0")
				lost := int64(0)
				for _, gap := range gaps {
					if gap.Reason != driver.Damage {
						t.Errorf("gap %+v", gap)
					}
					if !gap.Unsure {
						lost += gap.Lost()
					}
				}
				if want := int64(1010 - 5 - len(got)); lost > want || !c.last && lost < want || len(gaps) == 0 {
					t.Errorf("%d messages, told of %d that are lost, want %d: %+v", len(got), lost, want, gaps)
				}
				if n := lines(log.String(), "to a group", "group=g", "reason=damage") + lines(log.String(), "a group passes"); n == 0 {
					t.Errorf("nothing is logged:\n%s", log.String())
				}
				g.close()
				for _, name := range []string{"set", "settoo"} {
					if _, ok := k.store().Group(name); !ok {
						t.Errorf("the settings of %q are gone", name)
					}
				}
				for topic, next := range map[string]int64{"early": 5, "t": 1010, "quiet": 1} {
					r := k.send(&driver.Message{Topic: topic, Body: []byte("next")})
					if r[0].Offset < next {
						t.Errorf("offset %d of %s is used twice", r[0].Offset, topic)
					}
					if topic == "quiet" {
						continue
					}
					g := k.join(k.conn, spec("g", topic))
					if got, _ := g.drain(topic + "/0"); len(got) != 1 || got[0] != "next" {
						t.Errorf("then %s has %d messages", topic, len(got))
					}
					g.close()
				}
				k.cfg.OnCorruption = embedded.Refuse
				for range 3 {
					for _, topic := range []string{"t", "early"} {
						g = k.join(k.conn, spec("g", topic))
						if got, gaps := g.drain(topic + "/0"); len(got)+len(gaps) > 0 {
							t.Errorf("after another start %s has %d messages, gaps %+v", topic, len(got), gaps)
						}
						g.close()
					}
					time.Sleep(2 * time.Second)
					k.must("close", k.b.Close(t.Context()))
					k.derive()
					k.open()
				}
			})
		})
	}
}

func (k *kit) remove(names ...string) {
	k.Helper()
	for _, name := range names {
		k.must("remove", k.fs.Remove(name))
	}
}

func (k *kit) cutOff(name string, size int64) {
	k.Helper()
	f, err := k.fs.OpenReadWrite(name)
	k.must("open", err)
	k.must("truncate", f.Truncate(size))
	k.must("sync", f.Sync())
	k.must("close", f.Close())
}

// Whoever meets damage hears what can be done about it.
func TestDamage_WayOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		cfg := small
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		k := newKit(t, cfg)
		k.fill("t", 0, 1000)
		k.must("close", k.b.Close(t.Context()))
		k.damage(k.files(".log")[1], 5000)
		k.open()
		var err error
		for offset := int64(0); err == nil && offset < 1000; {
			var f embedded.Found
			_, f, err = k.queue("t", 0).Read(offset, embedded.Selection{Group: "g", Messages: 64, Bytes: 1 << 20}, nil)
			offset = f.Next
		}
		wantCode(t, "read", err, driver.Corrupt)
		k.must("close", k.b.Close(t.Context()))
		k.derive()
		k.cfg.FS = k.fs
		_, refused := embedded.Open("", k.cfg)
		wantCode(t, "open", refused, driver.Corrupt)
		for what, text := range map[string]string{"read": err.Error(), "open": refused.Error(), "log": log.String()} {
			for _, want := range []string{"sluice log verify", "Config.OnCorruption", "-on-corruption quarantine"} {
				if !strings.Contains(text, want) {
					t.Errorf("%s does not name %s: %s", what, want, text)
				}
			}
		}
	})
}

// An index file whose bytes have changed gives no wrong answer, and is made
// anew by the next start.
func TestDamage_Index(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, small)
		c := k.join(k.conn, spec("g", "t"))
		c.lane("t/0")
		k.fill("t", 0, 1000)
		c.close()
		k.must("close", k.b.Close(t.Context()))
		name := k.files(".idx")[2]
		size, err := k.fs.Size(name)
		k.must("size", err)
		for off := size / 2; off < size/2+3000; off += 100 { // some rows that are read
			k.damage(name, off)
		}
		k.open()
		c = k.join(k.conn, spec("g", "t"))
		var got []string
		var failure error
		for failure == nil && len(got) < 1000 {
			var ds []*driver.Delivery
			if ds, failure = c.lane("t/0").Fetch(t.Context(), 64); failure == nil {
				got = append(got, bodies(ds)...)
				c.settle("t/0", driver.Ack, 0, ds...)
			}
		}
		inOrder(t, got, 0, len(got))
		if len(got) == 1000 {
			t.Skip("the damage lies where nothing is read")
		}
		wantCode(t, "the damaged index", failure, driver.Corrupt)
		c.close()
		k.reopen()
		c = k.join(k.conn, spec("g", "t"))
		rest, gaps := c.drain("t/0")
		if len(gaps) > 0 {
			t.Errorf("gaps %+v", gaps)
		}
		inOrder(t, rest, len(got), 1000-len(got))
	})
}
