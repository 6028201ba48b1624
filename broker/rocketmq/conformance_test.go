package rocketmq_test

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/rocketmq"
	"github.com/sluicemq/sluice/broker/server"
)

// served is a bundled broker with its TCP face.
type served struct {
	dir    string
	cfg    embedded.Config
	addr   string // the same over all lives: it is part of message ids
	broker *embedded.Broker
	server *server.Server
}

func (s *served) open(t testing.TB) {
	t.Helper()
	var err error
	if s.broker, err = embedded.Open(s.dir, s.cfg); err != nil {
		t.Fatalf("open the broker: %v", err)
	}
	if s.server, err = server.Open(s.broker, server.Config{Listen: cmp.Or(s.addr, "127.0.0.1:0")}); err != nil {
		t.Fatalf("open the server: %v", err)
	}
	s.addr = s.server.Addr().String()
}

func (s *served) close(ctx context.Context) error {
	err := s.server.Close(ctx)
	if e := s.broker.Close(ctx); err == nil {
		err = e
	}
	return err
}

// crash copies the files as a kill would leave them and opens the copy.
func (s *served) crash(t testing.TB) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(s.dir)); err != nil {
		t.Fatalf("copy the store: %v", err)
	}
	if err := os.Chmod(copied, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.close(ctx) // what it still does reaches nobody
	s.dir = copied
	s.open(t)
}

func (s *served) connect(t testing.TB, cfg rocketmq.Config) func(ctx context.Context, id string) (driver.Conn, error) {
	cfg.OffsetDir = t.TempDir()
	return func(ctx context.Context, id string) (driver.Conn, error) {
		cfg := cfg
		cfg.NameServers = []string{s.addr}
		return drivertest.Connector(rocketmq.New(cfg))(ctx, id)
	}
}

// harness runs the suite against bundled brokers over TCP.
func harness(disk bool) drivertest.Harness {
	cfg := embedded.Config{
		RevokeTimeout: time.Second, CheckAfter: 700 * time.Millisecond, CheckEvery: 700 * time.Millisecond, CheckMax: 3,
	}
	return drivertest.Harness{
		Limits: drivertest.Limits{
			RevokeTimeout: cfg.RevokeTimeout, CheckAfter: cfg.CheckAfter, CheckEvery: cfg.CheckEvery,
			CheckMax: cfg.CheckMax, CheckGap: 16 * cfg.CheckEvery, ReturnsInPlace: true,
		},
		Open: func(t testing.TB) drivertest.Broker {
			s := &served{cfg: cfg}
			client := rocketmq.Config{RevokeTimeout: cfg.RevokeTimeout, CommitEvery: 200 * time.Millisecond, Durable: disk}
			if disk {
				s.dir = t.TempDir()
			}
			s.open(t)
			b := drivertest.Broker{Connect: s.connect(t, client), Close: s.close}
			if disk {
				b.CrashAndReopen = s.crash
				b.Reopen = func(t testing.TB) {
					if err := s.close(context.Background()); err != nil {
						t.Errorf("close the broker: %v", err)
					}
					s.open(t)
				}
			}
			return b
		},
	}
}

// The suite over TCP against the bundled broker in memory.
func TestConformance_Memory(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(false))
}

// The same on disk, with crashes.
func TestConformance_Disk(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, harness(true)).RequireComplete(t)
}
