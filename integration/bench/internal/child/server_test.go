package child_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// shell starts a script as a server.
func shell(t *testing.T, script string) *child.Server {
	t.Helper()
	s, err := child.Serve(exec.CommandContext(context.Background(), "/bin/sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := shell(t, "echo ready; while :; do :; done")
	ready := func() error {
		if !strings.Contains(s.Output(), "ready") {
			return errors.New("not yet")
		}
		return nil
	}
	if err := s.Await(time.Minute, ready); err != nil {
		t.Fatal(err)
	}
	if resident, err := s.Memory("VmRSS"); err != nil || resident <= 0 {
		t.Errorf("%v bytes resident, %v", resident, err)
	}
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	for time.Sleep(20 * time.Millisecond); ; time.Sleep(20 * time.Millisecond) { // the signal is on its way
		before := measure.CPU(s.PID())
		time.Sleep(30 * time.Millisecond)
		if measure.CPU(s.PID()) == before {
			break
		}
	}
	if err := s.Stop(time.Minute); err != nil {
		t.Errorf("stop of a paused server: %v", err)
	}
	if err := s.Kill(); err != nil {
		t.Errorf("kill of one that is gone: %v", err)
	}
}

func TestServer_Failures(t *testing.T) {
	t.Parallel()
	if _, err := child.Serve(exec.CommandContext(context.Background(), "/does/not/exist")); err == nil {
		t.Error("a program that is not there was started")
	}
	never := errors.New("never")
	ended := shell(t, "echo no port; exit 3")
	if err := ended.Await(time.Minute, func() error { return never }); err == nil || !strings.Contains(err.Error(), "no port") {
		t.Errorf("a server that ends: %v", err)
	}
	deaf := shell(t, "trap '' TERM; echo trapped; while :; do sleep 1; done")
	if err := deaf.Await(30*time.Millisecond, func() error { return never }); !errors.Is(err, never) {
		t.Errorf("a server that is never ready: %v", err)
	}
	if err := deaf.Stop(10 * time.Millisecond); err != nil {
		t.Errorf("stop of one that does not listen: %v", err)
	}
}

// TestServer_Output: of very much the beginning and the end are kept.
func TestServer_Output(t *testing.T) {
	t.Parallel()
	s := shell(t, "echo first; i=0; while [ $i -lt 9000 ]; do echo line $i; i=$((i+1)); done; echo last; exec sleep 60")
	err := s.Await(time.Minute, func() error {
		if !strings.HasSuffix(s.Output(), "last\n") {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if text := s.Output(); !strings.HasPrefix(text, "first\n") || len(text) > 10<<10 {
		t.Errorf("%d bytes kept, beginning with %.20q", len(text), text)
	}
	if err := s.Stop(time.Minute); err != nil {
		t.Error(err)
	}
}
