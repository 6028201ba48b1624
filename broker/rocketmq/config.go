package rocketmq

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// Scheme is the scheme of the driver in the setting sluice.broker:
// rocketmq://host:port, with commas between several name servers.
const Scheme = "rocketmq"

// Config configures clients of a cluster. The zero value is usable where the
// setting sluice.broker names the name servers.
type Config struct {
	// NameServers are addresses host:port; the setting sluice.broker replaces
	// them. One is asked at a time; when it does not answer, the next one is.
	NameServers []string
	// TLS makes every connection one of TLS. Its ServerName defaults to the
	// host of the address. Defaults to none.
	TLS *tls.Config
	// AccessKey and SecretKey sign every request. Defaults to no signatures.
	AccessKey, SecretKey string
	// Dial makes connections. Defaults to that of a [net.Dialer].
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Timeout bounds one request, connecting included. A send that has a
	// deadline and could go to another broker as well gets a third of the time
	// that is left, so that a broker that is silent does not use up what all
	// attempts have together. Defaults to 3 s.
	Timeout time.Duration
	// NoAutoCreate refuses to send to topics that do not exist, whatever the
	// brokers would do. Defaults to false: a send asks for the topic, and
	// brokers that create topics do.
	NoAutoCreate bool
	// NoAvoidance sends to brokers in turn, whatever they have answered.
	// Defaults to false: a broker that failed or was slow is left out for the
	// time that RocketMQ's table of latencies says, and one that did not answer
	// is asked every 2 s and left out until it does, also for one that is slow.
	NoAvoidance bool
	// RetryAnotherBroker sends a message to another broker as well when the first
	// one has stored it less safely than it should: not flushed or replicated in
	// time, or without a replica (retryAnotherBrokerWhenNotStoreOK). The result is
	// that of the safer copy, and its MaybeDone says that there may be two. A
	// message with a queue or an ordering key has no other place. Defaults to
	// false: what the broker said is in the result.
	RetryAnotherBroker bool
	// NoGathering sends every message of a call with one message by itself.
	// Defaults to false: what many calls send to a queue at the same time goes
	// together in one request, as long as two are on their way.
	NoGathering bool
	// Linger is how long a message that may go with others waits for them, at
	// most 1 s. Defaults to 0: nobody waits for company. It is for many senders
	// that are each slow, and costs each of them that time.
	Linger time.Duration
	// BatchSize is how many bytes gather in one request, with their properties,
	// 1 to 4,128,768: 64 KiB below what brokers take, who count fields of their
	// own. A larger message goes alone; a request that is full waits for nobody.
	// Defaults to 256 KiB.
	BatchSize int
	// Delay says whether the brokers delay to any time or by levels only, as
	// those before RocketMQ 5 do. Defaults to what the release of the name
	// server says. An older broker beside it is noticed and refused what it
	// would deliver too early.
	Delay driver.Granularity
	// DelayLevels are the levels of the brokers (messageDelayLevel), ascending.
	// Defaults to RocketMQ's eighteen, 1s to 2h.
	DelayLevels []time.Duration
	// CompressAbove is the size in bytes from which bodies are compressed;
	// below zero none is. Defaults to 4096.
	CompressAbove int
	// Compression is how. Defaults to zlib, which every client reads.
	Compression remoting.Compression

	// Durable says that the brokers flush to disk before they answer
	// (flushDiskType SYNC_FLUSH), which nobody but their operator knows. It is
	// what [driver.Capabilities] tells. Defaults to false.
	Durable bool

	// Strategy shares queues among the members of a group. Defaults to
	// [Averagely].
	Strategy Strategy
	// RevokeTimeout is how long a member may take to settle its work on a lane
	// that another member is to get. Defaults to 30 s.
	RevokeTimeout time.Duration
	// Prefetch is how many messages of one queue wait in memory for their
	// Fetch, 1 to 65535. Defaults to 128.
	Prefetch int

	// PullWait is how long a broker may hold a pull that finds nothing. RocketMQ's
	// brokers tell nobody that an operator has moved a group; it is noticed with
	// the next pull. Defaults to 15 s.
	PullWait time.Duration

	// OffsetDir is where the positions of broadcast groups are kept, which are
	// those of one client id; it must be stable for them to be found again, and
	// so must one at least of the name servers, by which clusters are told apart.
	// Defaults to .sluice/offsets in the home directory.
	OffsetDir string

	// RouteEvery, HeartbeatEvery, RebalanceEvery and CommitEvery are the
	// periods of what a client does by itself. Default to 30 s, 30 s, 20 s and
	// 5 s, those of Apache's clients.
	RouteEvery, HeartbeatEvery, RebalanceEvery, CommitEvery time.Duration

	// Logger gets what has no caller to tell. The framework sets it.
	Logger *slog.Logger
}

