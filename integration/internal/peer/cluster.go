package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/integration/internal/child"
)

// Layout says which servers a cluster of Apache RocketMQ has.
type Layout struct {
	// Names is the number of name servers.
	Names int
	// Masters is the number of brokers b1, b2 and so on.
	Masters int
	// Slave: broker b1 has one.
	Slave bool
	// Settings are lines for the configuration of every broker; where they name
	// what it has anyhow, they count.
	Settings []string
}

// Cluster is name servers and brokers of Apache RocketMQ, each a process of its
// own whose address outlasts a restart.
type Cluster struct {
	Names, Masters []*Server
	// Slave is that of the first master, nil without one.
	Slave *Server
}

// StartCluster starts a cluster with its data in a folder and jars from the
// cache. It takes ten seconds and more.
func StartCluster(dir, jars string, l Layout) (*Cluster, error) {
	c := &Cluster{}
	for i := range l.Names {
		s, err := newServer(filepath.Join(dir, fmt.Sprintf("names-%d", i+1)), jars)
		if err != nil {
			return nil, err
		}
		s.program, s.heap = namesProgram, []string{"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC"}
		s.settings = []string{fmt.Sprintf("listenPort=%d", s.port), "bindAddress=127.0.0.1"}
		c.Names = append(c.Names, s)
	}
	for i := range l.Masters {
		s, err := c.newBroker(dir, jars, fmt.Sprintf("b%d", i+1), 0, l.Settings)
		if err != nil {
			return nil, err
		}
		c.Masters = append(c.Masters, s)
	}
	if l.Slave {
		s, err := c.newBroker(dir, jars, BrokerName, 1, append(l.Settings, "brokerRole=SLAVE"))
		if err != nil {
			return nil, err
		}
		c.Slave = s
	}
	if err := c.each(func(s *Server) error { return s.Start() }); err != nil {
		said := c.Said()
		c.Close()
		return nil, fmt.Errorf("start a cluster: %w\n%s", err, said)
	}
	return c, nil
}

// newServer makes a server with a port of its own.
func newServer(dir, jars string) (*Server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of a server: %w", err)
	}
	port, err := child.FreePort()
	return &Server{dir: dir, jars: jars, port: port}, err
}

// newBroker makes a broker that was not started yet.
func (c *Cluster) newBroker(dir, jars, name string, id int, settings []string) (*Server, error) {
	s, err := newServer(filepath.Join(dir, fmt.Sprintf("%s-%d", name, id)), jars)
	if err != nil {
		return nil, err
	}
	s.program, s.heap = brokerProgram, []string{"-Xms256m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m"}
	s.names = c.Names
	store := filepath.Join(s.dir, "store")
	s.settings = append([]string{
		"brokerClusterName=" + ClusterName, "brokerName=" + name, fmt.Sprintf("brokerId=%d", id), "brokerRole=ASYNC_MASTER", "flushDiskType=ASYNC_FLUSH",
		fmt.Sprintf("listenPort=%d", s.port), "bindAddress=127.0.0.1", "brokerIP1=127.0.0.1", "brokerIP2=127.0.0.1",
		"namesrvAddr=" + c.NameServers(), "storePathRootDir=" + store, "storePathCommitLog=" + filepath.Join(store, "commitlog"),
		"mappedFileSizeCommitLog=16777216", "mappedFileSizeConsumeQueue=600000", "diskMaxUsedSpaceRatio=99",
		"enablePropertyFilter=true", "messageDelayLevel=" + Levels, "traceTopicEnable=true",
		// Without the last of these the "decided" marks of half messages are written
		// every 3 s only, so that decided ones are checked and delivered again; so
		// they are with a shorter interval on a busy machine.
		"transactionTimeOut=3000", "transactionCheckInterval=3000", "transactionCheckMax=5", "transactionOpBatchInterval=100",
		"waitTimeMillsInSendQueue=10000", "waitTimeMillsInPullQueue=10000", "waitTimeMillsInHeartbeatQueue=60000", "waitTimeMillsInTransactionQueue=10000",
	}, settings...)
	return s, nil
}

// NameServers are the addresses of all name servers with semicolons between.
func (c *Cluster) NameServers() string {
	var addrs []string
	for _, s := range c.Names {
		addrs = append(addrs, s.Addr())
	}
	return strings.Join(addrs, ";")
}

// Brokers are the masters and the slave.
func (c *Cluster) Brokers() []*Server {
	if c.Slave == nil {
		return c.Masters
	}
	return append(c.Masters[:len(c.Masters):len(c.Masters)], c.Slave)
}

// All are all servers.
func (c *Cluster) All() []*Server { return append(c.Names[:len(c.Names):len(c.Names)], c.Brokers()...) }

// each runs f for all servers side by side.
func (c *Cluster) each(f func(*Server) error) error {
	all := c.All()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { errs[i] = f(s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Registered waits until every name server knows every broker again. A broker
// tells them every ten seconds at the most often.
func (c *Cluster) Registered(patience time.Duration) error {
	for _, b := range c.Brokers() {
		if err := waitFor("the route to the broker", patience, b.running.Ended(), b.listed); err != nil {
			return err
		}
	}
	return nil
}

// Close ends everything.
func (c *Cluster) Close() {
	_ = c.each(func(s *Server) error { s.Kill(); return nil })
}

// Said is what the servers said last, for the report of a failure.
func (c *Cluster) Said() string {
	var b strings.Builder
	for _, s := range c.All() {
		fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(s.dir), s.Said())
	}
	return b.String()
}
