package rocketmq

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// Close ends connections that are made at that very moment; it waited for their
// servers to end them. Rounds make up for the moment, which is short.
func TestLinks_CloseEndsWhatIsBeingMade(t *testing.T) {
	const servers = 32
	rounds := 1500
	if testing.Short() {
		rounds = 200
	}
	for round := range rounds {
		var mu sync.Mutex
		var peers []net.Conn
		dialed := make(chan struct{}, servers)
		s := newLinks(t.Context(), func(context.Context, string) (*rpc.Conn, error) {
			mine, peer := net.Pipe()
			mu.Lock()
			peers = append(peers, peer)
			mu.Unlock()
			dialed <- struct{}{}
			return rpc.New(mine, rpc.Options{}), nil
		}, func(string) {}, time.Second, slog.New(slog.DiscardHandler))
		var waiting sync.WaitGroup
		for i := range servers {
			waiting.Go(func() { _, _ = s.get(t.Context(), fmt.Sprint(i)) })
		}
		for range round%servers + 1 {
			<-dialed
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			s.close()
		}()
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Errorf("round %d: close does not end", round)
		}
		mu.Lock()
		for _, p := range peers {
			_ = p.Close()
		}
		mu.Unlock()
		<-closed
		waiting.Wait()
		if t.Failed() {
			return
		}
	}
}
