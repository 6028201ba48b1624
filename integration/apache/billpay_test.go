package apache

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/integration/internal/child"
	"github.com/sluicemq/sluice/integration/internal/peer"
)

// sums are the figures of billpay's report that its input and its seed decide.
type sums struct {
	Bills            int `json:"bills"`
	RejectedRows     int `json:"rejected_rows"`
	Committed        int `json:"committed"`
	RolledBack       int `json:"rolled_back"`
	RedPackets       int `json:"red_packets"`
	ClosedUnpaid     int `json:"closed_unpaid"`
	Lost             int `json:"lost"`
	DoublePayouts    int `json:"double_payouts"`
	LedgerInversions int `json:"ledger_inversions"`
	DeadLetters      int `json:"dead_letters"`
	Pending          int `json:"pending"`
}

func (s *sums) String() string {
	return fmt.Sprintf("%d bills: %d committed, %d rolled back; %d red packets, %d lost, %d paid twice, %d out of order; as in one process",
		s.Bills, s.Committed, s.RolledBack, s.RedPackets, s.Lost, s.DoublePayouts, s.LedgerInversions)
}

const (
	// billsPaid is how many of the bills that ship are paid on the cluster.
	billsPaid = 300
	// billpayTakes is when it gives up.
	billpayTakes = 4 * time.Minute
)

// billpay runs the example with chaos, each service a process of its own, and
// requires the sums that one process with the bundled broker comes to.
func billpay(t *testing.T, layout string, c *peer.Cluster) {
	var got sums
	defer keep(t, layout, "billpay -chaos 0.1, a process for each service", &got, time.Now())
	dir := t.TempDir()
	program := filepath.Join(dir, "billpay")
	build := exec.Command("go", "build", "-o", program, "./examples/billpay")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build billpay: %v\n%s", err, out)
	}
	bills := filepath.Join(dir, "bills.csv")
	shipped, err := os.ReadFile(filepath.Join("..", "..", "examples", "billpay", "bills.csv"))
	if err != nil {
		t.Fatal(err)
	}
	few := strings.SplitAfterN(string(shipped), "\n", billsPaid+2)[:billsPaid+1] // and the header
	if err := os.WriteFile(bills, []byte(strings.Join(few, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) *service {
		return serve(t, child.Command{Path: program, Dir: dir, Args: append(args, "-chaos", "0.1", "-seed", "7", "-json", "-deadline", billpayTakes.String())})
	}
	makeTopics(t, c, "bill-settled", "bill-due", "bill-close")
	shared := []string{"-dir", filepath.Join(dir, "run"), "-broker", "rocketmq://" + strings.ReplaceAll(c.NameServers(), ";", ","),
		// A broker that has just begun is slow, the more so on two busy processors.
		"-set", "sluice.send.timeout=20s"}
	as := func(name string, args ...string) *service {
		return run(append(append(args, "-as", name), shared...)...)
	}
	for _, name := range []string{"redpacket", "ledger", "notify", "closer"} {
		s := as(name)
		t.Cleanup(func() {
			if !s.Stop(patience) || s.last != "" {
				t.Errorf("%s does not end cleanly when it is told to: %s", name, s.Tail())
			}
		})
	}
	payer := as("bills", "-bills", bills)
	alone := run("-bills", bills)
	got = payer.sums(t)
	if want := alone.sums(t); got != want || got.Bills != billsPaid {
		t.Errorf("the sums are %+v, those of one process %+v\n%s", got, want, payer.Tail())
	}
}

// makeTopics makes topics, as an operator does for services that are to find all
// of their queues from the beginning.
func makeTopics(t *testing.T, c *peer.Cluster, names ...string) {
	t.Helper()
	conn, err := connect(t, c, client)(t.Context(), "operator")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := conn.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: name, Queues: 8}); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// service is a process of billpay.
type service struct {
	*child.Child
	last string // line of its standard output, once it has ended
}

func serve(t *testing.T, c child.Command) *service {
	t.Helper()
	s := &service{}
	c.Line = func(line string) { s.last = line }
	var err error
	if s.Child, err = child.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// sums waits for its report.
func (s *service) sums(t *testing.T) (got sums) {
	t.Helper()
	select {
	case <-s.Ended():
	case <-time.After(billpayTakes + time.Minute):
		t.Fatalf("billpay hangs: %s", s.Tail())
	}
	if err := json.Unmarshal([]byte(s.last), &got); err != nil {
		t.Fatalf("the last line is no report: %v\n%s", err, s.Tail())
	}
	return got
}
