package embedded_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// conformant is a broker whose store a test of the suite may crash and reopen.
type conformant struct {
	cfg  embedded.Config
	open func(t testing.TB) *embedded.Broker
	b    *embedded.Broker
}

// harness makes c the broker of one test. crash brings about what open is to
// find after a crash; it is called while the old broker lives.
func (c *conformant) harness(t testing.TB, crash func(t testing.TB)) drivertest.Broker {
	c.b = c.open(t)
	return drivertest.Broker{
		Connect: func(_ context.Context, id string) (driver.Conn, error) { return c.b.Connect(id), nil },
		Close:   func(ctx context.Context) error { return c.b.Close(ctx) },
		CrashAndReopen: func(t testing.TB) {
			old := c.b
			crash(t)
			// What the old broker still does reaches nobody; it must only end.
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = old.Close(ctx)
			c.b = c.open(t)
		},
		Reopen: func(t testing.TB) {
			if err := c.b.Close(context.Background()); err != nil {
				t.Errorf("close the broker: %v", err)
			}
			c.b = c.open(t)
		},
	}
}

func mustOpen(t testing.TB, dir string, cfg embedded.Config) *embedded.Broker {
	t.Helper()
	b, err := embedded.Open(dir, cfg)
	if err != nil {
		t.Fatalf("open the broker: %v", err)
	}
	return b
}

// TestConformance_StrictMemory runs the suite in fake time on a file system
// whose crashes lose what was not synced, whole or in parts.
func TestConformance_StrictMemory(t *testing.T) {
	t.Parallel()
	cfg := embedded.Config{CheckMax: 5}
	drivertest.Run(t, drivertest.Harness{
		Virtual: true,
		Limits:  drivertest.Limits{CheckMax: cfg.CheckMax, CheckGap: 16 * 30 * time.Second},
		Open: func(t testing.TB) drivertest.Broker {
			fs, crashes := vfs.NewMem(), 0
			c := &conformant{cfg: cfg}
			c.open = func(t testing.TB) *embedded.Broker {
				cfg := c.cfg
				cfg.FS = fs
				return mustOpen(t, "", cfg)
			}
			return c.harness(t, func(testing.TB) {
				keep := []float64{0, 0.5, 1}[crashes%3]
				crashes++
				fs = fs.CrashClone(vfs.CrashOptions{Keep: keep, Stale: 0.5, Rand: rand.New(rand.NewPCG(uint64(crashes), 7))})
			})
		},
	}).RequireComplete(t)
}

// TestConformance_Memory runs it without any file system of its own, as
// services do in their tests. Nothing survives, and the broker says so.
func TestConformance_Memory(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Harness{
		Virtual: true,
		Limits:  drivertest.Limits{CheckMax: 15, CheckGap: 16 * 30 * time.Second},
		Open: func(t testing.TB) drivertest.Broker {
			b := mustOpen(t, "", embedded.Config{})
			return drivertest.Broker{Connect: drivertest.Connector(b.Driver()), Close: b.Close}
		},
	})
}

// TestConformance_Disk runs it in real time on a real directory. A crash is a
// kill: the next broker opens a copy of the files as they are at that moment.
func TestConformance_Disk(t *testing.T) {
	t.Parallel()
	disk(t, embedded.SyncAlways).RequireComplete(t)
}

// TestConformance_DiskMapped is the same where the log is written through
// memory. What needs a promise against power cuts is left out by the suite.
func TestConformance_DiskMapped(t *testing.T) {
	t.Parallel()
	disk(t, embedded.SyncNever)
}

func disk(t *testing.T, mode embedded.Sync) *drivertest.Report {
	t.Helper()
	cfg := embedded.Config{
		Sync: mode, SegmentBytes: 8 << 20,
		RevokeTimeout: time.Second, CheckAfter: 300 * time.Millisecond, CheckEvery: 300 * time.Millisecond, CheckMax: 3,
	}
	return drivertest.Run(t, drivertest.Harness{
		Limits: drivertest.Limits{
			RevokeTimeout: cfg.RevokeTimeout, CheckAfter: cfg.CheckAfter, CheckEvery: cfg.CheckEvery,
			CheckMax: cfg.CheckMax, CheckGap: 16 * cfg.CheckEvery,
		},
		Open: func(t testing.TB) drivertest.Broker {
			dir := t.TempDir()
			c := &conformant{cfg: cfg}
			c.open = func(t testing.TB) *embedded.Broker { return mustOpen(t, dir, c.cfg) }
			return c.harness(t, func(t testing.TB) {
				copied := filepath.Join(t.TempDir(), "copy")
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatalf("copy the store: %v", err)
				}
				if err := os.Chmod(copied, 0o700); err != nil {
					t.Fatal(err)
				}
				dir = copied
			})
		},
	})
}
