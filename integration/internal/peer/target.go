package peer

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/internal/wire"
)

// What both servers are told to be.
const (
	ClusterName = "C"
	BrokerName  = "b1"

	// Levels are the delay levels: level n waits n seconds.
	Levels = "1s 2s 3s 4s 5s 6s 7s 8s 9s 10s 11s 12s 13s 14s 15s 16s 17s 18s"
)

// The users of a server that asks for credentials.
const (
	AdminKey, AdminSecret = "rootroot", "rootsecret"
	UserKey, UserSecret   = "appuser", "appsecret"
)

// Grants is what the plain user may do; the administrator may do everything.
var Grants = struct{ Topics, Groups []string }{
	Topics: []string{"acl-go", "acl-java-5", "acl-java-4", "acl-node"},
	Groups: []string{"acl-g-go", "acl-g-java-5", "acl-g-java-4", "acl-g-node"},
}

// Target is a name server with one broker that scenarios run against.
type Target interface {
	// Name is "apache" or "ours".
	Name() string
	// NameServer and Broker are addresses; they outlast a restart.
	NameServer() string
	Broker() string
	// Kill kills the broker with signal 9 and waits until it is gone.
	Kill()
	// Terminate ends the broker with signal 15 and reports whether that was
	// enough and how long it took.
	Terminate() (bool, time.Duration)
	// Start starts the broker (again) and waits until clients can find it.
	// Guarded, it wants credentials from now on.
	Start(guarded bool) error
	// Freeze and Thaw stop and continue every process of the target.
	Freeze()
	Thaw()
	// Close ends everything.
	Close()
	// Said is what its processes said last, for the report of a failure.
	Said() string
}

// waitFor repeats a check until it passes.
func waitFor(what string, patience time.Duration, ended <-chan struct{}, check func() error) error {
	deadline := time.Now().Add(patience)
	var last error
	for {
		if last = check(); last == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("wait for %s: the process ended: %w", what, last)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s: not within %v: %w", what, patience, last)
		}
	}
}

func accepts(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

var errNoRoute = errors.New("the name server does not list it")

// routed checks that the name server knows a broker and routes to it.
func routed(nameServer, broker string) error {
	a, err := wire.Call(nameServer, wire.Request{Code: 106}, 2*time.Second)
	if err != nil {
		return err
	}
	if a.Code != 0 || !strings.Contains(string(a.Body), broker) {
		return errNoRoute
	}
	return nil
}