const (
	defaultTimeout  = 3 * time.Second
	defaultCompress = 4096
	defaultPrefetch = 128
	mostPrefetch    = 65535
	// pullGrace is how much longer than Config.PullWait the answer to a pull may
	// take: RocketMQ's brokers look at the pulls they hold every 5 s only.
	pullGrace = 15 * time.Second
	// pullBatch is how many messages one pull asks for at least, however little
	// room there is. Stock brokers answer at most 32, the bundled one as many as
	// it is asked for within 256 KiB.
	pullBatch = 32
	// maxBody is the largest body of a stock broker in bytes, maxBatch the
	// most messages in one Send.
	maxBody  = 4 << 20
	maxBatch = 1024
	// gatherRoom is the default of Config.BatchSize, mostLinger the most of
	// Config.Linger.
	gatherRoom = 256 << 10
	mostLinger = time.Second
	// maxGroup is the longest name of a group that brokers of 5.x take.
	maxGroup = 120
)

// withDefaults fills in what is not set and refuses what cannot be.
func (c Config) withDefaults() (Config, error) {
	if len(c.NameServers) == 0 {
		return c, errors.New("no name server; set sluice.broker to rocketmq://host:port, or Config.NameServers")
	}
	for _, a := range c.NameServers {
		host, port, err := net.SplitHostPort(a)
		if err != nil || host == "" || port == "" {
			return c, fmt.Errorf("name server %q; an address is host:port", a)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return c, fmt.Errorf("name server %q; a port is a number from 1 to 65535", a)
		}
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		return c, errors.New("an access key without a secret key, or the other way round; set both or none")
	}
	if c.Prefetch < 0 || c.Prefetch > mostPrefetch {
		return c, fmt.Errorf("prefetch %d; it takes 1 to %d", c.Prefetch, mostPrefetch)
	}
	if c.Linger < 0 || c.Linger > mostLinger {
		return c, fmt.Errorf("linger of %v; it takes 0 to %v", c.Linger, mostLinger)
	}
	if c.Linger > 0 && c.NoGathering {
		return c, fmt.Errorf("linger of %v without gathering; leave out Linger or NoGathering", c.Linger)
	}
	if c.BatchSize < 0 || c.BatchSize > batchRoom {
		return c, fmt.Errorf("batch size of %d bytes; it takes 1 to %d", c.BatchSize, batchRoom)
	}
	if c.Delay > driver.AnyTime || !slices.IsSorted(c.DelayLevels) || len(c.DelayLevels) > 0 && c.DelayLevels[0] <= 0 {
		return c, fmt.Errorf("delay of granularity %d by the levels %v; it takes Levels or AnyTime, and levels above 0 that ascend", c.Delay, c.DelayLevels)
	}
	if c.Compression < 0 || c.Compression > remoting.CompressionZLIB {
		return c, fmt.Errorf("compression by %s; it takes remoting.CompressionLZ4, CompressionZSTD or CompressionZLIB", c.Compression)
	}
	for what, d := range map[string]time.Duration{
		"timeout": c.Timeout, "revoke timeout": c.RevokeTimeout, "pull wait": c.PullWait, "period of routes": c.RouteEvery,
		"period of heartbeats": c.HeartbeatEvery, "period of rebalances": c.RebalanceEvery, "period of commits": c.CommitEvery,
	} {
		if d < 0 {
			return c, fmt.Errorf("%s of %v; it must not be negative", what, d)
		}
	}
	if len(c.DelayLevels) == 0 {
		c.DelayLevels = delayLevels()
	}
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.CompressAbove = cmp.Or(c.CompressAbove, defaultCompress)
	c.BatchSize = cmp.Or(c.BatchSize, gatherRoom)
	c.Compression = cmp.Or(c.Compression, remoting.CompressionZLIB)
	c.RevokeTimeout = cmp.Or(c.RevokeTimeout, 30*time.Second)
	c.Prefetch = cmp.Or(c.Prefetch, defaultPrefetch)
	c.PullWait = cmp.Or(c.PullWait, 15*time.Second)
	c.RouteEvery = cmp.Or(c.RouteEvery, 30*time.Second)
	c.HeartbeatEvery = cmp.Or(c.HeartbeatEvery, 30*time.Second)
	c.RebalanceEvery = cmp.Or(c.RebalanceEvery, 20*time.Second)
	c.CommitEvery = cmp.Or(c.CommitEvery, 5*time.Second)
	if c.Strategy == nil {
		c.Strategy = Averagely()
	}
	if c.OffsetDir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = os.TempDir()
		}
		c.OffsetDir = filepath.Join(home, ".sluice", "offsets")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// parseURL reads the setting sluice.broker.
func parseURL(s string) ([]string, error) {
	form := func(why string) error {
		return fmt.Errorf("broker %q: %s; it takes rocketmq://host:port, with commas between several name servers", redacted(s), why)
	}
	rest, ok := strings.CutPrefix(s, Scheme+"://")
	if !ok {
		return nil, form("it does not begin with rocketmq://")
	}
	rest = strings.TrimSuffix(rest, "/")
	if strings.ContainsAny(rest, "@?#/") {
		return nil, form("credentials and other settings are fields of rocketmq.Config")
	}
	var out []string
	for a := range strings.FieldsFuncSeq(rest, func(r rune) bool { return r == ',' || r == ';' }) {
		out = append(out, strings.TrimSpace(a))
	}
	if len(out) == 0 {
		return nil, form("it names no name server")
	}
	return out, nil
}

// redacted is s without what may be a password.
func redacted(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	return Scheme + "://…"
}

// invalid makes an error of settings.
func invalid(op string, err error) *driver.Error {
	return driver.Errorf(driver.InvalidArgument, op, "%w", err)
}
