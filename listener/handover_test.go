package listener_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	bundled "github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// ledger counts what handlers of several members do.
type ledger struct {
	mu         sync.Mutex
	done       map[string]int
	cut, total int
}

func (g *ledger) handle(ctx context.Context, m *sdk.Message[bill]) error {
	g.mu.Lock()
	g.total++
	g.mu.Unlock()
	select {
	case <-time.After(300 * time.Millisecond):
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		g.cut++
		return context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done[m.Payload.ID]++
	return nil
}

// newMember builds one process of a service on the bundled broker.
func newMember(t *testing.T, broker *bundled.Broker, g *ledger) (*listener.Container, *sdk.Client) {
	t.Helper()
	client, err := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{broker.Driver()}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := listener.NewContainer(listener.ContainerParams{
		Client: client, Registrations: []listener.Registration{on(t, g.handle, listener.Concurrency(16))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, client
}

// On the bundled broker, members come, step back and go in the middle of the
// work of everybody. Nobody crashes and all have time: each message is handled
// by one of them, once, and no handler is cancelled.
func TestHandOver_OnceEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker, err := bundled.Open("", bundled.Config{Queues: 4})
		if err != nil {
			t.Fatal(err)
		}
		g := &ledger{done: map[string]int{}}
		const members, rounds = 3, 12
		var cs [members]*listener.Container
		var clients [members]*sdk.Client
		try := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		for i := range cs {
			cs[i], clients[i] = newMember(t, broker, g)
		}
		try("start", cs[0].Start(t.Context()))
		sent := 0
		send := func() {
			for range 40 {
				sent++
				id := fmt.Sprintf("B-%d", sent)
				_, err := clients[0].Producer().Send(t.Context(), "t", bill{ID: id}, sdk.OrderingKey(id))
				try("send", err)
			}
			time.Sleep(100 * time.Millisecond) // most are in handlers
		}
		send()
		try("start", cs[1].Start(t.Context()))
		send()
		try("start", cs[2].Start(t.Context()))
		for n := range rounds {
			send()
			c := cs[n%members]
			try("release", c.Pause(t.Context(), listener.All(), listener.ReleaseLanes))
			send()
			try("resume", c.Resume(t.Context(), listener.All()))
		}
		send()
		try("stop", cs[2].Stop(t.Context()))
		time.Sleep(time.Minute)
		try("stop", cs[1].Stop(t.Context()))
		try("stop", cs[0].Stop(t.Context()))
		for i := range clients {
			try("close", clients[i].Close(t.Context()))
		}
		try("close", broker.Close(t.Context()))
		if len(g.done) != sent || g.total != sent || g.cut > 0 {
			t.Errorf("of %d messages %d were handled, in %d runs of which %d were cut short", sent, len(g.done), g.total, g.cut)
		}
	})
}
