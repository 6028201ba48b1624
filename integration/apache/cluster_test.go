package apache

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest"
	"github.com/sluicemq/sluice/broker/rocketmq"
	"github.com/sluicemq/sluice/integration/internal/peer"
)

// gate skips a test that was not asked for, or that cannot run here.
func gate(t *testing.T) {
	t.Helper()
	if os.Getenv("SLUICE_APACHE") == "" {
		t.Skip("starts Apache RocketMQ; SLUICE_APACHE=1 runs it, as make apache does")
	}
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("a skip is a failure here: %s is not installed", program)
		}
		t.Skipf("%s is not installed", program)
	}
}

// start starts a cluster that ends with the test. What its servers said is in
// the log of a test that failed.
func start(t testing.TB, l peer.Layout) *peer.Cluster {
	t.Helper()
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := peer.OpenCache(source)
	if err != nil {
		t.Fatal(err)
	}
	jars, err := cache.Server()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var c *peer.Cluster
	apart(func() { c, err = peer.StartCluster(dir, jars, l) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			t.Log(c.Said())
		}
	})
	return c
}

// apart runs f on a goroutine without the labels of a test, by which the suite
// finds what a driver has left behind: servers stay.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pprof.SetGoroutineLabels(context.Background())
		f()
	}()
	<-done
}

// spaces counts what tests have named theirs.
var spaces atomic.Int64

// space begins names that no other test has.
func space() string { return fmt.Sprintf("t%d-", spaces.Add(1)) }

// connect opens clients of a cluster.
func connect(t testing.TB, c *peer.Cluster, cfg rocketmq.Config) func(ctx context.Context, id string) (driver.Conn, error) {
	cfg.NameServers = strings.Split(c.NameServers(), ";")
	cfg.OffsetDir = t.TempDir()
	return drivertest.Connector(rocketmq.New(cfg))
}
