package processes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// syncerArgs configure the role "syncer": it sends until the store fails, then
// tries again, and tries everything else that writes. Its lines are those of
// the worker, and
//
//	refused TEXT           the store cannot be opened
//	broken TEXT            the first error of a producer
//	after OUTCOME          an attempt to send once every producer has met an error
//	later WHAT OUTCOME     the same of another call that writes
//	served N               messages that were read after that
//	end broken|whole
type syncerArgs struct {
	store
	Seed  uint64
	Calls int // of each producer at most
}

func playSyncer(s *stage) error {
	var args syncerArgs
	if err := s.parse(&args); err != nil {
		return err
	}
	b, err := args.open()
	if err != nil {
		s.say("refused %s", oneLine(err))
		return nil
	}
	s.say("ready")
	failures := make(chan error, producers)
	conns := make([]driver.Conn, producers)
	for i := range producers {
		conns[i] = b.Connect(fmt.Sprint("producer-", i))
		p := &producer{stage: s, conn: conns[i], process: fmt.Sprint("p", i), rand: rand.New(rand.NewPCG(args.Seed, uint64(i)))}
		go func() { failures <- p.until(args.Calls) }()
	}
	first := error(nil)
	for range producers {
		if err := <-failures; first == nil {
			first = err
		}
	}
	if first == nil { // a weak mode may learn of it by now
		time.Sleep(4 * time.Duration(args.Sync))
		first = conns[0].Health(context.Background())
	}
	if first == nil {
		s.say("end whole")
		return nil
	}
	s.say("broken %s", oneLine(first))
	sayLater(s, conns)
	s.say("end broken")
	return nil // without a Close, as after a kill
}

// until sends up to n times, as long as there is no error.
func (p *producer) until(n int) error {
	for range n {
		if err := p.send(1 + p.rand.IntN(4)); err != nil {
			return err
		}
		time.Sleep(200 * time.Microsecond) // a weak mode answers faster than it syncs
	}
	return nil
}

// sayLater tries everything that writes on a store that has failed.
func sayLater(s *stage, conns []driver.Conn) {
	ctx := context.Background()
	for _, c := range conns {
		for range 10 {
			for _, r := range c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{{Topic: topic, Body: []byte("later")}}}) {
				s.say("after %s", outcome(r.Err))
			}
		}
	}
	ext := conns[0].Extensions()
	s.say("later topic %s", outcome(ext.Topics.CreateTopic(ctx, driver.TopicInfo{Name: "later", Queues: 1})))
	_, err := ext.Tx.Prepare(ctx, "later", &driver.Message{Topic: topic, Body: []byte("later")})
	s.say("later half %s", outcome(err))
	s.say("later health %s", outcome(conns[0].Health(ctx)))
	n := 0
	for q := range queues {
		ds, err := ext.Query.Browse(ctx, topic, q, 0, 1<<20)
		if err == nil {
			n += len(ds)
		}
	}
	s.say("served %d", n)
}

// TestSyncFailure lets one sync fail in the kernel, of the whole process at
// some moment, and requires that it is final: not one message is answered as
// stored afterwards, what is there can be read, and a restart finds everything
// that was answered before.
func TestSyncFailure(t *testing.T) {
	tracer, err := exec.LookPath("strace")
	if err != nil {
		missing(t, "strace is not installed, which injects the failure")
	}
	if out, err := exec.Command(tracer, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("strace may not trace here: %v: %s", err, out))
	}
	for _, m := range modes[:2] { // the third leaves the sync to the system
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			// Each call has its own count: files of the log are synced by
			// another one than those that change their size, and directories.
			met := 0
			for _, call := range []string{"fdatasync", "fsync"} {
				for n := range count(t, "FAULTS", 6, 12, 50) {
					t.Run(fmt.Sprint(call, " ", n+1), func(t *testing.T) {
						if failSync(t, tracer, time.Duration(m.sync), call, n+1) {
							met++
						}
					})
				}
			}
			if met < 4 {
				t.Errorf("%d of the failures met a store at work; the rest came too early or never", met)
			}
		})
	}
}

// spare names files that hold nothing which was answered: those that can be
// written anew from the log, and the next segment, whose failure is told when
// it is needed. A failure to sync one need not end the store at once.
var spare = regexp.MustCompile(`\.idx|/STATE-|/NEXT\.|/BALLAST`)

// missing skips a test for want of a tool, and fails it in CI, which installs it.
func missing(t *testing.T, why string) {
	t.Helper()
	if inCI() {
		t.Fatal(why)
	}
	t.Skip(why)
}

// failSync reports whether the n-th such call of a thread failed while the store was
// at work. strace counts by thread, so others may fail after it: what matters
// is what was answered after the first.
func failSync(t *testing.T, tracer string, mode time.Duration, call string, n int) (met bool) {
	args := syncerArgs{store: store{Dir: storeDir(t), Sync: mode}, Seed: uint64(n), Calls: 400}
	trace := filepath.Join(t.TempDir(), "trace")
	c := start(t, command{prefix: []string{
		tracer, "-f", "-y", "-qq", "-o", trace, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:error=EIO:when=%d", call, n),
	}}, "syncer", args)
	l := newLedger(t)
	end := ""
	for _, line := range c.end() {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "refused", "end":
			end = word + " " + rest
		case "broken":
			t.Logf("%.200s", line)
		case "served":
			// In a weak mode only what was synced before has to be served.
			if served, err := strconv.Atoi(rest); err != nil || mode == 0 && served < len(l.answers) {
				t.Errorf("after the failure %s messages could be read, %d were answered as stored", rest, len(l.answers))
			}
		case "after", "later":
			if strings.HasSuffix(rest, "ok") {
				t.Errorf("the store had failed and answered all the same: %s", line)
			}
		default:
			l.note(line)
		}
	}
	injected, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	failed, matters := false, false
	for line := range strings.Lines(string(injected)) {
		if strings.Contains(line, "INJECTED") {
			failed = true
			matters = matters || !spare.MatchString(line)
		}
	}
	if matters && end == "end whole" {
		t.Errorf("a sync failed, and the store has told nobody:\n%s", injected)
	}
	if !failed && end != "end whole" {
		t.Errorf("no sync failed, and the store says %q", end)
	}
	l.fault("failed sync")
	c = start(t, command{}, "reader", workerArgs{store: args.store})
	for _, line := range c.end() {
		l.note(line)
	}
	if err := l.restored(); err != nil {
		t.Errorf("after a failed sync and a restart: %v", err)
	}
	return failed && end == "end broken"
}
