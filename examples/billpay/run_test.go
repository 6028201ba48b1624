package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/sdk"
)

// programDir is where the program was built, if it was.
var programDir string

func TestMain(m *testing.M) {
	redis.SetLogger(silence{})
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if programDir != "" {
			_ = os.RemoveAll(programDir)
		}
		os.Exit(code)
	}))
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// result is how a run ended.
type result struct {
	status         int
	stdout, stderr string
}

// runHere runs the program in this process.
func runHere(ctx context.Context, stdin io.Reader, args ...string) result {
	var out, errs bytes.Buffer
	status := run(ctx, args, stdin, &out, &errs)
	return result{status, out.String(), errs.String()}
}

// report reads the last line of standard output.
func (r result) report(t *testing.T) report {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var got report
	d := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("the last line is no report: %v\nstatus %d\nstdout: %s\nstderr: %s", err, r.status, r.stdout, r.stderr)
	}
	return got
}

// wantInOrder checks what must hold after every complete run.
func (r result) wantInOrder(t *testing.T, bills int) report {
	t.Helper()
	got := r.report(t)
	if r.status != exitDone || got.Bills != bills || got.Committed+got.RolledBack != bills || got.RedPackets != got.Committed ||
		got.Lost != 0 || got.DoublePayouts != 0 || got.LedgerInversions != 0 || got.DeadLetters != 0 ||
		got.ClosedUnpaid != got.RolledBack || got.Pending != 0 || got.Interrupted {
		t.Fatalf("status %d, %+v\nstderr: %s", r.status, got, r.stderr)
	}
	return got
}

func settled(id, account string) *sdk.Message[billSettled] {
	return &sdk.Message[billSettled]{
		Delivery: &sdk.Delivery{Topic: topicSettled, Keys: []string{id}, OrderingKey: account, Attempt: 1, Lane: "bill-settled/0"},
		Payload:  billSettled{BillID: id, Account: account, Kind: "gas", AmountCents: 1000},
	}
}

func TestRun_NoFaults(t *testing.T) {
	t.Parallel()
	r := runHere(t.Context(), nil, "-bills", write(t, "bills.csv", sample(60, 7, 800)), "-json")
	got := r.wantInOrder(t, 60)
	if got.Committed != 60 || got.DuplicatesSuppressed != 0 || got.StoppedByWallet != 0 {
		t.Errorf("%+v", got)
	}
	if strings.Count(r.stdout, "\n") != 1 || r.stderr != "" {
		t.Errorf("stdout %q\nstderr %q", r.stdout, r.stderr)
	}
}

func TestRun_Chaos(t *testing.T) {
	t.Parallel()
	r := runHere(t.Context(), nil, "-bills", write(t, "bills.csv", sample(150, 12, 1500)), "-chaos", "0.15", "-seed", "7", "-json")
	got := r.wantInOrder(t, 150)
	if got.RolledBack == 0 || got.CheckedBack == 0 || got.DuplicatesSuppressed == 0 || got.StoppedByWallet != 0 {
		t.Errorf("the faults did not happen, or Redis forgot: %+v", got)
	}
}

// The text for people ends a run without -json.
func TestRun_Text(t *testing.T) {
	t.Parallel()
	r := runHere(t.Context(), strings.NewReader(sample(5, 2, 500)), "-bills", "-")
	if r.status != exitDone || !strings.Contains(r.stdout, "red packets                5") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// A malformed row is reported with its line and skipped; the rest is paid and
// the exit status is 2.
func TestRun_RejectsRows(t *testing.T) {
	t.Parallel()
	text := header + "\nB1,A1,gas,100,300\nB2,A1,gas,-1,300\nB1,A1,gas,100,300\nB3\x00,A1,gas,1,300\n" +
		"B4," + strings.Repeat("x", 1<<20) + ",gas,1,300\nB5,A1,gas,100,300\n"
	r := runHere(t.Context(), strings.NewReader(text), "-bills", "-", "-json")
	got := r.report(t)
	if r.status != exitRejected || got.Bills != 2 || got.RedPackets != 2 || got.RejectedRows != 4 {
		t.Errorf("status %d, %+v", r.status, got)
	}
	for _, want := range []string{"line 3: amount_cents", "line 4: bill B1 stands on line 2 already", "line 5: byte 3 is NUL", "line 6: the line is longer"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr does not say %q:\n%s", want, r.stderr)
		}
	}
}

// A second run on the same folder continues and pays nobody twice, and adds up
// with the first one.
func TestRun_Again(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := sample(40, 5, 600)
	r := runHere(t.Context(), strings.NewReader(first), "-bills", "-", "-dir", dir, "-chaos", "0.2", "-seed", "3", "-json")
	before := r.wantInOrder(t, 40)
	r = runHere(t.Context(), strings.NewReader(sample(60, 5, 600)), "-bills", "-", "-dir", dir, "-json")
	after := r.wantInOrder(t, 60)
	if after.RolledBack != before.RolledBack || after.CheckedBack < before.CheckedBack ||
		after.DuplicatesSuppressed < before.DuplicatesSuppressed {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	r = runHere(t.Context(), nil, "-dir", dir, "-json")
	if again := r.wantInOrder(t, 60); again.Committed != after.Committed {
		t.Errorf("a run without bills: %+v, want %+v", again, after)
	}
	// The same bill with another amount is a row to refuse.
	changed := strings.Replace(first, "\nB000001,", "\nB000001,X", 1)
	r = runHere(t.Context(), strings.NewReader(changed), "-bills", "-", "-dir", dir, "-json")
	if r.status != exitRejected || !strings.Contains(r.stderr, "line 2: bill B000001 was announced before") {
		t.Errorf("status %d, stderr %s", r.status, r.stderr)
	}
}

// A run that does not get done in time fails, and says how far it came.
func TestRun_Deadline(t *testing.T) {
	t.Parallel()
	r := runHere(t.Context(), strings.NewReader(sample(5, 2, 20_000)), "-bills", "-", "-deadline", "700ms", "-json")
	if r.status != exitFailed || !strings.Contains(r.stderr, "the run was not complete after 700ms: bills 5") {
		t.Errorf("status %d, stderr %s", r.status, r.stderr)
	}
}
