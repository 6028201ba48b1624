package interop

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/integration/internal/peer"
)

var update = flag.Bool("update", false, "keep what Apache's server showed in "+goldenFile)

// mqadmin is the client of the admin commands.
const mqadmin = "mqadmin"

// suite is one run: the chosen scenarios with the chosen clients.
type suite struct {
	t       *testing.T
	bench   *workbench
	choice  choice
	clients map[string]bool
	results map[string]map[string]map[string]*cell // target, scenario, client
	mu      sync.Mutex
}

func (s *suite) wants(scenario, client string) bool {
	return s.clients[client] && s.choice.only.MatchString(scenario+"/"+client)
}

func (s *suite) keep(x *cell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := x.target.Name()
	if s.results[t] == nil {
		s.results[t] = map[string]map[string]*cell{}
	}
	if s.results[t][x.scenario] == nil {
		s.results[t][x.scenario] = map[string]*cell{}
	}
	s.results[t][x.scenario][x.client] = x
}

// missing says why a program cannot be run here, empty if it can.
func missing(names ...string) string {
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			return n + " is not installed"
		}
	}
	return ""
}

func TestInterop(t *testing.T) {
	choice, err := chosen()
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{t: t, choice: choice, clients: map[string]bool{goClient: true}, results: map[string]map[string]map[string]*cell{}}
	whole := os.Getenv("SLUICE_INTEROP") != ""
	java, nodejs := missing("java", "javac", "mvn"), missing("node", "npm")
	if whole {
		for name, why := range map[string]string{"java": java, "node": nodejs} {
			if why == "" {
				continue
			}
			if os.Getenv("CI") != "" {
				t.Fatalf("a skip is a failure here: %s", why)
			}
			t.Run("clients of "+name, func(t *testing.T) { t.Skip(why) })
		}
		for _, c := range []string{java5, java4, mqadmin, spring} {
			s.clients[c] = java == ""
		}
		s.clients[node] = nodejs == ""
	}
	if len(choice.clients) > 0 {
		s.clients = map[string]bool{}
		for _, n := range choice.clients {
			s.clients[n] = true
		}
	}
	if err := choice.selects(s.clients); err != nil {
		t.Fatal(err)
	}
	onApache, onOurs := whole && java == "" && slices.Contains(choice.targets, apacheTarget), slices.Contains(choice.targets, oursTarget)
	if !onApache && !onOurs {
		t.Fatalf("SLUICE_INTEROP_TARGETS=%s takes SLUICE_INTEROP=1, too, and Java", apacheTarget)
	}
	s.bench = newWorkbench(t)
	s.bench.start(s.clients)
	if t.Failed() {
		t.FailNow()
	}
	if onApache {
		s.on(apacheTarget, func() (peer.Target, error) {
			jars, err := s.bench.cache.Server()
			if err != nil {
				return nil, err
			}
			return peer.StartApache(filepath.Join(s.bench.dir, "apache"), jars)
		})
	}
	if onOurs {
		s.on(oursTarget, func() (peer.Target, error) {
			binary, err := peer.BuildSluice(filepath.Dir(source()), s.bench.dir)
			if err != nil {
				return nil, err
			}
			dir := filepath.Join(s.bench.dir, "ours")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
			return peer.StartSluice(binary, dir)
		})
	}
	s.report()
}

// on runs everything on one target.
func (s *suite) on(name string, start func() (peer.Target, error)) {
	began := time.Now()
	target, err := start()
	if err != nil {
		s.t.Fatalf("start %s: %v", name, err)
	}
	defer target.Close()
	s.t.Logf("%s is up after %v", name, time.Since(began).Round(time.Millisecond))
	defer s.bench.startFor(name, s.clients)()
	queues := map[string]int{}
	for _, sc := range scenarios {
		for _, c := range sc.clients {
			if !s.wants(sc.name, c) {
				continue
			}
			if !sc.bare {
				queues[sc.name+"-"+c] = 4
			}
			for _, t := range sc.topics {
				queues[strings.TrimSuffix(sc.name+"-"+c+"-"+t.suffix, "-")] = t.queues
			}
			for _, g := range sc.groups {
				queues[strings.TrimSuffix("%RETRY%g-"+sc.name+"-"+c+"-"+g, "-")] = 1
			}
		}
	}
	for _, c := range outageClients {
		if s.wants("access", c) {
			// Made now: without credentials they could not be made later.
			queues["acl-"+c], queues["%RETRY%acl-g-"+c] = 4, 1
			queues["acl-other"], queues["%RETRY%acl-g-other"] = 4, 1
		}
	}
	if err := makeTopics(target, queues); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%s has %d topics after %v", name, len(queues), time.Since(began).Round(time.Millisecond))
	s.together(target)
	s.t.Logf("%s has done what waits after %v", name, time.Since(began).Round(time.Millisecond))
	s.alone(target)
	s.t.Logf("%s has done the rest after %v", name, time.Since(began).Round(time.Millisecond))
	if s.outages(target).run() {
		s.guarded(target)
	}
	s.t.Logf("%s is done after %v", name, time.Since(began).Round(time.Millisecond))
}

// atOnce is how many scenarios of one client run side by side.
const atOnce = 12

// together runs the scenarios that mostly wait, all clients at once.
func (s *suite) together(target peer.Target) {
	var running sync.WaitGroup
	slots := map[string]chan struct{}{}
	for c := range s.clients {
		slots[c] = make(chan struct{}, atOnce)
	}
	for client := range s.clients {
		running.Go(func() {
			for _, sc := range scenarios {
				if !slices.Contains(sc.clients, client) || slices.Contains(sc.calm, client) || !s.wants(sc.name, client) {
					continue
				}
				slots[client] <- struct{}{}
				running.Go(func() {
					defer func() { <-slots[client] }()
					s.cell(target, sc, client)
				})
			}
		})
	}
	running.Wait()
}

// alone runs what needs the machine for itself.
func (s *suite) alone(target peer.Target) {
	for _, sc := range scenarios {
		for _, c := range sc.calm {
			if s.wants(sc.name, c) {
				s.cell(target, sc, c)
			}
		}
	}
	if s.wants("volume", goClient) {
		if err := makeTopics(target, map[string]int{"volume-go": 8, "%RETRY%g-volume-go": 1}); err != nil {
			s.t.Fatal(err)
		}
		s.cell(target, scenario{name: "volume", run: volume}, goClient)
	}
	if s.wants("service", spring) {
		s.cell(target, scenario{name: "service", run: springService}, spring)
	}
}

// guarded runs what is about credentials, on a server that asks for them by now.
func (s *suite) guarded(target peer.Target) {
	s.grant(target)
	var running sync.WaitGroup
	for _, c := range outageClients {
		if s.wants("access", c) && s.wants("outage", c) {
			running.Go(func() { s.cell(target, scenario{name: "access", run: access}, c) })
		}
	}
	running.Wait()
}

func (s *suite) cell(target peer.Target, sc scenario, client string) {
	x := newCell(s.bench, sc, client, target)
	x.run(sc.run)
	s.t.Logf("%s %s/%s took %v, %d problems", target.Name(), sc.name, client, time.Since(x.started).Round(time.Millisecond), len(x.problems))
	s.keep(x)
}
