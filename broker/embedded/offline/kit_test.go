package offline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/offline"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kit is a broker on a file system in memory.
type kit struct {
	testing.TB
	cfg  embedded.Config
	disk *vfs.Mem
	b    *embedded.Broker
	conn driver.Conn
	n    int // of messages sent
}

func newKit(t testing.TB) *kit {
	k := &kit{TB: t, disk: vfs.NewMem(), cfg: embedded.Config{
		Queues: 2, MaxBody: 1 << 10, SegmentBytes: 66 << 10, CheckAfter: time.Hour, Retention: embedded.Retention{Age: -1},
	}}
	k.open()
	return k
}

func (k *kit) open() {
	k.Helper()
	k.cfg.FS = k.disk
	b, err := embedded.Open("", k.cfg)
	k.must(err)
	k.b, k.conn = b, b.Connect("test")
}

func (k *kit) close() {
	k.Helper()
	k.must(k.b.Close(context.Background()))
}

// crash ends the broker like a power cut.
func (k *kit) crash(rnd *rand.Rand) {
	k.Helper()
	after := k.disk.CrashClone(vfs.CrashOptions{Keep: rnd.Float64(), Stale: rnd.Float64(), Rand: rnd})
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = k.b.Close(gone)
	k.disk = after
}

func (k *kit) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *kit) message(topic string) *driver.Message {
	k.n++
	return &driver.Message{Topic: topic, Tag: "t", Keys: []string{fmt.Sprint("k", k.n)}, Body: fmt.Appendf(nil, "%06d%s", k.n, strings.Repeat("x", 400))}
}

func (k *kit) send(topic string, n int) {
	k.Helper()
	var ms []*driver.Message
	for range n {
		ms = append(ms, k.message(topic))
	}
	for _, r := range k.conn.Send(k.Context(), driver.SendRequest{Messages: ms}) {
		k.must(r.Err)
	}
}

// verify reads the store as it is on disk, and requires that this changes
// nothing.
func (k *kit) verify() offline.Report {
	k.Helper()
	fs := vfs.Inject(k.disk, func(op vfs.Op) error {
		if op.Kind.Changes() || op.Kind == vfs.OpLock {
			k.Errorf("%s of %s", op.Kind, op.Name)
			return errors.New("not allowed")
		}
		return nil
	})
	r, err := offline.Verify(k.Context(), fs)
	k.must(err)
	return r
}

// fine requires that there is no damage.
func (k *kit) fine(what string) offline.Report {
	k.Helper()
	r := k.verify()
	for _, d := range r.Damage {
		k.Errorf("%s: %+v", what, d)
	}
	return r
}

// names are those of files with a prefix or a suffix.
func (k *kit) names(part string) []string {
	k.Helper()
	all, err := k.disk.List(".")
	k.must(err)
	var names []string
	for _, name := range all {
		if strings.HasPrefix(name, part) || strings.HasSuffix(name, part) {
			names = append(names, name)
		}
	}
	return names
}

// bytes are those of a file.
func (k *kit) bytes(name string) []byte {
	k.Helper()
	f, err := k.disk.OpenRead(name)
	k.must(err)
	size, err := f.Size()
	k.must(err)
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		k.Fatal(err)
	}
	k.must(f.Close())
	return b
}

// put writes into a file.
func (k *kit) put(name string, off int64, b ...byte) {
	k.Helper()
	f, err := k.disk.OpenReadWrite(name)
	k.must(err)
	_, err = f.WriteAt(b, off)
	k.must(errors.Join(err, f.Close()))
}

// consumer settles everything as chance has it.
type consumer struct {
	mu    sync.Mutex
	lanes map[driver.Lane]bool
}

func (c *consumer) Assigned(l driver.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes[l] = true
}

func (c *consumer) Revoked(_ context.Context, l driver.Lane) { c.Lost(l) }

func (c *consumer) Lost(l driver.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lanes, l)
}

// consume lets a group work on a topic for a while.
func (k *kit) consume(rnd *rand.Rand, group, topic string) {
	k.Helper()
	c := &consumer{lanes: map[driver.Lane]bool{}}
	sub, err := k.conn.Subscribe(k.Context(), driver.SubscribeSpec{Group: group, Topic: topic}, c)
	k.must(err)
	time.Sleep(time.Second)
	c.mu.Lock()
	var lanes []driver.Lane
	for l := range c.lanes {
		lanes = append(lanes, l)
	}
	c.mu.Unlock()
	for _, l := range lanes {
		ds, err := l.Fetch(k.Context(), 50)
		if _, gap := errors.AsType[*driver.GapError](err); gap {
			continue
		}
		k.must(err)
		var ss []driver.Settlement
		for _, d := range ds {
			o := driver.Ack
			if rnd.IntN(4) == 0 {
				o = driver.Retry
			}
			ss = append(ss, driver.Settlement{Delivery: d, Outcome: o, Delay: time.Second})
		}
		k.must(l.Settle(k.Context(), ss))
	}
	k.must(sub.Close(k.Context()))
}

// pass lets time pass until retention has looked at the store.
func (k *kit) pass() {
	for range 3 {
		time.Sleep(15 * time.Second)
		synctest.Wait()
	}
}
