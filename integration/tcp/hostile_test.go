package tcp

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// heldTopic is what hostile peers wait for.
const heldTopic = prey + "-held"

// memoryMost is what the server may have in memory at any time, in bytes.
const memoryMost = 256 << 20

// TestHostile lets peers do what they can against a server that others use. The
// others get every answer and keep their connections, whoever is new is served,
// memory stays bounded, no name becomes a file, and the server ends in order.
func TestHostile(t *testing.T) {
	r := seeded(t)
	base := t.TempDir()
	at := place{dir: filepath.Join(base, "a", "b", "store"), addr: freeAddr(t, r), cwd: filepath.Join(base, "a", "c")}
	mkdir(t, filepath.Dir(at.dir), at.cwd)
	u := newRun(t, r, at, "-sync", "always")
	s := u.first(2*time.Millisecond, 2)
	a := &attack{t: t, addr: at.addr, seen: u.l}
	newcomers := u.newcomers()
	h := &phases{t: t, s: s, l: u.l}
	h.do("nothing", func() string { pause(u.all, 2*time.Second); return "" })
	h.do("malformed", func() string {
		n := count(t, "FRAMES", 2000, 10000, 100000)
		ended, answered := a.malformed(r, n)
		return fmt.Sprintf("%d requests, %d of them answered, %d ended a connection", n, answered, ended)
	})
	h.do("names", func() string { return fmt.Sprintf("%d requests", a.traverse()) })
	h.do("bombs", func() string { return u.bombs(a) })
	h.do("half-open", func() string { a.half(500); return "500 connections" })
	h.do("slowloris", func() string {
		ctx, cancel := context.WithTimeout(u.all, 6*time.Second)
		defer cancel()
		n := count(t, "SLOWLORIS", 500, 2000, 2000)
		return fmt.Sprintf("%d of %d connections were ended", a.drip(ctx, r, n), n)
	})
	h.do("flood", func() string {
		ctx, cancel := context.WithTimeout(u.all, 3*time.Second)
		defer cancel()
		return fmt.Sprintf("%d connections", a.flood(ctx, r))
	})
	h.do("withheld requests", func() string {
		ctx, cancel := context.WithTimeout(u.all, 5*time.Second)
		defer cancel()
		return fmt.Sprintf("%d MiB were taken", a.withhold(ctx, 100)>>20)
	})
	h.do("large and then idle", func() string {
		ctx, cancel := context.WithTimeout(u.all, 5*time.Second)
		defer cancel()
		a.keep(ctx, 300)
		return "300 connections"
	})
	h.do("slow readers", func() string {
		ctx, cancel := context.WithTimeout(u.all, 5*time.Second)
		defer cancel()
		a.hoard(ctx, 60)
		return "60 connections"
	})
	h.do("held pulls", func() string {
		ctx, cancel := context.WithTimeout(u.all, 6*time.Second)
		defer cancel()
		u.wake() // makes the topic
		a.hold(ctx, 30, u.wake)
		return "30 connections with 1024 each"
	})
	h.do("many names", func() string { return fmt.Sprintf("%d requests", a.invent(count(t, "NAMES", 300, 1200, 10000))) })
	h.do("afterwards", func() string { pause(u.all, 2*time.Second); return "" })
	newcomers()
	u.rest()
	u.drain()
	u.leave()
	u.clients.Wait()
	u.admin(func(ctx context.Context, conn *rpc.Conn) { u.topicsAreNames(ctx, conn) })
	s.stop()
	if text := s.errs.String(); text != "" {
		t.Errorf("the server complained:\n%s", text)
	}
	onlyStore(t, base, at)
	u.last()
	if u.l.dials != 4 {
		t.Errorf("healthy clients had to connect %d times, they are 4", u.l.dials)
	}
	if err := u.l.check(); err != nil {
		t.Error(err)
	}
	sent, stored, delivered := u.l.h.Counts()
	t.Logf("healthy clients: %d sent, %d answered, %d deliveries", sent, stored, delivered)
	if stored < 500 || delivered < stored {
		t.Error("the run has tried too little")
	}
}

// phases runs one attack after the other and tells what each has cost.
type phases struct {
	t *testing.T
	s *server
	l *ledger
}

func (h *phases) do(name string, f func() string) {
	h.t.Helper()
	h.l.enter(name)
	h.l.times() // of before
	began := time.Now()
	what := f()
	took := time.Since(began)
	now, most := h.s.memory()
	sends, fresh := h.l.times()
	h.t.Logf("%-18s %5.1fs; memory %3d MiB, %3d at the most; healthy sends: %s; newcomers: %s; %s",
		name, took.Seconds(), now>>20, most>>20, spread(sends), spread(fresh), what)
	if most > memoryMost && !raced {
		h.t.Errorf("%s: the server had %d MiB in memory, at most %d are allowed", name, most>>20, memoryMost>>20)
		h.s.forgetMemory()
	}
	if len(sends) == 0 || len(fresh) == 0 {
		h.t.Errorf("%s: healthy clients were served %d times, new ones %d times", name, len(sends), len(fresh))
	}
}

