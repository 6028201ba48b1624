package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/integration/internal/child"
)

// BuildSluice compiles this checkout's command into a folder. With
// $SLUICE_INTEROP_BINARY that program is taken instead.
func BuildSluice(checkout, dir string) (string, error) {
	if b := os.Getenv("SLUICE_INTEROP_BINARY"); b != "" {
		return b, nil
	}
	b := filepath.Join(dir, "sluice")
	return b, run(checkout, "go", "build", "-o", b, "./cmd/sluice")
}

// sluice is this project's server: name server and broker at one address.
type sluice struct {
	binary, dir string
	address     string // once it is known
	server      *child.Child
}

// StartSluice starts this project's server with its data in a folder.
func StartSluice(binary, dir string) (Target, error) {
	s := &sluice{binary: binary, dir: dir, address: "127.0.0.1:0"}
	if err := s.Start(false); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *sluice) Name() string       { return "ours" }
func (s *sluice) NameServer() string { return s.address }
func (s *sluice) Broker() string     { return s.address }

// readyLine begins the line that the server prints when it serves.
const readyLine = "sluice serve: ready at "

func (s *sluice) Start(guarded bool) error {
	args := []string{
		"serve", "-dir", filepath.Join(s.dir, "data"), "-listen", s.address, "-delay-levels", Levels, "-cluster", ClusterName, "-broker", BrokerName,
		"-auto-create=true", "-check-after", "3s", "-check-every", "1s", "-check-max", "5",
		// The other side answers before its disk does, too; otherwise what is
		// measured on a busy machine is the disk.
		"-sync", "200ms",
	}
	if guarded {
		file := filepath.Join(s.dir, "plain_acl.yml")
		if err := os.WriteFile(file, []byte(plainACL()), 0o600); err != nil {
			return err
		}
		args = append(args, "-acl", file)
	}
	ready := make(chan string, 1)
	var once sync.Once
	c, err := child.Start(child.Command{Path: s.binary, Args: args, Dir: s.dir, Line: func(line string) {
		if at, ok := strings.CutPrefix(line, readyLine); ok {
			once.Do(func() { ready <- strings.TrimSpace(at) })
		}
	}})
	if err != nil {
		return err
	}
	s.server = c
	select {
	case s.address = <-ready:
		return nil // ready means ready: clients are not made to wait for a route
	case <-c.Ended():
		return fmt.Errorf("start sluice serve: it ended: %s", c.Tail())
	case <-time.After(20 * time.Second):
		return fmt.Errorf("start sluice serve: not ready within 20 s: %s", c.Tail())
	}
}

// plainACL is the same rights as those of the other side, in the file form that
// operators of RocketMQ 4 know.
func plainACL() string {
	var b strings.Builder
	fmt.Fprintf(&b, "accounts:\n- accessKey: %s\n  secretKey: %s\n  admin: true\n", AdminKey, AdminSecret)
	fmt.Fprintf(&b, "- accessKey: %s\n  secretKey: %s\n  admin: false\n  defaultTopicPerm: DENY\n  defaultGroupPerm: DENY\n  topicPerms:\n", UserKey, UserSecret)
	for _, t := range Grants.Topics {
		fmt.Fprintf(&b, "  - %s=PUB|SUB\n", t)
	}
	b.WriteString("  groupPerms:\n")
	for _, g := range Grants.Groups {
		fmt.Fprintf(&b, "  - %s=SUB\n", g)
	}
	return b.String()
}

func (s *sluice) Kill() { s.server.Kill() }

func (s *sluice) Terminate() (bool, time.Duration) {
	before := time.Now()
	graceful := s.server.Stop(20 * time.Second)
	return graceful, time.Since(before)
}

func (s *sluice) Freeze() { s.server.Signal(syscall.SIGSTOP) }
func (s *sluice) Thaw()   { s.server.Signal(syscall.SIGCONT) }

func (s *sluice) Close() {
	if s.server != nil {
		s.server.Kill()
	}
}

func (s *sluice) Said() string {
	if s.server == nil {
		return ""
	}
	return s.server.Tail()
}
