package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// runMain makes the test binary behave as the program, for tests of processes.
const runMain = "SLUICE_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// small makes segments that a test can fill.
func small() embedded.Config {
	return embedded.Config{MaxBody: 1 << 10, SegmentBytes: 65 << 10, Queues: 2}
}

// storeKit is a broker in a bubble, so that its clock is the same every time.
type storeKit struct {
	*testing.T
	b    *embedded.Broker
	conn driver.Conn
}

// makeStore makes a store in a new directory, and closes it in order.
func makeStore(t *testing.T, cfg embedded.Config, fill func(k *storeKit)) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store")
	addTo(t, dir, cfg, fill)
	return dir
}

// addTo opens a store once more.
func addTo(t *testing.T, dir string, cfg embedded.Config, fill func(k *storeKit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b, err := embedded.Open(dir, cfg)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		defer func() {
			if err := b.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
		}()
		fill(&storeKit{T: t, b: b, conn: b.Connect("test")})
	})
}

func (k *storeKit) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *storeKit) send(ms ...*driver.Message) {
	k.Helper()
	for _, r := range k.conn.Send(k.Context(), driver.SendRequest{Messages: ms}) {
		k.must(r.Err)
	}
}

// fill sends n messages of about a kilobyte.
func (k *storeKit) fill(topic string, n int) {
	k.Helper()
	for i := range n {
		k.send(&driver.Message{Topic: topic, ID: fmt.Sprintf("%s-%04d", topic, i), Body: make([]byte, 1000)})
	}
}

// all is something of every kind of frame that a call can make.
func all(k *storeKit) {
	born := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	k.must(k.conn.Extensions().Topics.CreateTopic(k.Context(), driver.TopicInfo{Name: "orders", Queues: 2}))
	k.send(
		&driver.Message{Topic: "orders", ID: "id-1", Body: []byte("first"), Keys: []string{"k1", "k2"}, Tag: "paid", OrderingKey: "alice", BornAt: born},
		&driver.Message{Topic: "orders", ID: "id-2", Body: []byte("\x1b[2Jse\"cond\n"), Tag: "a=b,c", QueueSet: true, BornAt: born},
		&driver.Message{Topic: "orders", ID: "id-3", Body: []byte("later"), QueueSet: true, Queue: 1, BornAt: born, DeliverAt: time.Now().Add(time.Second)},
		&driver.Message{Topic: "orders", ID: "id-4", Body: []byte("much later"), QueueSet: true, BornAt: born, DeliverAt: time.Now().Add(time.Hour)},
	)
	tx := k.conn.Extensions().Tx
	for i, d := range []driver.Decision{driver.Commit, driver.Rollback} {
		h, err := tx.Prepare(k.Context(), "senders", &driver.Message{Topic: "orders", ID: fmt.Sprintf("tx-%d", i), Body: []byte("half"), QueueSet: true, BornAt: born})
		k.must(err)
		k.must(tx.Resolve(k.Context(), h, d))
	}
	time.Sleep(2 * time.Second)
	synctest.Wait()
	k.must(k.conn.Extensions().Topics.CreateTopic(k.Context(), driver.TopicInfo{Name: "gone", Queues: 1}))
	// Ordered, so that there is one lane, whose position is stored once.
	sub, err := k.conn.Subscribe(k.Context(), driver.SubscribeSpec{Group: "readers", Topic: "gone", Ordered: true}, owner{})
	k.must(err)
	synctest.Wait()
	k.must(sub.Close(k.Context()))
	k.must(k.conn.Extensions().Topics.DeleteTopic(k.Context(), "gone"))
	s, err := k.b.Store(k.Context())
	k.must(err)
	k.must(s.EnsureRetry(k.Context(), "readers", []string{"orders"}))
	k.must(s.PutTopic(k.Context(), embedded.Topic{Name: "orders", Queues: 3, Settings: []byte(`{"perm":6}`)}))
	k.must(s.PutGroup(k.Context(), embedded.Group{Name: "readers", Settings: []byte("\x1b[2J\"")}))
	k.must(s.PutGroup(k.Context(), embedded.Group{Name: "readers"}))
	k.must(s.DeleteGroup(k.Context(), "readers", true))
}

// owner takes lanes and does nothing with them.
type owner struct{}

func (owner) Assigned(driver.Lane)                 {}
func (owner) Revoked(context.Context, driver.Lane) {}
func (owner) Lost(driver.Lane)                     {}

// files are the names in dir that end or begin with part.
func files(t *testing.T, dir, part string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), part) || strings.HasSuffix(e.Name(), part) {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s has no file %s", dir, part)
	}
	return names
}

// change lets f change the bytes of a file.
func change(t *testing.T, dir, name string, f func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// flip turns a bit of the byte at off, counted from the end if below zero.
func flip(t *testing.T, dir, name string, off int) {
	t.Helper()
	change(t, dir, name, func(b []byte) []byte {
		if off < 0 {
			off += len(b)
		}
		b[off] ^= 0x10
		return b
	})
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// fingerprint is everything about a directory that a reader must not change.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	self, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{fmt.Sprint(". ", self.ModTime().UnixNano())}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		if !e.IsDir() {
			if b, err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		lines = append(lines, fmt.Sprintf("%s %v %d %x %d", e.Name(), info.Mode(), info.Size(), sha256.Sum256(b), info.ModTime().UnixNano()))
	}
	return strings.Join(lines, "\n")
}

// result is what a command has printed, and its exit code.
type result struct {
	out, err string
	code     int
}

// sluice runs the command, and requires that it leaves dir alone.
func sluice(t *testing.T, dir string, args ...string) result {
	t.Helper()
	before := fingerprint(t, dir)
	var out, errs strings.Builder
	code := run(t.Context(), args, &out, &errs)
	if after := fingerprint(t, dir); after != before {
		t.Errorf("sluice %q has changed the store:\nbefore\n%s\nafter\n%s", args, before, after)
	}
	return result{out.String(), errs.String(), code}
}

// stable is what was printed without the number of the store, which is random.
func (r result) stable() string {
	return regexp.MustCompile(`(?m)^store( +)[0-9a-f]{16},`).ReplaceAllString(r.out, "store${1}0123456789abcdef,")
}

// has requires an exit code, and that each of the texts is in one of the lines,
// at its beginning if it begins with a zero. Blanks in a row count as one.
func (r result) has(t *testing.T, code int, lines ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	blanks := regexp.MustCompile(` +`)
	printed := strings.Split(blanks.ReplaceAllString(r.out+r.err, " "), "\n")
	for _, want := range lines {
		if !slices.ContainsFunc(printed, func(l string) bool { return strings.Contains("\x00"+l, want) }) {
			t.Errorf("there is no line with %q in\n%s%s", want, r.out, r.err)
		}
	}
}
