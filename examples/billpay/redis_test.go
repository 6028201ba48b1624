package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/internal/redistest"
)

// rewind makes the red-packet group of a stopped run hear of every bill again.
func rewind(t *testing.T, dir string) {
	t.Helper()
	b, err := embedded.Open(filepath.Join(dir, "broker"), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	conn := b.Connect("rewind")
	if err := conn.Extensions().Groups.ResetOffsets(t.Context(), "red-packet", topicSettled, driver.Position{}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// hearAgain runs until n repetitions were stopped. One run is enough unless the
// machine is so busy that Redis does not answer in time: such a message comes
// again later, and a run that has nothing else to do does not wait for it.
func hearAgain(t *testing.T, n int, args ...string) report {
	t.Helper()
	var got report
	for range 5 {
		got = runHere(t.Context(), nil, append(args, "-json")...).wantInOrder(t, n)
		if got.DuplicatesSuppressed+got.StoppedByWallet >= n {
			break
		}
	}
	return got
}

// A Redis that forgot everything pays nobody twice: the wallet's unique bill id
// stops what the decorator lets through.
func TestRedis_ForgetsEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := runHere(t.Context(), strings.NewReader(sample(30, 4, 500)), "-bills", "-", "-dir", dir, "-json")
	if got := r.wantInOrder(t, 30); got.StoppedByWallet != 0 {
		t.Fatalf("%+v", got)
	}
	rewind(t, dir)
	// The next run has a Redis of its own, which knows nothing.
	got := hearAgain(t, 30, "-dir", dir)
	if got.StoppedByWallet != 30 {
		t.Errorf("the wallet stopped %d payouts, want 30: %+v", got.StoppedByWallet, got)
	}
}

// A Redis that remembers stops them all, in a later run too, and keeps folders
// with the same bills apart.
func TestRedis_Remembers(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t).Addr
	bills := sample(30, 4, 500)
	for range 2 {
		dir := t.TempDir()
		r := runHere(t.Context(), strings.NewReader(bills), "-bills", "-", "-dir", dir, "-redis", addr, "-json")
		if got := r.wantInOrder(t, 30); got.DuplicatesSuppressed != 0 {
			t.Errorf("another folder's bills count as duplicates: %+v", got)
		}
		rewind(t, dir)
		got := hearAgain(t, 30, "-dir", dir, "-redis", addr)
		if got.StoppedByWallet != 0 || got.DuplicatesSuppressed != 30 {
			t.Errorf("the decorator stopped %d, the wallet %d; want 30 and 0", got.DuplicatesSuppressed, got.StoppedByWallet)
		}
	}
}
