package cluster_test

import (
	"errors"
	"net"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server that answers what a test tells it to: a name server, or a
// broker of a version that is not at hand.
type fake struct {
	t       *testing.T
	addr    string
	version int

	mu      sync.Mutex
	answers map[int]func(req, resp *remoting.Command)
	seen    []remoting.Command
}

// newFake listens on a free port.
func newFake(t *testing.T) *fake {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, addr: l.Addr().String(), version: remoting.Version, answers: map[int]func(req, resp *remoting.Command){}}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return f
}

// on answers a request code.
func (f *fake) on(code int, answer func(req, resp *remoting.Command)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[code] = answer
}

// code answers a request code with a response code only.
func (f *fake) code(request, response int, remark string) {
	f.on(request, func(_, resp *remoting.Command) { resp.Code, resp.Remark = response, remark })
}

// requests are those of a code that came.
func (f *fake) requests(code int) []remoting.Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.seen), func(c remoting.Command) bool { return c.Code != code })
}

func (f *fake) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := remoting.NewReader(conn, remoting.Limits{})
	for {
		frame, err := r.Next()
		if err != nil {
			return
		}
		var req remoting.Command
		if err := remoting.Decode(slices.Clone(frame), &req, remoting.Limits{}); err != nil {
			f.t.Errorf("request: %v", err)
			return
		}
		resp := remoting.Command{Opaque: req.Opaque, Flag: remoting.FlagResponse, Version: f.version}
		f.mu.Lock()
		f.seen = append(f.seen, req)
		answer := f.answers[req.Code]
		f.mu.Unlock()
		if answer == nil {
			resp.Code, resp.Remark = remoting.ResUnsupported, "not here"
		} else {
			answer(&req, &resp)
		}
		if resp.Flag == 0 {
			return // the answer wants the connection to end
		}
		out, err := remoting.AppendFrame(nil, &resp)
		if err != nil {
			f.t.Errorf("answer: %v", err)
			return
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// names makes f a name server of brokers, each with queues of topic.
func (f *fake) names(topic string, queues int32, brokers ...*fake) {
	info := remoting.ClusterInfo{}
	route := remoting.Route{}
	for i, b := range brokers {
		data := remoting.BrokerData{Name: "broker-" + string(rune('a'+i)), Cluster: "C", Addrs: []remoting.BrokerAddr{{ID: 0, Addr: b.addr}}}
		info.Brokers = append(info.Brokers, data)
		route.Brokers = append(route.Brokers, data)
		route.Queues = append(route.Queues, remoting.QueueData{Broker: data.Name, Perm: 6, ReadQueues: queues, WriteQueues: queues})
	}
	f.on(remoting.ReqGetClusterInfo, func(_, resp *remoting.Command) { resp.Body = info.AppendTo(nil) })
	f.on(remoting.ReqGetRoute, func(req, resp *remoting.Command) {
		if req.Fields.Get("topic") != topic {
			resp.Code = remoting.ResTopicNotExist
			return
		}
		resp.Body = route.AppendLegacy(nil) // older servers do not quote numbers
	})
	f.on(remoting.ReqGetAllTopicList, func(_, resp *remoting.Command) {
		resp.Body = remoting.TopicList{Topics: []string{topic, "%RETRY%g"}}.AppendTo(nil)
	})
}

// offset answers with one offset.
func offset(n int64) func(req, resp *remoting.Command) {
	return func(_, resp *remoting.Command) { resp.Fields.AddInt("offset", n) }
}

// open answers the cluster behind name servers.
func open(t *testing.T, cfg cluster.Config, names ...string) *cluster.Cluster {
	t.Helper()
	cfg.NameServers = names
	c := cluster.New(cfg)
	t.Cleanup(c.Close)
	return c
}

func isUnreachable(err error) bool {
	_, ok := errors.AsType[*cluster.UnreachableError](err)
	return ok
}
