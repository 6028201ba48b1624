package tcp

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/java"
)

const (
	// readyLine is what sluice serve says before its address.
	readyLine = "sluice serve: ready at "
	// readyLimit is how long it may take to say so.
	readyLimit = 30 * time.Second
	// stopLimit is how long it may take to end in order.
	stopLimit = 10 * time.Second
	// interval is how often async syncs: as RocketMQ does.
	interval = "500ms"
)

// build compiles the command from this checkout.
func build(ctx context.Context, path string) error {
	module, err := java.Module(ctx)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "build", "-C", module, "-o", path, "./cmd/sluice").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build sluice: %w\n%s", err, out)
	}
	return nil
}

// serve starts sluice serve with a store in dir.
func serve(program, dir string, c class) (*child.Server, string, error) {
	sync := interval
	if c == durable {
		sync = "always"
	}
	s, err := child.Serve(exec.CommandContext(context.Background(), program, "serve", "-dir", dir, "-listen", "127.0.0.1:0", "-sync", sync,
		"-auto-create=true", "-cluster", "bench", "-broker", string(c)))
	if err != nil {
		return nil, "", err
	}
	return address(s, readyLine)
}

// address waits until a server has said its address behind some words.
func address(s *child.Server, words string) (*child.Server, string, error) {
	addr := ""
	err := s.Await(readyLimit, func() (err error) {
		addr, err = readyAt(s.Output(), words)
		return err
	})
	if err != nil {
		return nil, "", errors.Join(err, s.Kill())
	}
	return s, addr, nil
}

// errNotReady says that the line of the address is not there yet.
var errNotReady = errors.New("it has not said its address")

// readyAt finds the address in what the server wrote.
func readyAt(output, words string) (string, error) {
	_, rest, ok := strings.Cut(output, words)
	addr, _, whole := strings.Cut(rest, "\n")
	if !ok || !whole {
		return "", errNotReady
	}
	return strings.TrimSpace(addr), nil
}
