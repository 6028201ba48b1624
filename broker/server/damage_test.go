package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// lines are the lines of a log that hold all the words.
func lines(log *syncBuffer, words ...string) (n int) {
	for line := range strings.Lines(log.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// serveDamaged serves a store with one damaged message, the fifth of the ten of
// topic U, behind the three of topic T, each with one queue. With Refuse the
// message is met when it is read, at pos in the log.
func serveDamaged(t *testing.T, policy embedded.OnCorruption) (served *bundle, log *syncBuffer, pos int64) {
	t.Helper()
	dir := t.TempDir()
	b, err := embedded.Open(dir, embedded.Config{Queues: 1})
	if err != nil {
		t.Fatal(err)
	}
	send := func(topic string, n int) (pos int64) {
		for i := range n {
			r := b.Connect("main").Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: topic, Body: []byte("body")}}})
			if r[0].Err != nil {
				t.Fatal(r[0].Err)
			}
			if i == 4 {
				if _, pos, err = message.ParseOffsetID(r[0].OffsetID); err != nil {
					t.Fatal(err)
				}
			}
		}
		return pos
	}
	send("T", 3)
	pos = send("U", 10)
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"STATE-*", "*.idx"} {
		if policy == embedded.Refuse {
			break // the checkpoint lets opening pass over it
		}
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "00000000000000000000.log"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), pos+100); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l := &syncBuffer{}
	if b, err = embedded.Open(dir, embedded.Config{OnCorruption: policy, Logger: slog.New(slog.NewTextHandler(l, nil))}); err != nil {
		t.Fatal(err)
	}
	return startOn(t, b, Config{Listen: "127.0.0.1:0"}, nil, nil), l, pos
}

// Offsets that damage has left out at the end of a queue are neither messages
// nor lag, whether a group has passed them or not, and are no loss.
func TestDamage_LagAndCounts(t *testing.T) {
	t.Parallel()
	b, l, _ := serveDamaged(t, embedded.Quarantine)
	p := b.dial(t)
	b.commit(t, "G", "T", 0, 3)
	end := func() int64 {
		a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetMaxOffset, "topic", "T", "queueId", "0"))
		d := remoting.ReadFields("read", a.Fields)
		return d.Int64("offset")
	}
	most := end()
	if most <= 3 {
		t.Fatalf("the queue goes on at %d, an offset that a lost message may have had", most)
	}
	progress := func(topic string) remoting.QueueProgress {
		a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetConsumeStats, "consumerGroup", "G", "topic", topic))
		stats, err := remoting.DecodeConsumeStats(a.Body)
		if err != nil || len(stats.Queues) != 1 {
			t.Fatalf("%s: %v", a.Body, err)
		}
		return stats.Queues[0]
	}
	extent := func(topic string) remoting.QueueStats {
		a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetTopicStats, "topic", topic))
		stats, err := remoting.DecodeTopicStats(a.Body)
		if err != nil || len(stats.Queues) != 1 {
			t.Fatalf("%s: %v", a.Body, err)
		}
		return stats.Queues[0]
	}
	if q := progress("T"); q.BrokerOffset != 3 || q.ConsumerOffset != 3 || q.LastTimestamp == 0 {
		t.Errorf("before: %+v", q)
	}
	if q := extent("T"); q.Min != 0 || q.Max != 3 || q.LastUpdate == 0 {
		t.Errorf("the topic reaches %+v", q)
	}
	if q := extent("U"); q.Max != 10 {
		t.Errorf("the topic with later messages reaches %+v", q)
	}
	code, r, ms := p.pull(pulling("G", "T", 0, 3))
	if code != remoting.ResPullRetryImmediately || r.NextBeginOffset != most || len(ms) > 0 {
		t.Errorf("pulled %d, on at %d with %d messages", code, r.NextBeginOffset, len(ms))
	}
	b.store.Cursor("G", "T", 0).Commit(most)
	if q := progress("T"); q.BrokerOffset != most || q.ConsumerOffset != most {
		t.Errorf("behind: %+v", q)
	}
	if n := lines(l, "level=ERROR", "to a group"); n > 0 || b.store.Stats().LostToDamage > 0 {
		t.Errorf("%d lines, %d counted", n, b.store.Stats().LostToDamage)
	}
}

