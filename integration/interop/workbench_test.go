package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/integration/internal/child"
	"github.com/sluicemq/sluice/integration/internal/driver"
	"github.com/sluicemq/sluice/integration/internal/peer"
	"github.com/sluicemq/sluice/integration/internal/wire"
)

// workbench has what a run needs: the programs, and the drivers that are up.
type workbench struct {
	t       *testing.T
	dir     string
	cache   peer.Cache
	goPath  string // of the driver of the Go client
	drivers map[string]*driver.Driver
	opening chan struct{}
}

// source is the folder integration of this checkout.
func source() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		return ".."
	}
	return dir
}

func newWorkbench(t *testing.T) *workbench {
	cache, err := peer.OpenCache(source())
	if err != nil {
		t.Fatal(err)
	}
	b := &workbench{t: t, dir: t.TempDir(), cache: cache, drivers: map[string]*driver.Driver{}, opening: make(chan struct{}, 2)}
	b.goPath = filepath.Join(b.dir, "godriver")
	if out, err := exec.Command("go", "build", "-o", b.goPath, "./godriver").CombinedOutput(); err != nil {
		t.Fatalf("build the driver of the Go client: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		for _, d := range b.drivers {
			d.Kill()
		}
	})
	return b
}

// startGo starts another process with Apache's Go client.
func (b *workbench) startGo(name string) (*driver.Driver, error) {
	home := filepath.Join(b.dir, name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	return driver.Start(child.Command{Path: b.goPath, Dir: home, Env: []string{"HOME=" + home}}, patience)
}

// startNode starts a process with the Node client. It knows one name server for
// all its life, so that there is one for each target.
func (b *workbench) startNode(target string) (*driver.Driver, error) {
	modules, err := b.cache.Node()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(b.dir, "node-"+target)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	return driver.Start(child.Command{
		Path: "node", Args: []string{filepath.Join(source(), "node", "driver.js")}, Dir: home,
		Env: []string{"HOME=" + home, "NODE_PATH=" + filepath.Join(modules, "node_modules")},
	}, patience)
}

// startJava starts a Java program.
func (b *workbench) startJava(name string, program func() (peer.Program, error), heap ...string) (*driver.Driver, error) {
	p, err := program()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(b.dir, name)
	c, err := p.Run(home, heap...)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, mqadmin) {
		tools := filepath.Join(home, "conf")
		if err := os.MkdirAll(tools, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(tools, "tools.yml"), fmt.Appendf(nil, "accessKey: %s\nsecretKey: %s\n", peer.AdminKey, peer.AdminSecret), 0o600); err != nil {
			return nil, err
		}
	}
	return driver.Start(c, patience)
}

// starter is how the driver of a client is started.
type starter struct {
	client string
	start  func() (*driver.Driver, error)
}

// start starts the drivers that outlive a target: JVMs take long to be warm.
func (b *workbench) start(clients map[string]bool) {
	b.up(clients, []starter{
		{java5, func() (*driver.Driver, error) { return b.startJava(java5, b.cache.Driver5, "-Xms64m", "-Xmx512m") }},
		{java4, func() (*driver.Driver, error) { return b.startJava(java4, b.cache.Driver4, "-Xms64m", "-Xmx512m") }},
		{spring, func() (*driver.Driver, error) { return b.startJava(spring, b.cache.Spring, "-Xms64m", "-Xmx256m") }},
	})
}

// startFor starts the drivers that are good for one target only, and returns what
// ends them: ali-ons and the tracing of the Go client know one name server for all
// the life of a process, and some commands of mqadmin can be run once.
func (b *workbench) startFor(target string, clients map[string]bool) func() {
	mine := []starter{
		{goClient, func() (*driver.Driver, error) { return b.startGo(goClient + "-" + target) }},
		{node, func() (*driver.Driver, error) { return b.startNode(target) }},
		{mqadmin, func() (*driver.Driver, error) {
			return b.startJava(mqadmin+"-"+target, b.cache.Admin, "-Xms32m", "-Xmx256m")
		}},
	}
	b.up(clients, mine)
	return func() {
		for _, s := range mine {
			if d := b.drivers[s.client]; d != nil {
				d.Kill()
				delete(b.drivers, s.client)
			}
		}
	}
}

func (b *workbench) up(clients map[string]bool, starters []starter) {
	var mu sync.Mutex
	var starting sync.WaitGroup
	for _, s := range starters {
		if !clients[s.client] {
			continue
		}
		starting.Go(func() {
			d, err := s.start()
			if err != nil {
				b.t.Errorf("start the driver %s: %v", s.client, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			b.drivers[s.client] = d
		})
	}
	starting.Wait()
}

// makeTopics makes the topics of scenarios and waits until they are routed: a
// consumer that is there before its topic sees it only after 20 s.
func makeTopics(target peer.Target, queues map[string]int) error {
	var making sync.WaitGroup
	failures := make(chan error, len(queues))
	slots := make(chan struct{}, 8)
	for name, n := range queues {
		making.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := makeTopic(target, name, n); err != nil {
				failures <- err
			}
		})
	}
	making.Wait()
	close(failures)
	return <-failures
}

func makeTopic(target peer.Target, name string, queues int) error {
	q := strconv.Itoa(queues)
	a, err := wire.Call(target.Broker(), wire.Request{Code: 17, Fields: map[string]string{
		"topic": name, "defaultTopic": "TBW102", "readQueueNums": q, "writeQueueNums": q, "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
	}}, patience)
	if err != nil {
		return err
	}
	if a.Code != 0 {
		return fmt.Errorf("make topic %s: code %d: %s", name, a.Code, a.Remark)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		a, err = wire.Call(target.NameServer(), wire.Request{Code: 105, Fields: map[string]string{"topic": name}}, patience)
		if err == nil && a.Code == 0 && strings.Contains(string(a.Body), peer.BrokerName) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("make topic %s: no route within %v: code %d, %w", name, patience, a.Code, err)
		}
	}
}
