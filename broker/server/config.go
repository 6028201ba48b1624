package server

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// TLSMode says what a server with [Config].TLS does about plain connections.
type TLSMode uint8

const (
	// TLSRequired: plain connections are closed.
	TLSRequired TLSMode = iota
	// TLSPermissive: both kinds are served on the same port; the first byte of
	// a connection tells them apart.
	TLSPermissive
)

// String returns "required" or "permissive".
func (m TLSMode) String() string {
	if m == TLSPermissive {
		return "permissive"
	}
	return "required"
}

// Config configures a [Server]. The zero value is usable: it listens on
// loopback only.
type Config struct {
	// Cluster is the name of the cluster that clients see. Defaults to
	// "DefaultCluster", as in RocketMQ.
	Cluster string
	// Broker is the name of the broker that clients see. Defaults to
	// "broker-a".
	Broker string
	// Listen is the address of the one port, host:port; port 0 takes a free
	// one. Defaults to "127.0.0.1:9876", the port of RocketMQ's name server.
	Listen string
	// Advertise is the host:port that routes and message ids name, which
	// clients dial. It is needed when Listen has no host that can be dialed,
	// as 0.0.0.0. Defaults to the address of the listener.
	Advertise string
	// Listener replaces Listen, for tests that connect by pipes, and is closed
	// by the server. The address is not checked then. Defaults to none.
	Listener func() (net.Listener, error)
	// TLS is the configuration of TLS; ClientCAs and ClientAuth in it make it
	// mutual. At least TLS 1.2 is spoken. Defaults to none: plain TCP.
	TLS *tls.Config
	// TLSMode says what is done about plain connections if TLS is set. Those that
	// are served show no certificate, whatever TLS asks of the others.
	// Defaults to TLSRequired.
	TLSMode TLSMode
	// ACL holds the accounts, and what each may do. Defaults to none: every
	// request is allowed.
	ACL *ACL
	// InsecureListen allows an address that other machines reach without TLS
	// and ACL. Defaults to false: such a server does not start.
	InsecureListen bool
	// AutoCreate creates unknown topics by their first message, from the
	// template topic TBW102. Defaults to false.
	AutoCreate bool
	// DelayLevels are the delays of the levels 1 and up that messages name.
	// Defaults to RocketMQ's eighteen, from 1 s to 2 h.
	DelayLevels []time.Duration
	// Limits bound what peers can cost. Its zero fields take their defaults.
	Limits Limits
	// Logger receives lifecycle, degradation and audit events. Defaults to
	// none.
	Logger *slog.Logger
	// Settings are other names of what is set here, such as flags for
	// Limits.Topics and Config.AutoCreate, in the answers and warnings that say what
	// to set. Defaults to none: the names of the fields.
	Settings map[string]string
}

// setting is the name of a field for who has to set it.
func (c Config) setting(field string) string {
	return cmp.Or(c.Settings[field], field)
}

// Limits bound what peers can cost.
type Limits struct {
	// FirstFrame is how long a new connection may take to send its first whole
	// request, the handshake of TLS included. Defaults to 10 s.
	FirstFrame time.Duration
	// RestOfFrame is how long a request that has begun may take to arrive.
	// Defaults to 30 s.
	RestOfFrame time.Duration
	// Idle is how long a connection may be silent in both directions. Defaults
	// to 120 s, as in RocketMQ.
	Idle time.Duration
	// Stalled is how long a peer may take none of what is sent to it. Defaults
	// to 30 s.
	Stalled time.Duration
	// ClientExpiry is how long a client stays registered after its last
	// heartbeat. Defaults to 120 s, as in RocketMQ.
	ClientExpiry time.Duration

	// Connections is the number of connections at a time. Defaults to 1024.
	Connections int
	// Unproven is the number of connections at a time that have not sent an
	// acceptable request yet; the oldest makes room. Defaults to 64.
	Unproven int
	// PerAddress is the number of connections from one remote address at a
	// time. Defaults to 512.
	PerAddress int

	// Frame is the size of a request in bytes, at most 16 MiB. Defaults to
	// 16 MiB, as in RocketMQ.
	Frame int
	// Outbox is how many bytes may wait to be sent to a peer before its
	// requests are no longer read. Defaults to 8 MiB.
	Outbox int
	// Outboxes is the same for all peers together: beyond, pulls wait, and who
	// has taken nothing for 2 s is disconnected. Defaults to 48 MiB.
	Outboxes int
	// Arriving is how many bytes requests of more than 32 KiB may take while
	// they arrive, over all connections; the others wait their turn. A request
	// that has its turn for 5 s while others wait is cut off. At least Frame;
	// defaults to 32 MiB.
	Arriving int
	// InFlight is the number of unanswered requests of a connection at which
	// no further ones are read; held pulls do not count. Defaults to 1024.
	InFlight int
	// HeldPulls is the number of pulls of a connection that wait for messages.
	// Defaults to 1024.
	HeldPulls int
	// Apart is the number of requests at a time that wait for a disk, and of
	// those that wait for another client; further ones are answered "busy".
	// Defaults to 128 each.
	Apart int

	// Topics is the number of topics up to which clients may create new ones.
	// Defaults to 1000.
	Topics int
	// Groups is the number of consumer and of producer groups that clients may
	// register at a time. Defaults to 1000 each.
	Groups int
	// Delayed is the number of messages that are not due yet up to which clients
	// may send more of them. Defaults to 1,000,000, which take 16 MiB of memory.
	Delayed int
	// Halves is the number of undecided half messages up to which clients may
	// send more of them. Defaults to 100,000.
	Halves int
	// Subscriptions is the number of topics of one group. Defaults to 128.
	Subscriptions int
}

