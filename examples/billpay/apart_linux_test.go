package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// sums are the figures of a report that the input and the seed decide.
func (r report) sums() [8]int {
	return [8]int{r.Bills, r.Committed, r.RolledBack, r.RedPackets, r.ClosedUnpaid, r.Lost, r.DoublePayouts, r.DeadLetters}
}

// apart runs one process for each service, with chaos, and kills some of them in
// the middle. What they have done together is what one process does alone.
func apart(t *testing.T, victims ...string) {
	const n = 200
	text := sample(n, 12, 1500)
	chaos := []string{"-chaos", "0.1", "-seed", "7"}
	want := runHere(t.Context(), strings.NewReader(text), append(chaos, "-bills", "-", "-json")...).wantInOrder(t, n)

	dir := filepath.Join(t.TempDir(), "run")
	// Six processes on two busy processors need more than 3 s for a batch, now and then.
	shared := append(chaos, "-dir", dir, "-broker", brokerElsewhere(t), "-set", "sluice.send.timeout=20s")
	bills := write(t, "bills.csv", text)
	type process struct {
		cmd  *exec.Cmd
		wait func() result
	}
	running := map[string]process{}
	begin := func(service string) {
		args := append(slices.Clone(shared), "-as", service)
		if service == "bills" {
			args = append(args, "-bills", bills, "-json")
		}
		cmd, wait := start(t, nil, args...)
		running[service] = process{cmd, wait}
	}
	for service := range services() {
		begin(service)
	}
	someCommitted(t, dir, 50)
	for _, service := range victims {
		if err := running[service].cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		running[service].wait()
		begin(service)
	}
	got := running["bills"].wait().wantInOrder(t, n)
	if got.sums() != want.sums() || got.CheckedBack == 0 || got.DuplicatesSuppressed+got.StoppedByWallet == 0 {
		t.Errorf("in processes of their own %+v\nin one process          %+v", got, want)
	}
	for service, p := range running {
		if service == "bills" {
			continue
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if r := p.wait(); r.status != exitDone || r.stdout+r.stderr != "" {
			t.Errorf("%s ended with status %d\n%s%s", service, r.status, r.stdout, r.stderr)
		}
	}
}

// Each service is a process of its own, on one broker. All of them that only
// listen are killed and started again.
func TestApart_ListenersAreKilled(t *testing.T) {
	t.Parallel()
	apart(t, "redpacket", "ledger", "notify", "closer")
}

// The one that pays the bills is killed and started again.
func TestApart_PayerIsKilled(t *testing.T) {
	t.Parallel()
	apart(t, "bills")
}
