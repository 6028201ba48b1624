package embedded_test

import (
	"testing"
	"testing/synctest"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
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
			if r[0].Offset < int64(1000+turn) {
				t.Errorf("turn %d: offset %d is used again", turn, r[0].Offset)
			}
			c := k.join(k.conn, spec([]string{"one", "two"}[turn], "t"))
			got, gaps := c.drain("t/0")
			if len(gaps) != 2 || gaps[0].Reason != driver.Damage || gaps[0].Lost() > 2 || gaps[1].From != 1000 || gaps[1].Reason != driver.Damage {
				t.Errorf("turn %d: gaps %+v, want one in the middle and one that may have been", turn, gaps)
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