// What can be read before a damaged message is answered, and then that it cannot
// be read; so is the message at its position in the log.
func TestDamage_Refused(t *testing.T) {
	t.Parallel()
	b, _, pos := serveDamaged(t, embedded.Refuse)
	p := b.dial(t)
	if code, r, ms := p.pull(pulling("G", "U", 0, 0)); code != remoting.ResSuccess || len(ms) != 4 || r.NextBeginOffset != 4 {
		t.Errorf("code %d, %d messages, on at %d", code, len(ms), r.NextBeginOffset)
	}
	a := p.wantCode(remoting.ResSystemError, pullCommand(pulling("G", "U", 0, 4)))
	if !strings.Contains(a.Remark, "is corrupt at offset") {
		t.Errorf("refused by %q", a.Remark)
	}
	a = p.wantCode(remoting.ResSystemError, request(remoting.ReqViewMessageByID, "offset", strconv.FormatInt(pos, 10)))
	if !strings.Contains(a.Remark, "is corrupt at offset") {
		t.Errorf("the record is refused by %q", a.Remark)
	}
	a = p.wantCode(remoting.ResSystemError, request(remoting.ReqViewMessageByID, "offset", strconv.FormatInt(pos+1, 10)))
	if !strings.Contains(a.Remark, "can not find message by the offset") {
		t.Errorf("no record is refused by %q", a.Remark)
	}
}

// What is lost is lost to the group that pulls; to a tool that looks into the
// queue nothing is.
func TestDamage_NamesTheGroup(t *testing.T) {
	t.Parallel()
	b, l, _ := serveDamaged(t, embedded.Quarantine)
	p := b.dial(t)
	for range 2 {
		if _, r, ms := p.pull(pulling("TOOLS_CONSUMER", "U", 0, 0)); len(ms) != 9 || r.NextBeginOffset != 10 {
			t.Fatalf("%d messages, on at %d", len(ms), r.NextBeginOffset)
		}
	}
	if n := lines(l, "level=WARN", "without a group", "lane=U/0", "from=4"); n != 2 || lines(l, "to a group") > 0 || b.store.Stats().LostToDamage > 0 {
		t.Errorf("%d lines, %d counted", n, b.store.Stats().LostToDamage)
	}
	p.pull(pulling("G", "U", 0, 0))
	if n := lines(l, "level=ERROR", "lost to a group", "group=G", "lane=U/0"); n != 1 || b.store.Stats().LostToDamage != 1 {
		t.Errorf("%d lines, %d counted", n, b.store.Stats().LostToDamage)
	}
}

// A group of clients elsewhere whose next messages are gone in front of the first
// one is told of in the log, once, and counted; a tool is not.
func TestDamage_MissingFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := embedded.Open(dir, embedded.Config{Queues: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		r := b.Connect("main").Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "U", Body: []byte("body")}}})
		if r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
	}
	s, err := b.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Cursor("G", "U", 0).Commit(4)
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "00000000000000000000.log")); err != nil {
		t.Fatal(err)
	}
	l := &syncBuffer{}
	if b, err = embedded.Open(dir, embedded.Config{OnCorruption: embedded.Quarantine, Logger: slog.New(slog.NewTextHandler(l, nil))}); err != nil {
		t.Fatal(err)
	}
	served := startOn(t, b, Config{Listen: "127.0.0.1:0"}, nil, nil)
	p := served.dial(t)
	for _, group := range []string{"TOOLS_CONSUMER", "G", "G"} {
		if code, r, _ := p.pull(pulling(group, "U", 0, 4)); code != remoting.ResPullOffsetMoved || r.NextBeginOffset != 10 {
			t.Fatalf("%s: code %d, on at %d", group, code, r.NextBeginOffset)
		}
	}
	if n := lines(l, "level=ERROR", "lost to a group", "group=G", "lane=U/0", "from=4", "to=10", "reason=damage"); n != 1 || lines(l, "lost to a group") != 1 {
		t.Errorf("told %d times:\n%s", n, l)
	}
	if n := served.store.Stats().LostToDamage; n != 6 {
		t.Errorf("%d counted", n)
	}
}
