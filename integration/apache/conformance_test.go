package apache

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/drivertest"
	"github.com/sluicemq/sluice/broker/rocketmq"
	"github.com/sluicemq/sluice/integration/internal/peer"
)

// positionsEvery is how often the brokers write the positions of groups down.
const positionsEvery = 100 * time.Millisecond

// quick are settings of the brokers that make tests wait less. None changes what
// a broker does, only when; but for the last one, without which it recalls nothing.
var quick = []string{
	"flushDiskType=SYNC_FLUSH", // what Capabilities.Durable promises
	fmt.Sprintf("flushConsumerOffsetInterval=%d", positionsEvery/time.Millisecond), // 5 s by default
	"registerNameServerPeriod=10000",                                               // 30 s
	"timerPrecisionMs=100",                                                         // 1 s
	"transactionTimeOut=2000", "transactionCheckInterval=2000",                     // 6 s and 30 s
	"transactionCheckMax=3", // 15
	"recallMessageEnable=true",
}

// replicated makes a master answer when its slave has the message, too.
var replicated = []string{
	"brokerRole=SYNC_MASTER", "totalReplicas=2", "inSyncReplicas=2", "minInSyncReplicas=1", "slaveTimeout=20000",
}

// limits are the figures of brokers with these settings.
var limits = drivertest.Limits{
	Within: 40 * time.Second, DelayLate: 3 * time.Second, RevokeTimeout: time.Second, ReturnsInPlace: true, QueryLate: 5 * time.Second,
	CheckAfter: 2 * time.Second, CheckEvery: 2 * time.Second, CheckGap: 8 * time.Second, CheckMax: 3,
	MachineRuns: 2,
}

// client is how the tests connect.
var client = rocketmq.Config{
	Timeout: 10 * time.Second, RevokeTimeout: limits.RevokeTimeout, CommitEvery: 200 * time.Millisecond, PullWait: time.Second, Durable: true,
}

// suites lets one suite run at a time: each is a crowd of its own.
var suites sync.Mutex

// conform runs the suite of the seam on a cluster, all of it at the same time.
// With crashes its first master is killed where a test asks for it.
func conform(t *testing.T, layout string, c *peer.Cluster, crashes bool) {
	suites.Lock()
	defer suites.Unlock()
	var r counted
	defer keep(t, layout, "drivertest", &r, time.Now())
	all := newCrowd(c)
	r.Report = drivertest.Run(t, drivertest.Harness{
		Limits: limits, Together: true,
		Open: func(t testing.TB) drivertest.Broker {
			w := all
			if crashes && strings.HasSuffix(t.Name(), "/check_back/after_restart") {
				// While it waited for others its half message would be asked for
				// until it is given up.
				w = newCrowd(start(t, peer.Layout{Names: 1, Masters: 1, Settings: quick}))
				w.began = time.Time{} // no position matters to it
			}
			w.enter()
			b := drivertest.Broker{
				Space: space(), Connect: connect(t, w.cluster, client),
				Close: func(context.Context) error { w.leave(); return nil },
			}
			if crashes {
				// The kill is what the suite has for both; it is the harder one.
				b.CrashAndReopen, b.Reopen = w.crash, w.crash
			}
			return b
		},
	})
	if crashes {
		r.RequireComplete(t)
	}
}

// Two clusters stand at a time: faults wait most of the time, and more servers
// than that starve two processors.

func TestOneBroker(t *testing.T) {
	gate(t)
	t.Parallel()
	t.Run("one master", func(t *testing.T) {
		const layout = "one master"
		c := start(t, peer.Layout{Names: 1, Masters: 1, Settings: quick})
		t.Run("suite", func(t *testing.T) { conform(t, layout, c, true) })
		foreign(t, layout, c)
	})
	t.Run("master and slave", func(t *testing.T) {
		const layout = "master and slave"
		c := start(t, peer.Layout{Names: 1, Masters: 1, Slave: true, Settings: append(quick, replicated...)})
		t.Run("suite", func(t *testing.T) { conform(t, layout, c, false) })
		on(t, layout, c, []fault{{"the master is killed", masterOfSlaveDies}})
	})
}

func TestTwoNameServers(t *testing.T) {
	gate(t)
	t.Parallel()
	t.Run("two masters", func(t *testing.T) {
		const layout = "two masters, two name servers"
		c := start(t, peer.Layout{Names: 2, Masters: 2, Settings: quick})
		// It warms the brokers up, too: faults are measured with deadlines of seconds.
		t.Run("billpay", func(t *testing.T) { billpay(t, layout, c) })
		on(t, layout, c, []fault{ // before the suite, while the other cluster is busy with the longest one
			{"a master is killed", masterDies},
			{"a master is silent for 10 s", masterFreezes},
			{"everything restarts in turn", everythingRestarts},
		})
		t.Run("suite", func(t *testing.T) { conform(t, layout, c, false) })
	})
	t.Run("one master", func(t *testing.T) {
		const layout = "one master, two name servers"
		c := start(t, peer.Layout{Names: 2, Masters: 1, Settings: quick})
		t.Run("suite", func(t *testing.T) { conform(t, layout, c, false) })
		on(t, layout, c, []fault{
			{"a name server is killed", nameServerDies},
			{"all name servers are killed", nameServersDie},
		})
	})
}
