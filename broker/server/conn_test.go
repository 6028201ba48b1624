package server

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// echo answers its body and the field n at once.
var echo = handler{code: 90, serve: func(_ *Server, _ *conn, req, resp *remoting.Command) error {
	resp.Fields.Add("n", req.Fields.Get("n"))
	resp.Body = bytes.Clone(req.Body)
	return nil
}}

// parking keeps requests until told.
type parking struct {
	mu   sync.Mutex
	cmds []*remoting.Command
	from []*conn
}

func (p *parking) handler(code int) handler {
	return handler{code: code, serve: func(_ *Server, c *conn, _, resp *remoting.Command) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cmds, p.from = append(p.cmds, clone(resp)), append(p.from, c)
		return errLater
	}}
}

// await waits until n requests are parked.
func (p *parking) await(n int) {
	for {
		p.mu.Lock()
		have := len(p.cmds)
		p.mu.Unlock()
		if have >= n {
			return
		}
		runtime.Gosched()
	}
}

func (p *parking) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, cmd := range p.cmds {
		p.from[i].respond(cmd)
	}
	p.cmds, p.from = nil, nil
}

func TestServe_AnswersEveryRequest(t *testing.T) {
	t.Parallel()
	boom := handler{code: 91, serve: func(*Server, *conn, *remoting.Command, *remoting.Command) error { panic("boom") }}
	sorry := handler{code: 92, serve: func(*Server, *conn, *remoting.Command, *remoting.Command) error {
		return refuse(remoting.ResTopicNotExist, "topic %s is gone", "T")
	}}
	fails := handler{code: 93, serve: func(_ *Server, _ *conn, _, resp *remoting.Command) error {
		resp.Body = []byte("half an answer")
		return errors.New("no disk")
	}}
	apart := echo
	apart.code, apart.apart = 94, true
	s := serveOn(t, Config{}, echo, boom, sorry, fails, apart)
	p := s.dial(t)
	for _, test := range []struct {
		code, want int
		remark     string
	}{
		{90, 0, ""},
		{91, remoting.ResSystemError, "serve request type 91: internal failure, see the log of the server"},
		{92, remoting.ResTopicNotExist, "topic T is gone"},
		{93, remoting.ResSystemError, "no disk"},
		{94, 0, ""},
		{4711, remoting.ResUnsupported, " request type 4711 not supported"},
		{-1, remoting.ResUnsupported, " request type -1 not supported"},
		{90, 0, ""},
	} {
		req := request(test.code, "n", "7")
		req.Body = []byte("body")
		a := p.ask(req)
		if a.Code != test.want || a.Remark != test.remark {
			t.Errorf("request %d: got code %d %q, want %d %q", test.code, a.Code, a.Remark, test.want, test.remark)
		}
		if a.Language != remoting.LanguageGo || a.Version != remoting.Version || a.Flag != remoting.FlagResponse {
			t.Errorf("request %d: answer %+v", test.code, a)
		}
		if test.want == 0 && (string(a.Body) != "body" || a.Fields.Get("n") != "7") {
			t.Errorf("request %d: answer %+v", test.code, a)
		}
		if test.want != 0 && len(a.Body) > 0 {
			t.Errorf("request %d: a failure has a body", test.code)
		}
	}
	if got := s.Stats().Panics; got != 1 {
		t.Errorf("%d panics are counted, want 1", got)
	}
}

func TestServe_OneWayGetsNoAnswer(t *testing.T) {
	t.Parallel()
	var lot parking
	s := serveOn(t, Config{}, echo, lot.handler(91))
	p := s.dial(t)
	for _, code := range []int{90, 91, 4711} {
		req := request(code)
		req.Flag = remoting.FlagOneWay
		p.send(req)
	}
	p.ask(request(90)) // ask fails on an answer to anything else
	lot.release()
	p.ask(request(90))
}

func TestServe_AnswersOutOfOrder(t *testing.T) {
	t.Parallel()
	var lot parking
	s := serveOn(t, Config{}, echo, lot.handler(91))
	p := s.dial(t)
	held := map[int32]bool{}
	for range 500 {
		held[p.send(request(91))] = true
	}
	for i := range 200 {
		if a := p.ask(request(90, "n", strconv.Itoa(i))); a.Fields.Get("n") != strconv.Itoa(i) {
			t.Fatalf("answer %d: %+v", i, a)
		}
	}
	lot.release()
	for range 500 {
		a := p.next()
		if !held[a.Opaque] {
			t.Fatalf("answer to %d, which is not held", a.Opaque)
		}
		delete(held, a.Opaque)
	}
}