// spread tells the middle and the end of some durations.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	at := func(share float64) time.Duration {
		return d[int(share*float64(len(d)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%d, p50 %v, p99 %v", len(d), at(0.5), at(0.99))
}

// newcomers lets a client connect, ask and go, again and again. Nobody may keep
// it from that.
func (u *run) newcomers() (stop func()) {
	ctx, cancel := context.WithCancel(u.all)
	var wg sync.WaitGroup
	wg.Go(func() {
		for pause(ctx, 50*time.Millisecond) {
			began := time.Now()
			dialing, cancel := context.WithTimeout(ctx, patience)
			conn, err := rpc.Dial(dialing, "tcp", u.at.addr, rpc.Options{})
			cancel()
			if err == nil {
				_, err = done(ctx, conn, &remoting.Command{Code: remoting.ReqGetRoute, Fields: remoting.Fields{{Name: "topic", Value: topic}}})
				_ = conn.Close()
			}
			if err != nil && ctx.Err() == nil {
				u.l.bad("a new client: %v", err)
			}
			u.l.took(&u.l.fresh, began)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// bombs stores bodies that are small and become huge, in all compressions, and
// requires that they come back as they were sent.
func (u *run) bombs(a *attack) string {
	zeros := make([]byte, 4<<20)
	p := a.peer(25)
	if p == nil {
		return "none"
	}
	defer p.Close()
	var sent [][]byte
	for _, kind := range []remoting.Compression{remoting.CompressionLZ4, remoting.CompressionZSTD, remoting.CompressionZLIB} {
		one, err := remoting.Compress(kind, remoting.CompressionLevel, zeros)
		if err != nil {
			u.t.Fatal(err)
		}
		for _, size := range []int{len(one), 200 << 10, 3 << 20} {
			body := bytes.Repeat(one, max(1, size/len(one))) // a stream of streams
			x := remoting.SendMessage{
				ProducerGroup: prey, Topic: prey, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: 1, SysFlag: kind.SysFlag(),
				MaxReconsumeTimes: -1, Properties: joined([]string{message.Tags, "bomb"}),
			}
			c := remoting.Command{Code: remoting.ReqSendMessageV2, Body: body}
			x.AppendTo(c.Code, &c.Fields)
			if !p.all([]odd{{cmd: c}}) {
				return "the connection was lost"
			}
			sent = append(sent, body)
		}
	}
	found := 0
	u.admin(func(ctx context.Context, conn *rpc.Conn) {
		end, err := maxOffset(ctx, conn, prey, 0)
		if err != nil {
			u.t.Fatal(err)
		}
		for next := int64(0); next < end; {
			pull := request(remoting.ReqPullMessage, remoting.PullMessage{
				Group: prey, Topic: prey, QueueOffset: next, MaxMessages: 32, SysFlag: remoting.PullSubscription,
				Subscription: "TAGS = 'bomb'", ExpressionType: remoting.ExpressionSQL92,
			})
			answer, err := call(ctx, conn, pull)
			if err != nil {
				u.t.Fatal(err)
			}
			r, err := remoting.DecodePullResult(answer.Fields)
			if err != nil {
				u.t.Fatal(err)
			}
			for rest := answer.Body; len(rest) > 0; {
				m, n, err := message.Decode(rest)
				if err != nil {
					u.t.Fatal(err)
				}
				rest = rest[n:]
				if slices.ContainsFunc(sent, func(b []byte) bool { return bytes.Equal(b, m.Body) }) {
					found++
				}
			}
			next = max(r.NextBeginOffset, next+1)
		}
	})
	if found != len(sent) {
		u.l.bad("%d of %d bombs came back as they were sent", found, len(sent))
	}
	return fmt.Sprintf("%d bodies, %d of them found", len(sent), found)
}

// wake sends large messages to everybody who waits for one.
func (u *run) wake() {
	u.admin(func(ctx context.Context, conn *rpc.Conn) {
		for queue := range 4 {
			x := remoting.SendMessage{
				ProducerGroup: prey, Topic: heldTopic, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: 4, QueueID: int32(queue), MaxReconsumeTimes: -1,
			}
			c := remoting.Command{Code: remoting.ReqSendMessageV2, Body: make([]byte, 200<<10)}
			x.AppendTo(c.Code, &c.Fields)
			if _, err := done(ctx, conn, &c); err != nil {
				u.l.bad("wake held pulls: %v", err)
			}
		}
	})
}

var goodName = regexp.MustCompile(`^[%|a-zA-Z0-9_-]{1,255}$`)

// topicsAreNames requires that no name got in that is none.
func (u *run) topicsAreNames(ctx context.Context, conn *rpc.Conn) {
	a, err := done(ctx, conn, &remoting.Command{Code: remoting.ReqGetAllTopicList})
	if err != nil {
		u.t.Fatal(err)
	}
	list, err := remoting.DecodeTopicList(a.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	for _, name := range list.Topics {
		if !goodName.MatchString(name) {
			u.l.bad("there is a topic %q", name)
		}
	}
	u.t.Logf("%d topics", len(list.Topics))
}

// storeFile are the names of the files of a store.
var storeFile = regexp.MustCompile(`^(LOCK|CURRENT|BALLAST|NEXT\.log\.tmp|(MANIFEST|STATE|BASE)-\d{20}(\.tmp)?|\d{20}\.(log|idx)(\.tmp)?)$`)

// onlyStore requires that below base there is nothing but the files of a store.
func onlyStore(t *testing.T, base string, at place) {
	t.Helper()
	err := filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (path == base || path == filepath.Join(base, "a") || path == filepath.Dir(at.dir) || path == at.dir || path == at.cwd):
			return nil
		case filepath.Dir(path) == at.dir && e.Type().IsRegular() && storeFile.MatchString(e.Name()):
			return nil
		}
		t.Errorf("there is %s, which is no file of a store", path)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	escaped, err := filepath.Glob("/tmp/*sluice-escaped*")
	if err != nil || len(escaped) > 0 {
		t.Errorf("there is %v, %v", escaped, err)
	}
}
