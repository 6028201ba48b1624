package rocketmq_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/rocketmq"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

type order struct {
	ID string `json:"id"`
}

type price struct {
	Cents int `json:"cents"`
}

// process is what one process of a service has of the framework.
type process struct {
	producer  *sdk.Producer
	listeners *listener.Container
	stop      func()
}

// startProcess runs an application on the brokers of s until the test ends or
// it is stopped.
func startProcess(t *testing.T, s *served, opts ...fx.Option) *process {
	t.Helper()
	var p process
	app := fx.New(append([]fx.Option{
		fx.NopLogger, fx.Supply(rocketmq.Config{NameServers: []string{s.addr}, OffsetDir: t.TempDir()}),
		rocketmq.Module, sdk.Module, listener.Module, fx.Populate(&p.producer, &p.listeners),
	}, append(opts, sdk.Start())...)...)
	if err := app.Start(t.Context()); err != nil {
		t.Fatalf("start: %v", err)
	}
	p.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := app.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(p.stop)
	return &p
}

// serveTopics opens a broker that has these topics.
func serveTopics(t *testing.T, names ...string) *served {
	t.Helper()
	s := &served{}
	s.open(t)
	t.Cleanup(func() { _ = s.close(context.WithoutCancel(t.Context())) })
	c, err := s.connect(t, rocketmq.Config{})(t.Context(), "operator")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := c.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: name, Queues: 4}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// A listener answers requests of another process, through everything there is
// between a handler and the network.
func TestService_Request(t *testing.T) {
	t.Parallel()
	s := serveTopics(t, "price-asked", "nobody-listens")
	startProcess(t, s, listener.Provide[listener.Func[order]](func(p *sdk.Producer) listener.Func[order] {
		return func(ctx context.Context, m *sdk.Message[order]) error {
			return p.Reply(ctx, m.Delivery, price{Cents: 100 * len(m.Payload.ID)})
		}
	}, listener.Name("prices"), listener.Topic("price-asked"), listener.Group("prices")))
	asker := startProcess(t, s)
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			id := fmt.Sprintf("%0*d", n+1, 0)
			m, err := sdk.Request[price](t.Context(), asker.producer, "price-asked", order{ID: id})
			if err != nil || m.Payload.Cents != 100*(n+1) {
				t.Errorf("request %d: got %+v, %v", n, m, err)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	m, err := sdk.Request[price](ctx, asker.producer, "nobody-listens", order{ID: "1"})
	if sdk.CodeOf(err) != driver.Timeout {
		t.Errorf("nobody answers, yet %+v, %v", m, err)
	}
}

// Members come, step back and go in the middle of the work of everybody. Nobody
// crashes and all have time: each message is handled by one of them, once, and
// no handler is cancelled.
func TestService_HandOver(t *testing.T) {
	t.Parallel()
	s := serveTopics(t, "order-made")
	var mu sync.Mutex
	runs, cut := map[string]int{}, 0
	handle := func(ctx context.Context, m *sdk.Message[order]) error {
		mu.Lock()
		runs[m.Payload.ID]++
		mu.Unlock()
		select {
		case <-time.After(100 * time.Millisecond):
			return nil
		case <-ctx.Done():
			mu.Lock()
			defer mu.Unlock()
			cut++
			return context.Cause(ctx)
		}
	}
	member := func() *process {
		return startProcess(t, s, listener.Provide[listener.Func[order]](
			func() listener.Func[order] { return handle },
			listener.Name("orders"), listener.Topic("order-made"), listener.Group("orders"), listener.Concurrency(16)))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sent := 0
	send := func(p *process) {
		t.Helper()
		for range 40 {
			sent++
			_, err := p.producer.Send(t.Context(), "order-made", order{ID: fmt.Sprint(sent)})
			must(err)
		}
	}
	one := member()
	send(one)
	two := member()
	send(one)
	for range 2 {
		must(one.listeners.Pause(t.Context(), listener.All(), listener.ReleaseLanes))
		send(two)
		must(one.listeners.Resume(t.Context(), listener.All()))
		send(two)
	}
	one.stop()
	send(two)
	deadline := time.Now().Add(20 * time.Second)
	for done := false; !done; {
		if time.Now().After(deadline) {
			t.Fatal("not everything was handled")
		}
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		done = len(runs) == sent
		mu.Unlock()
	}
	two.stop() // after it nothing comes any more
	mu.Lock()
	defer mu.Unlock()
	for id, n := range runs {
		if n > 1 {
			t.Errorf("message %s was handled %d times", id, n)
		}
	}
	if cut > 0 {
		t.Errorf("%d handlers were cancelled", cut)
	}
}