const (
	defaultListen  = "127.0.0.1:9876"
	defaultCluster = "DefaultCluster"
	defaultBroker  = "broker-a"
	maxFrame       = 16 << 20
	// leastFrame holds a heartbeat of a client with some groups.
	leastFrame = 4 << 10
)

// delayLevels are the levels of RocketMQ.
func delayLevels() []time.Duration {
	const s, m, h = time.Second, time.Minute, time.Hour
	return []time.Duration{s, 5 * s, 10 * s, 30 * s, m, 2 * m, 3 * m, 4 * m, 5 * m, 6 * m, 7 * m, 8 * m, 9 * m, 10 * m, 20 * m, 30 * m, h, 2 * h}
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	fill(&c.Cluster, defaultCluster)
	fill(&c.Broker, defaultBroker)
	fill(&c.Listen, defaultListen)
	if c.DelayLevels == nil {
		c.DelayLevels = delayLevels()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Limits = c.Limits.withDefaults()
	return c
}

func (l Limits) withDefaults() Limits {
	fill(&l.FirstFrame, 10*time.Second)
	fill(&l.RestOfFrame, 30*time.Second)
	fill(&l.Idle, 120*time.Second)
	fill(&l.Stalled, 30*time.Second)
	fill(&l.ClientExpiry, 120*time.Second)
	fill(&l.Connections, 1024)
	fill(&l.Unproven, 64)
	fill(&l.PerAddress, 512)
	fill(&l.Frame, maxFrame)
	fill(&l.Outbox, 8<<20)
	fill(&l.Outboxes, 48<<20)
	fill(&l.Arriving, 32<<20)
	fill(&l.InFlight, 1024)
	fill(&l.HeldPulls, 1024)
	fill(&l.Apart, 128)
	fill(&l.Topics, 1000)
	fill(&l.Groups, 1000)
	fill(&l.Delayed, 1_000_000)
	fill(&l.Halves, 100_000)
	fill(&l.Subscriptions, 128)
	return l
}

func fill[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

// validate reports everything that is wrong with c, defaults filled in.
func (c Config) validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, n := range []struct{ field, name string }{{"Cluster", c.Cluster}, {"Broker", c.Broker}} {
		if err := driver.ValidTopic(n.name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.field, err))
		}
	}
	bad(c.Cluster == c.Broker, "Cluster and Broker are both %q, they take different names", c.Broker)
	if c.Listener == nil {
		_, _, err := net.SplitHostPort(c.Listen)
		bad(err != nil, "Listen is %q, it takes host:port, such as 127.0.0.1:9876", c.Listen)
	}
	if c.Advertise != "" {
		host, port, err := net.SplitHostPort(c.Advertise)
		bad(err != nil || host == "" || port == "" || port == "0", "Advertise is %q, it takes host:port that clients can dial", c.Advertise)
	}
	bad(c.TLSMode > TLSPermissive, "TLSMode is %d, it takes TLSRequired or TLSPermissive", c.TLSMode)
	bad(c.TLSMode == TLSPermissive && c.TLS == nil, "TLSMode is permissive, but TLS is not set")
	bad(len(c.DelayLevels) > 64, "DelayLevels has %d levels, at most 64 are allowed", len(c.DelayLevels))
	for i, d := range c.DelayLevels {
		bad(d <= 0, "DelayLevels: level %d is %v, it takes more than 0", i+1, d)
	}
	return errors.Join(append(errs, c.Limits.validate())...)
}

func (l Limits) validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"FirstFrame", l.FirstFrame},
		{"RestOfFrame", l.RestOfFrame},
		{"Idle", l.Idle},
		{"Stalled", l.Stalled},
		{"ClientExpiry", l.ClientExpiry},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %v, it takes more than 0", "Limits."+d.name, d.value))
		}
	}
	for _, n := range []struct {
		name            string
		value, from, to int
	}{
		{"Connections", l.Connections, 1, 1 << 20},
		{"Unproven", l.Unproven, 1, 1 << 20},
		{"PerAddress", l.PerAddress, 1, 1 << 20},
		{"Frame", l.Frame, leastFrame, maxFrame},
		{"Outbox", l.Outbox, 1 << 10, 1 << 30},
		{"Outboxes", l.Outboxes, 1 << 10, 1 << 34},
		{"Arriving", l.Arriving, l.Frame, 1 << 34},
		{"InFlight", l.InFlight, 1, 1 << 20},
		{"HeldPulls", l.HeldPulls, 1, 1 << 20},
		{"Apart", l.Apart, 1, 1 << 16},
		{"Topics", l.Topics, 1, 1 << 20},
		{"Groups", l.Groups, 1, 1 << 20},
		{"Delayed", l.Delayed, 1, 1 << 30},
		{"Halves", l.Halves, 1, 1 << 30},
		{"Subscriptions", l.Subscriptions, 1, 1 << 16},
	} {
		if n.value < n.from || n.value > n.to {
			errs = append(errs, fmt.Errorf("%s is %d, it takes %d to %d", "Limits."+n.name, n.value, n.from, n.to))
		}
	}
	return errors.Join(errs...)
}
