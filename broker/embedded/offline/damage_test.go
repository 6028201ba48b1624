package offline_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluicemq/sluice/broker/embedded/internal/checkpoint"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/offline"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// full is a store with a base, index files, checkpoints, closed in order.
func full(t testing.TB) *kit {
	k := newKit(t)
	k.cfg.Retention.Bytes = 200 << 10
	k.open2(func() {
		for range 15 {
			k.send("orders", 60)
		}
	})
	k.cfg.Retention.Bytes = 0
	return k
}

// open2 closes the store, opens it, and closes it again after f, when time has
// passed for retention.
func (k *kit) open2(f func()) {
	k.Helper()
	k.close()
	k.open()
	f()
	k.pass()
	k.close()
}

// Every byte of every file counts: whichever changes, the file is named, and
// the place in it.
func TestVerify_EveryFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := full(t)
		r := k.fine("as it was written")
		if r.Start == 0 || len(k.names("BASE-")) == 0 || r.Segments < 3 {
			t.Fatalf("the store is too simple: %+v", r)
		}
		rnd := rand.New(rand.NewPCG(1, 1))
		all, err := k.disk.List(".")
		k.must(err)
		for _, name := range all {
			size := int64(len(bytes.TrimRight(k.bytes(name), "\x00")))
			if name == "LOCK" || name == "BALLAST" || size == 0 {
				continue
			}
			for range 25 {
				off := rnd.Int64N(size)
				old := k.bytes(name)[off]
				k.put(name, off, old^byte(1+rnd.IntN(255)))
				k.named(name, off)
				k.put(name, off, old)
			}
		}
		k.fine("as it was written, again")
	})
}

// named requires that the damage at off of a file is found.
func (k *kit) named(name string, off int64) {
	k.Helper()
	r := k.verify()
	derived := strings.HasSuffix(name, ".idx") || strings.HasPrefix(name, "STATE-") || name == k.names("BASE-")[0] && len(k.names("BASE-")) > 1
	for _, d := range r.Damage {
		whole := d.Length == 0 || !strings.HasSuffix(name, ".log") && d.Offset == 0
		if d.File == name && d.Derived == derived && (whole || d.Offset <= off && off < d.Offset+d.Length) {
			return
		}
	}
	k.Errorf("byte %d of %s: %+v", off, name, r.Damage)
}

// Files that are as they were written, but do not say what the log says.
func TestVerify_Contradictions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(k *kit, store uint64, last string)
		want string
	}{
		{"an index that lacks an entry", func(k *kit, store uint64, last string) {
			k.reindex(store, last, func(s *segindex.Set, q uint32, offset int64, e segindex.Entry, n int) {
				if n != 5 {
					s.Add(s.Queue(q), offset, e)
				}
			})
		}, "is missing, which is at"},
		{"an index with another position", func(k *kit, store uint64, last string) {
			k.reindex(store, last, func(s *segindex.Set, q uint32, offset int64, e segindex.Entry, n int) {
				if n == 5 {
					e.Size++
				}
				s.Add(s.Queue(q), offset, e)
			})
		}, ", in the log at"},
		{"an index with another tag", func(k *kit, store uint64, last string) {
			k.reindex(store, last, func(s *segindex.Set, q uint32, offset int64, e segindex.Entry, n int) {
				e.Tag++
				s.Add(s.Queue(q), offset, e)
			})
		}, "tag"},
		{"an index of another store", func(k *kit, store uint64, last string) {
			k.reindex(store+1, last, func(s *segindex.Set, q uint32, offset int64, e segindex.Entry, n int) {
				s.Add(s.Queue(q), offset, e)
			})
		}, "it belongs to store"},
		{"a checkpoint of another state", func(k *kit, store uint64, _ string) {
			pos, payload, _, err := checkpoint.Load(k.disk, checkpoint.State, store, nil)
			k.must(err)
			b := slices.Clone(payload)
			at := bytes.Index(b, []byte("orders"))
			b[at] = 'O'
			k.must(checkpoint.Write(k.disk, checkpoint.State, store, pos, b))
		}, `topic "orders" is in it`},
		{"a checkpoint that is no state", func(k *kit, store uint64, _ string) {
			pos, _, _, err := checkpoint.Load(k.disk, checkpoint.State, store, nil)
			k.must(err)
			k.must(checkpoint.Write(k.disk, checkpoint.State, store, pos, []byte("\x01\x02\x03")))
		}, "the state in it is malformed"},
		{"a checkpoint between two frames", func(k *kit, store uint64, _ string) {
			pos, payload, _, err := checkpoint.Load(k.disk, checkpoint.State, store, nil)
			k.must(err)
			k.must(checkpoint.Write(k.disk, checkpoint.State, store, pos-1, slices.Clone(payload)))
		}, "no frame of the log begins at its position"},
		{"a base that is missing", func(k *kit, _ uint64, _ string) {
			for _, name := range k.names("BASE-") {
				k.must(k.disk.Remove(name))
			}
		}, "it is missing: what was said before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := full(t)
				names := k.names(".idx")
				c.do(k, k.fine("as it was written").StoreID, names[len(names)-2])
				r := k.verify()
				if len(r.Damage) != 1 || !strings.Contains(r.Damage[0].Reason, c.want) || r.Damage[0].Derived != !strings.Contains(c.name, "base") {
					t.Errorf("got %+v, want one with %q", r.Damage, c.want)
				}
			})
		})
	}
}

// reindex writes an index file anew, of entries that add adds.
func (k *kit) reindex(store uint64, name string, add func(s *segindex.Set, q uint32, offset int64, e segindex.Entry, n int)) {
	k.Helper()
	type item struct {
		q      uint32
		offset int64
		e      segindex.Entry
	}
	var items []item
	right := store
	if _, err := segindex.Verify(k.disk, name, right, nil); errors.Is(err, segindex.ErrDamaged) {
		right-- // that of the log
	}
	end, err := segindex.Verify(k.disk, name, right, func(q uint32, offset int64, e segindex.Entry) error {
		items = append(items, item{q, offset, e})
		return nil
	})
	k.must(err)
	slices.SortFunc(items, func(a, b item) int { return int(a.e.Pos - b.e.Pos) })
	var base int64
	_, err = fmt.Sscanf(name, "%d.idx", &base)
	k.must(err)
	mem := vfs.NewMem()
	s := segindex.New(mem, store)
	s.Begin(base)
	first := map[uint32]bool{}
	for n, it := range items {
		if !first[it.q] {
			s.Queue(it.q).SetStart(it.offset)
			first[it.q] = true
		}
		add(s, it.q, it.offset, it.e, n)
	}
	k.must(s.WriteActive(end))
	k.must(s.Close())
	old := k.disk
	k.disk = mem
	b := k.bytes(name)
	k.disk = old
	k.must(k.disk.Remove(name))
	f, err := k.disk.Create(name)
	k.must(err)
	_, err = f.WriteAt(b, 0)
	k.must(errors.Join(err, f.Close()))
}

// What is not a store is said to be none.
func TestVerify_NotAStore(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	if _, err := offline.Verify(t.Context(), disk); !errors.Is(err, offline.ErrNotAStore) {
		t.Errorf("verify: %v", err)
	}
	err := offline.Dump(t.Context(), disk, func(offline.Frame) error { return nil })
	if !errors.Is(err, offline.ErrNotAStore) {
		t.Errorf("dump: %v", err)
	}
}
