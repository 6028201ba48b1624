package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/integration/internal/child"
)

// apache is a name server and a broker of Apache RocketMQ.
type apache struct {
	dir, jars          string
	names, broker      *child.Child
	namePort, mainPort int
}

// StartApache starts a name server and a broker of Apache RocketMQ with its data
// in a folder and jars from the cache. It takes ten seconds and more.
func StartApache(dir, jars string) (Target, error) {
	a := &apache{dir: dir, jars: jars}
	var err error
	if a.namePort, err = child.FreePort(); err == nil {
		a.mainPort, err = child.FreePort()
	}
	if err != nil {
		return nil, err
	}
	var starting sync.WaitGroup
	var nameErr, brokerErr error
	starting.Go(func() { nameErr = a.startNames() })
	starting.Go(func() { brokerErr = a.Start(false) })
	starting.Wait()
	if err := errors.Join(nameErr, brokerErr); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *apache) Name() string       { return "apache" }
func (a *apache) NameServer() string { return fmt.Sprintf("127.0.0.1:%d", a.namePort) }
func (a *apache) Broker() string     { return fmt.Sprintf("127.0.0.1:%d", a.mainPort) }

func (a *apache) jvm(name, class string, heap []string, conf []string) (child.Command, error) {
	home := filepath.Join(a.dir, name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return child.Command{}, err
	}
	file := filepath.Join(home, name+".conf")
	if err := os.WriteFile(file, []byte(strings.Join(conf, "\n")+"\n"), 0o644); err != nil {
		return child.Command{}, err
	}
	return JVM(home, append(heap, "-XX:TieredStopAtLevel=1"), filepath.Join(a.jars, "*"), class, "-c", file), nil
}

func (a *apache) startNames() error {
	c, err := a.jvm("names", "org.apache.rocketmq.namesrv.NamesrvStartup", []string{"-Xms64m", "-Xmx256m", "-XX:+UseSerialGC"},
		[]string{fmt.Sprintf("listenPort=%d", a.namePort), "bindAddress=127.0.0.1"})
	if err != nil {
		return err
	}
	if a.names, err = child.Start(c); err != nil {
		return err
	}
	return waitFor("the name server", time.Minute, a.names.Ended(), func() error { return accepts(a.NameServer()) })
}

// Start tries twice: a broker that comes back can miss its registration.
func (a *apache) Start(guarded bool) error {
	err := a.start(guarded, 25*time.Second)
	if errors.Is(err, errNoRoute) {
		a.broker.Kill()
		err = a.start(guarded, 45*time.Second)
	}
	return err
}

func (a *apache) start(guarded bool, patience time.Duration) error {
	store := filepath.Join(a.dir, "broker", "store")
	conf := []string{
		"brokerClusterName=" + Cluster, "brokerName=" + BrokerName, "brokerId=0", "brokerRole=ASYNC_MASTER", "flushDiskType=ASYNC_FLUSH",
		fmt.Sprintf("listenPort=%d", a.mainPort), "bindAddress=127.0.0.1", "brokerIP1=127.0.0.1", "brokerIP2=127.0.0.1",
		"namesrvAddr=" + a.NameServer(), "storePathRootDir=" + store, "storePathCommitLog=" + filepath.Join(store, "commitlog"),
		"mappedFileSizeCommitLog=16777216", "mappedFileSizeConsumeQueue=600000", "diskMaxUsedSpaceRatio=99",
		"enablePropertyFilter=true", "messageDelayLevel=" + Levels, "traceTopicEnable=true",
		// Without the last of these the "decided" marks of half messages are written
		// every 3 s only, so that decided ones are checked and delivered again; so
		// they are with a shorter interval on a busy machine.
		"transactionTimeOut=3000", "transactionCheckInterval=3000", "transactionCheckMax=5", "transactionOpBatchInterval=100",
		"waitTimeMillsInSendQueue=10000", "waitTimeMillsInPullQueue=10000", "waitTimeMillsInHeartbeatQueue=60000", "waitTimeMillsInTransactionQueue=10000",
	}
	if guarded {
		conf = append(conf, "authenticationEnabled=true",
			"authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider",
			"authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider",
			fmt.Sprintf(`initAuthenticationUser={"username":%q,"password":%q}`, AdminKey, AdminSecret),
			fmt.Sprintf(`innerClientAuthenticationCredentials={"accessKey":%q,"secretKey":%q}`, AdminKey, AdminSecret),
			"authorizationEnabled=true",
			"authorizationProvider=org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider",
			"authorizationMetadataProvider=org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider")
	}
	c, err := a.jvm("broker", "org.apache.rocketmq.broker.BrokerStartup", []string{"-Xms256m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m"}, conf)
	if err != nil {
		return err
	}
	if a.broker, err = child.Start(c); err != nil {
		return err
	}
	if err := waitFor("the broker", time.Minute, a.broker.Ended(), func() error { return accepts(a.Broker()) }); err != nil {
		return err
	}
	return waitFor("the broker's route", patience, a.broker.Ended(), func() error { return routed(a.NameServer(), a.Broker()) })
}

func (a *apache) Kill() { a.broker.Kill() }

func (a *apache) Terminate() (bool, time.Duration) {
	before := time.Now()
	// It takes up to 21 s on this hardware.
	graceful := a.broker.Stop(40 * time.Second)
	return graceful, time.Since(before)
}

func (a *apache) Freeze() { a.signal(syscall.SIGSTOP) }
func (a *apache) Thaw()   { a.signal(syscall.SIGCONT) }

func (a *apache) signal(s syscall.Signal) {
	for _, c := range []*child.Child{a.broker, a.names} {
		if c != nil {
			c.Signal(s)
		}
	}
}

func (a *apache) Close() {
	for _, c := range []*child.Child{a.broker, a.names} {
		if c != nil {
			c.Kill()
		}
	}
}

func (a *apache) Said() string {
	var s strings.Builder
	for _, c := range []*child.Child{a.names, a.broker} {
		if c != nil {
			s.WriteString(c.Tail() + "\n")
		}
	}
	return s.String()
}
