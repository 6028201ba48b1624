package server

import (
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

func TestQuota(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &quota{most: 100}
		done, closing := make(chan struct{}), make(chan struct{})
		var mu sync.Mutex
		var in []int64
		enter := func(size int64, done chan struct{}) {
			go func() {
				if q.enter(size, done, closing) {
					mu.Lock()
					defer mu.Unlock()
					in = append(in, size)
				}
			}()
			synctest.Wait()
		}
		check := func(want ...int64) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			var sum int64
			for i, size := range want {
				if i >= len(in) || in[i] != size {
					t.Fatalf("%v are in, want %v", in, want)
				}
				sum += size
			}
			if len(in) != len(want) || q.used.Load() != sum {
				t.Fatalf("%v are in with %d, want %v", in, q.used.Load(), want)
			}
		}
		leave := func() {
			mu.Lock()
			first := in[0]
			in = in[1:]
			mu.Unlock()
			q.add(-first) // lets others in
		}
		enter(500, done) // alone it may be too large
		enter(60, done)
		check(500)
		if !q.crowded() || !q.exceeded() {
			t.Error("somebody waits, and there is too much")
		}
		leave()
		check(60)
		enter(50, done)
		enter(10, make(chan struct{})) // there is room, but somebody came before
		check(60)
		close(done) // who waits no longer makes way
		check(60, 10)
		leave()
		leave()
		enter(90, nil)
		q.add(20) // what cannot wait
		enter(1, nil)
		if q.add(-20); q.crowded() {
			t.Error("there is room again")
		}
		check(90, 1)
		enter(40, nil)
		close(closing)
		check(90, 1)
	})
}

// part is the beginning of a frame of a size.
func part(size, n int) []byte {
	b := make([]byte, n)
	binary.BigEndian.PutUint32(b, uint32(size-4))
	binary.BigEndian.PutUint32(b[4:], 2)
	copy(b[8:], "{}")
	return b
}

// TestLimits_Arriving: a large request that does not come to its end keeps
// other large ones waiting, and is cut off for that; small ones are served.
func TestLimits_Arriving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := servePipes(t, Config{Limits: Limits{Frame: 128 << 10, Arriving: 128 << 10}}, echo)
		hoarder, small, large := s.dial(t), s.dial(t), s.dial(t)
		_, _ = hoarder.Write(part(100<<10, 40<<10))
		request90 := request(90)
		request90.Body = make([]byte, 60<<10)
		answered := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(answered)
			large.must(request90)
		}()
		synctest.Wait()
		small.must(request(90))
		if !s.arrivals.crowded() {
			t.Fatal("there is room for everybody")
		}
		<-answered
		if took := time.Since(began); took < crowdedRest || took > crowdedRest+2*tick {
			t.Errorf("served after %v, want %v", took, crowdedRest)
		}
		hoarder.ended()
		small.must(request(90))
		if used := s.arrivals.used.Load(); used != 0 {
			t.Errorf("%d bytes are taken by nobody", used)
		}
	})
}

// TestLimits_Outboxes: who takes nothing of what it has asked for keeps pulls
// waiting, and is disconnected for that.
func TestLimits_Outboxes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		large := handler{code: 92, serve: func(_ *Server, _ *conn, _, resp *remoting.Command) error {
			resp.Body = make([]byte, 300<<10)
			return nil
		}}
		s := servePipes(t, Config{AutoCreate: true, Limits: Limits{Outboxes: 512 << 10}}, echo, large)
		hoarder, small, consumer := s.dial(t), s.dial(t), s.dial(t)
		for range 2 { // a third one would not be read
			hoarder.send(request(92))
		}
		synctest.Wait()
		if !s.unsent.exceeded() {
			t.Fatalf("%d bytes are not sent, and are not too many", s.unsent.used.Load())
		}
		began := time.Now()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			x := remoting.PullMessage{Group: "g", Topic: "TBW102", MaxMessages: 1}
			pull := request(remoting.ReqPullMessage)
			x.AppendTo(&pull.Fields)
			consumer.ask(pull)
		}()
		synctest.Wait()
		small.must(request(90))
		<-answered
		if took := time.Since(began); took < crowdedWrite-tick || took > crowdedWrite+2*tick {
			t.Errorf("served after %v, want %v", took, crowdedWrite)
		}
		small.must(request(90))
		synctest.Wait()
		if used := s.unsent.used.Load(); used != 0 {
			t.Errorf("%d bytes wait for nobody", used)
		}
		hoarder.ended()
	})
}

// stubborn is a connection whose reader does not notice at once that it is
// closed.
type stubborn struct {
	net.Conn
	gone chan struct{}
}

func (s *stubborn) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		<-s.gone
	}
	return n, err
}

// TestLimits_EvictedDoNotCount: connections that were told to go take nobody's
// place while they are about to.
func TestLimits_EvictedDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := servePipes(t, Config{Limits: Limits{Connections: 4, Unproven: 3}}, echo)
		gone := make(chan struct{})
		let := sync.OnceFunc(func() { close(gone) })
		defer let()
		for range 2 {
			near, far := net.Pipe()
			s.pipes.offered <- &stubborn{far, gone}
			t.Cleanup(func() { _ = near.Close() })
		}
		synctest.Wait()              // they read, so they stay when they are told to go
		c, d := s.dial(t), s.dial(t) // the first one is told to go
		c.must(request(90))
		d.must(request(90))
		e := s.dial(t)
		synctest.Wait()
		f := s.dial(t) // the second one is, and not the last one before
		synctest.Wait()
		if got := s.Stats(); got.Turned != 2 || got.Connections != 6 {
			t.Errorf("%+v, want two connections that had to go and are still there", got)
		}
		for _, p := range []*peer{c, d, e, f} {
			p.must(request(90))
		}
		let()
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.evicted != 0 {
			t.Errorf("%d are about to go, and nobody is", s.evicted)
		}
	})
}
