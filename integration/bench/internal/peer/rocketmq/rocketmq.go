// Package rocketmq runs the servers of Apache RocketMQ as child processes on
// loopback: a name server, and brokers that tell it of themselves.
package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/client/raw"
	"github.com/sluicemq/sluice/integration/bench/java"
)

const (
	// startLimit is how long a server may take: a broker needs 4 to 9 s here.
	startLimit = 60 * time.Second
	// stopLimit is short, as a broker needs up to 20 s and its store is
	// deleted anyway.
	stopLimit = time.Second
)

// Memory is what a broker's JVM gets.
type Memory []string

var (
	// Large is for throughput.
	Large = Memory{"-Xms2g", "-Xmx2g", "-XX:MaxDirectMemorySize=1g"}
	// Small is the least that a broker works with in practice: it starts
	// faster and idles in less.
	Small = Memory{"-Xms256m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m"}
	// name is the name server's, which needs little.
	name = Memory{"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC"}
)

// Flush is when a broker answers.
type Flush string

const (
	// Async answers when the message is in the page cache, and syncs every
	// half second.
	Async Flush = "ASYNC_FLUSH"
	// Sync answers when the message is on the disk.
	Sync Flush = "SYNC_FLUSH"
)

// Server is a name server or a broker.
type Server struct {
	*child.Server
	Addr string
}

// StartName starts a name server in dir, which it makes.
func StartName(dir, packages string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return start(dir, packages, name, "org.apache.rocketmq.namesrv.NamesrvStartup", port, []string{
		"listenPort=" + strconv.Itoa(port), "bindAddress=127.0.0.1",
	}, accepts)
}

// StartBroker starts a broker in dir, which it makes. It is named after its
// flush, and ready when it takes requests; its name server knows it up to ten
// seconds later.
func StartBroker(dir, packages string, memory Memory, nameServer string, flush Flush) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	replication, err := freePort()
	if err != nil {
		return nil, err
	}
	return start(dir, packages, memory, "org.apache.rocketmq.broker.BrokerStartup", port, brokerSettings(dir, nameServer, flush, port, replication),
		func(addr string) error { return raw.MakeTopic(addr, "ready") })
}

// brokerSettings are the defaults but for addresses and for a queue of sends
// that does not refuse a full pipeline as "busy".
func brokerSettings(dir, nameServer string, flush Flush, port, replication int) []string {
	store := filepath.Join(dir, "store")
	return []string{
		"brokerClusterName=bench", "brokerName=" + strings.ToLower(string(flush)), "brokerId=0", "brokerRole=ASYNC_MASTER",
		"brokerIP1=127.0.0.1", "brokerIP2=127.0.0.1", "bindAddress=127.0.0.1",
		"listenPort=" + strconv.Itoa(port), "haListenPort=" + strconv.Itoa(replication), "namesrvAddr=" + nameServer,
		"storePathRootDir=" + store, "storePathCommitLog=" + filepath.Join(store, "commitlog"),
		"flushDiskType=" + string(flush), "diskMaxUsedSpaceRatio=99",
		"waitTimeMillsInSendQueue=5000", "sendThreadPoolQueueCapacity=100000",
	}
}

// start writes a file of settings and starts a class with it.
func start(dir, packages string, memory Memory, class string, port int, settings []string, ready func(addr string) error) (*Server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder for RocketMQ: %w", err)
	}
	file := filepath.Join(dir, "settings.conf")
	if err := os.WriteFile(file, []byte(strings.Join(settings, "\n")+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("write settings of RocketMQ: %w", err)
	}
	process, err := child.Serve(java.Command(dir, packages, memory, class, "-c", file))
	if err != nil {
		return nil, err
	}
	s := &Server{process, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	if err := s.Await(startLimit, func() error { return ready(s.Addr) }); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// accepts reports whether somebody listens.
func accepts(addr string) error {
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// freePort finds a port whose neighbours RocketMQ may take as well.
func freePort() (int, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// Close ends the server.
func (s *Server) Close() error { return s.Stop(stopLimit) }