func TestServe_LargeAndSmallBodiesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{}, echo)
	p := s.dial(t)
	const n = 60
	go func() {
		var out []byte
		for i := range n {
			cmd := request(90, "n", strconv.Itoa(i))
			cmd.Opaque = int32(i)
			cmd.Body = bytes.Repeat([]byte{byte(i)}, i*i*i) // 0 to 205 KiB
			out, _ = remoting.AppendFrame(out, cmd)
		}
		_, _ = p.Write(out)
	}()
	for i := range n {
		a := p.next()
		if a.Opaque != int32(i) || !bytes.Equal(a.Body, bytes.Repeat([]byte{byte(i)}, i*i*i)) {
			t.Fatalf("answer %d has opaque %d, %d bytes", i, a.Opaque, len(a.Body))
		}
	}
}

func TestCall_IsAnsweredByTheClient(t *testing.T) {
	t.Parallel()
	conns := make(chan *conn, 1)
	hello := handler{code: 91, serve: func(_ *Server, c *conn, _, _ *remoting.Command) error { conns <- c; return nil }}
	s := serveOn(t, Config{}, hello)
	p := s.dial(t)
	p.ask(request(91))
	c := <-conns
	type result struct {
		cmd *remoting.Command
		err error
	}
	results := make(chan result, 2)
	go func() {
		a, err := c.call(context.Background(), request(307, "clientId", "me"))
		results <- result{a, err}
	}()
	q := p.next()
	if q.IsResponse() || q.Code != 307 || q.Fields.Get("clientId") != "me" || q.Language != remoting.LanguageGo {
		t.Fatalf("the client is asked %+v", q)
	}
	p.write(&remoting.Command{Code: 0, Flag: remoting.FlagResponse, Opaque: q.Opaque + 1, Remark: "nobody asked"})
	p.write(&remoting.Command{Code: 0, Flag: remoting.FlagResponse, Opaque: q.Opaque, Body: []byte("fine")})
	if r := <-results; r.err != nil || string(r.cmd.Body) != "fine" {
		t.Fatalf("call answers %+v", r)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	gaveUp := errors.New("gave up")
	cancel(gaveUp)
	if _, err := c.call(ctx, request(307)); !errors.Is(err, gaveUp) {
		t.Fatalf("call answers %v, want the cause of its context", err)
	}
	p.next()
	go func() {
		_, err := c.call(context.Background(), request(307))
		results <- result{nil, err}
	}()
	p.next()
	_ = p.Close()
	r := <-results
	if _, ok := errors.AsType[*lostError](r.err); !ok || !strings.Contains(r.err.Error(), p.LocalAddr().String()) {
		t.Fatalf("call to a client that leaves answers %v", r.err)
	}
}

func TestConn_SlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		big := handler{code: 91, serve: func(_ *Server, c *conn, _, resp *remoting.Command) error {
			resp.Body = make([]byte, 1<<20)
			c.respond(clone(resp))
			return errLater
		}}
		s := servePipes(t, Config{}, big, echo)
		slow, healthy := s.dial(t), s.dial(t)
		asked := make(chan int, 100)
		go func() {
			for i := range 100 {
				frame, _ := remoting.AppendFrame(nil, request(91))
				if _, err := slow.Write(frame); err != nil {
					break
				}
				asked <- i
			}
			close(asked)
		}()
		synctest.Wait()
		if n := len(asked); n < 8 || n > 9 { // 8 MiB, and one that is being written
			t.Errorf("%d requests of a peer that reads nothing were taken", n)
		}
		healthy.ask(request(90))
		time.Sleep(29 * time.Second)
		healthy.ask(request(90))
		if got := s.Stats().Expired; got != 0 {
			t.Fatalf("%d connections expired before 30 s", got)
		}
		time.Sleep(3 * time.Second)
		slow.ended()
		healthy.ask(request(90))
		if got := s.Stats().Expired; got != 1 {
			t.Fatalf("%d connections expired, want 1", got)
		}
		_ = healthy.Close()
		_ = slow.Close()
		synctest.Wait()
	})
}
