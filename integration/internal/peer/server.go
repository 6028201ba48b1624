package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/integration/internal/child"
)

// The programs of Apache RocketMQ's servers.
const (
	namesProgram  = "org.apache.rocketmq.namesrv.NamesrvStartup"
	brokerProgram = "org.apache.rocketmq.broker.BrokerStartup"
)

// Server is a name server or broker of Apache RocketMQ, a process of its own.
type Server struct {
	dir, jars, program string
	heap, settings     []string
	port               int
	names              []*Server // that a broker registers at

	running *child.Child // nil before the first start
}

// Addr is its address, which outlasts a restart.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Start starts it (again), with further settings, and waits until clients can
// find it. A broker is started twice if need be: one that comes back can miss its
// registration.
func (s *Server) Start(further ...string) error {
	err := s.start(further, 25*time.Second)
	if errors.Is(err, errNoRoute) {
		s.Kill()
		err = s.start(further, 45*time.Second)
	}
	return err
}

func (s *Server) start(further []string, patience time.Duration) error {
	file := filepath.Join(s.dir, "server.conf")
	// Of settings that are there twice Java takes the last one.
	lines := append(append([]string{}, s.settings...), further...)
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the settings of a server: %w", err)
	}
	var err error
	c := JVM(s.dir, append(s.heap, "-XX:TieredStopAtLevel=1"), filepath.Join(s.jars, "*"), s.program, "-c", file)
	if s.running, err = child.Start(c); err != nil {
		return err
	}
	if err := waitFor("the port of "+s.program, time.Minute, s.running.Ended(), func() error { return accepts(s.Addr()) }); err != nil {
		return err
	}
	return waitFor("the route to the broker", patience, s.running.Ended(), s.listed)
}

// listed checks that every name server that runs knows the broker.
func (s *Server) listed() error {
	for _, n := range s.names {
		if !n.Running() {
			continue
		}
		if err := routed(n.Addr(), s.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// Running reports whether it was started and has not ended.
func (s *Server) Running() bool {
	if s.running == nil {
		return false
	}
	select {
	case <-s.running.Ended():
		return false
	default:
		return true
	}
}

// Kill kills it with signal 9 and waits until it is gone.
func (s *Server) Kill() {
	if s.running != nil {
		s.running.Kill()
	}
}

// Stop ends it with signal 15 and reports whether that was enough and how long
// it took.
func (s *Server) Stop() (bool, time.Duration) {
	before := time.Now()
	// It takes up to 21 s on this hardware.
	graceful := s.running.Stop(40 * time.Second)
	return graceful, time.Since(before)
}

// Freeze stops its process where it is.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	if s.running != nil {
		s.running.Signal(sig)
	}
}

// Said is what it said last.
func (s *Server) Said() string {
	if s.running == nil {
		return ""
	}
	return s.running.Tail()
}
