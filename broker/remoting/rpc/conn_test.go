package rpc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is the server's end: it reads and writes commands by hand.
type peer struct {
	t    testing.TB
	conn net.Conn
	r    *remoting.Reader
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	return &peer{t, conn, remoting.NewReader(conn, remoting.Limits{})}
}

// next answers the next command, nil at the end of the connection.
func (p *peer) next() *remoting.Command {
	frame, err := p.r.Next()
	if err != nil {
		return nil
	}
	c := new(remoting.Command)
	if err := remoting.Decode(frame, c, remoting.Limits{}); err != nil {
		p.t.Errorf("the server got %x: %v", frame, err)
		return nil
	}
	c.Body = bytes.Clone(c.Body)
	return c
}

func (p *peer) send(c *remoting.Command) {
	b, err := remoting.AppendFrame(nil, c)
	if err != nil {
		p.t.Error(err)
	}
	_, _ = p.conn.Write(b) // a client that has gone is part of some tests
}

func (p *peer) answer(req *remoting.Command, body string) {
	p.send(&remoting.Command{Flag: remoting.FlagResponse, Opaque: req.Opaque, Body: []byte(body)})
}

// echo answers every request that wants it with its own body, until the end.
func (p *peer) echo() {
	for c := p.next(); c != nil; c = p.next() {
		if !c.IsOneWay() {
			p.answer(c, string(c.Body))
		}
	}
}

// pipe makes a connection and its peer without a network.
func pipe(t testing.TB, o rpc.Options) (*rpc.Conn, *peer) {
	a, b := net.Pipe()
	c, err := rpc.Dial(t.Context(), "tcp", "test:1", withDial(o, a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = b.Close()
	})
	return c, newPeer(t, b)
}

func withDial(o rpc.Options, conn net.Conn) rpc.Options {
	o.Dial = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	return o
}

// serve runs f for each connection to a port of its own, whose address it
// answers.
func serve(t testing.TB, f func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				f(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func dial(t testing.TB, addr string, o rpc.Options) *rpc.Conn {
	t.Helper()
	c, err := rpc.Dial(t.Context(), "tcp", addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func request(code int, body string) *remoting.Command {
	return &remoting.Command{Code: code, Body: []byte(body)}
}

func failure(t testing.TB, err error) *rpc.Error {
	t.Helper()
	var e *rpc.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *rpc.Error", err)
	}
	return e
}

// Many calls are in flight, and each gets its own answer, which stays as it is.
func TestCall_OutOfOrder(t *testing.T) {
	t.Parallel()
	const callers, rounds = 32, 50
	addr := serve(t, func(conn net.Conn) {
		p := newPeer(t, conn)
		var held []*remoting.Command
		for c := p.next(); c != nil; c = p.next() {
			if held = append(held, c); len(held) < callers {
				continue
			}
			for i := len(held) - 1; i >= 0; i-- {
				p.answer(held[i], "answer to "+string(held[i].Body))
			}
			held = held[:0]
		}
	})
	c := dial(t, addr, rpc.Options{})
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			var before *remoting.Command
			want := ""
			for j := range rounds {
				text := fmt.Sprintf("%d/%d", i, j)
				got, err := c.Call(t.Context(), request(remoting.ReqSendMessage, text))
				if err != nil || string(got.Body) != "answer to "+text || !got.IsResponse() {
					t.Errorf("%s: got %+v, %v", text, got, err)
					return
				}
				if before != nil && string(before.Body) != want {
					t.Errorf("the answer %q became %q", want, before.Body)
				}
				before, want = got, string(got.Body)
			}
		})
	}
	wg.Wait()
}

func TestCall_FillsInWhatTheCallerLeftOut(t *testing.T) {
	t.Parallel()
	c, p := pipe(t, rpc.Options{})
	seen := make(chan *remoting.Command, 2)
	go func() {
		for x := p.next(); x != nil; x = p.next() {
			seen <- x
			p.answer(x, "")
		}
	}()
	own := &remoting.Command{Code: 105, Language: remoting.LanguageCPP, Version: 317, Opaque: 99, Flag: remoting.FlagOneWay, Binary: true}
	for _, req := range []*remoting.Command{request(105, ""), own} {
		if _, err := c.Call(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	if x := <-seen; x.Language != remoting.LanguageGo || x.Version != remoting.Version || x.Flag != 0 || x.Opaque != 1 {
		t.Errorf("got %+v", x)
	}
	if x := <-seen; x.Language != remoting.LanguageCPP || x.Version != 317 || x.Flag != 0 || x.Opaque != 2 || !x.Binary {
		t.Errorf("got %+v", x)
	}
	if own.Opaque != 99 || own.Flag != remoting.FlagOneWay {
		t.Errorf("the caller's request was changed: %+v", own)
	}
}

func TestOneWay(t *testing.T) {
	t.Parallel()
	seen := make(chan *remoting.Command, 10)
	addr := serve(t, func(conn net.Conn) {
		p := newPeer(t, conn)
		for c := p.next(); c != nil; c = p.next() {
			seen <- c
			p.answer(c, "every peer may answer all the same")
		}
	})
	c := dial(t, addr, rpc.Options{})
	for i := range 5 {
		if err := c.OneWay(t.Context(), request(15, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Call(t.Context(), request(14, "5")); err != nil {
		t.Fatal(err)
	}
	// What OneWay has taken arrives, even if the end follows at once.
	if err := c.OneWay(t.Context(), request(15, "6")); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	for i := range 7 {
		if x := <-seen; string(x.Body) != fmt.Sprint(i) || x.IsOneWay() != (i != 5) {
			t.Errorf("request %d: got %+v", i, x)
		}
	}
}

// Whoever gives up learns that the request may have been done; the answer that
// comes later is nobody's.
func TestCall_GivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t, rpc.Options{})
		go func() {
			first := p.next()
			second := p.next()
			p.answer(first, "late")
			p.answer(second, "in time")
			p.echo()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := c.Call(ctx, request(remoting.ReqPullMessage, ""))
		if e := failure(t, err); !e.MaybeDone || !errors.Is(err, context.DeadlineExceeded) || e.Op != "PULL_MESSAGE" {
			t.Errorf("got %v", err)
		}
		got, err := c.Call(t.Context(), request(14, ""))
		if err != nil || string(got.Body) != "in time" {
			t.Errorf("the call after it: got %+v, %v", got, err)
		}
		if n := c.Received(); n != 2 {
			t.Errorf("%d frames have come, the late answer included; want 2", n)
		}
		cause := errors.New("cause")
		ended, stop := context.WithCancelCause(t.Context())
		stop(cause)
		_, err = c.Call(ended, request(14, ""))
		if e := failure(t, err); e.MaybeDone || !errors.Is(err, cause) {
			t.Errorf("with a context that has ended: got %v", err)
		}
		if e := failure(t, c.OneWay(ended, request(15, ""))); e.MaybeDone {
			t.Errorf("one way: got %v", e)
		}
	})
}

// A lost connection fails every pending call. A request that was still waiting
// for its turn is not done.
func TestLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t, rpc.Options{})
		results := make(chan error, 3)
		send := func(f func() error) {
			go func() { results <- f() }()
			synctest.Wait()
		}
		call := func() error {
			_, err := c.Call(t.Context(), request(remoting.ReqSendMessage, ""))
			return err
		}
		send(call) // its batch is being written; nobody reads
		send(func() error { return c.OneWay(t.Context(), request(15, "")) })
		send(call)
		_ = p.conn.Close()
		synctest.Wait()
		maybe := 0
		for range 3 {
			err := <-results
			if failure(t, err).MaybeDone {
				maybe++
			}
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("got %v", err)
			}
		}
		if maybe != 1 {
			t.Errorf("%d requests may have been done, want the first one only", maybe)
		}
		if e := failure(t, call()); e.MaybeDone || c.Err() == nil || !errors.Is(e.Err, c.Err()) {
			t.Errorf("a call after it: got %v", e)
		}
		<-c.Done()
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t, rpc.Options{})
		go p.next()
		result := make(chan error, 1)
		go func() {
			_, err := c.Call(t.Context(), request(remoting.ReqSendMessage, ""))
			result <- err
		}()
		synctest.Wait()
		if c.Err() != nil {
			t.Error("it is lost before its end")
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-result; !errors.Is(err, rpc.ErrClosed) || !failure(t, err).MaybeDone {
			t.Errorf("got %v", err)
		}
		err := c.OneWay(t.Context(), request(15, ""))
		if e := failure(t, err); e.MaybeDone || !errors.Is(err, rpc.ErrClosed) {
			t.Errorf("after the end: got %v", err)
		}
	})
}

// A peer that does not read holds senders up instead of filling memory.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t, rpc.Options{})
		const size = 1 << 20
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if err := c.OneWay(t.Context(), request(15, strings.Repeat("x", size))); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Call(ctx, request(15, ""))
		if e := failure(t, err); e.MaybeDone || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a full queue: got %v", err)
		}
		for range 30 { // reading frees it
			if x := p.next(); len(x.Body) != size {
				t.Fatalf("got %d bytes", len(x.Body))
			}
		}
		wg.Wait()
	})
}

func TestHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c *rpc.Conn
		handler := func(req *remoting.Command) *remoting.Command {
			switch req.Code {
			case remoting.ReqCheckTransactionState:
				if err := c.OneWay(t.Context(), request(remoting.ReqEndTransaction, string(req.Body))); err != nil {
					t.Error(err)
				}
			case remoting.ReqNotifyConsumerIDsChanged: // a call from inside the handler
				if got, err := c.Call(t.Context(), request(remoting.ReqGetConsumerListByGroup, "")); err != nil || string(got.Body) != "members" {
					t.Errorf("got %+v, %v", got, err)
				}
			case remoting.ReqGetConsumerRunningInfo:
				return &remoting.Command{Body: []byte("info")}
			case remoting.ReqConsumeMessageDirectly:
				panic("the application")
			}
			return nil
		}
		c, p := pipe(t, rpc.Options{Handler: handler})
		p.send(&remoting.Command{Code: remoting.ReqCheckTransactionState, Flag: remoting.FlagOneWay, Body: []byte("half")})
		if x := p.next(); x.Code != remoting.ReqEndTransaction || string(x.Body) != "half" || !x.IsOneWay() {
			t.Errorf("got %+v", x)
		}
		p.send(&remoting.Command{Code: remoting.ReqNotifyConsumerIDsChanged, Flag: remoting.FlagOneWay})
		x := p.next()
		if x.Code != remoting.ReqGetConsumerListByGroup {
			t.Errorf("got %+v", x)
		}
		p.answer(x, "members")
		for code, want := range map[int]int{
			remoting.ReqGetConsumerRunningInfo: remoting.ResSuccess, remoting.ReqConsumeMessageDirectly: remoting.ResSystemError, 9999: remoting.ResUnsupported,
		} {
			p.send(&remoting.Command{Code: code, Opaque: -7})
			x := p.next()
			if x.Code != want || !x.IsResponse() || x.Opaque != -7 || x.Language != remoting.LanguageGo || x.Version != remoting.Version || (want != 0) != (x.Remark != "") {
				t.Errorf("request %d: got %+v", code, x)
			}
		}
	})
}

// Requests that nobody can take are answered too, and never hold up answers.
func TestHandler_NoneOrBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, p := pipe(t, rpc.Options{})
		p.send(&remoting.Command{Code: 307, Opaque: 1})
		if x := p.next(); x.Code != remoting.ResUnsupported || x.Opaque != 1 {
			t.Errorf("without a handler: got %+v", x)
		}
		release := make(chan struct{})
		var log bytes.Buffer
		c, p := pipe(t, rpc.Options{
			Handler: func(*remoting.Command) *remoting.Command { <-release; return nil },
			Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		})
		for i := range 258 { // one is with the handler, 256 wait
			p.send(&remoting.Command{Code: 307, Opaque: int32(i)})
		}
		if x := p.next(); x.Code != remoting.ResSystemBusy || x.Opaque != 257 {
			t.Errorf("one too many: got %+v", x)
		}
		go func() {
			req := p.next()
			p.answer(req, "answer")
			close(release)
			for range 257 {
				p.next()
			}
		}()
		if got, err := c.Call(t.Context(), request(14, "")); err != nil || string(got.Body) != "answer" {
			t.Errorf("a call beside them: got %+v, %v", got, err)
		}
		synctest.Wait()
		if !strings.Contains(log.String(), "GET_CONSUMER_RUNNING_INFO") {
			t.Errorf("the log says %q", log.String())
		}
	})
}

// Requests that take time keep nobody waiting, and are bounded.
func TestHandler_Apart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		_, p := pipe(t, rpc.Options{
			Handler: func(req *remoting.Command) *remoting.Command {
				if req.Code == remoting.ReqConsumeMessageDirectly {
					<-release
				}
				return &remoting.Command{}
			},
			Apart: func(code int) bool { return code == remoting.ReqConsumeMessageDirectly },
		})
		for i := range 17 {
			p.send(&remoting.Command{Code: remoting.ReqConsumeMessageDirectly, Opaque: int32(i)})
		}
		if x := p.next(); x.Code != remoting.ResSystemBusy || x.Opaque != 16 {
			t.Errorf("one too many: got %+v", x)
		}
		p.send(&remoting.Command{Code: remoting.ReqGetConsumerRunningInfo, Opaque: 99})
		if x := p.next(); x.Code != remoting.ResSuccess || x.Opaque != 99 {
			t.Errorf("a request beside them: got %+v", x)
		}
		close(release)
		seen := map[int32]bool{}
		for range 16 {
			seen[p.next().Opaque] = true
		}
		if len(seen) != 16 {
			t.Errorf("answers to %d of 16 requests", len(seen))
		}
	})
}

// What is not the protocol ends the connection.
func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string][]byte{
		"length": {0xFF, 0, 0, 0},
		"header": {0, 0, 0, 6, 0, 0, 0, 2, '{', '['},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, p := pipe(t, rpc.Options{})
			go func() {
				p.next()
				_, _ = p.conn.Write(bad)
			}()
			_, err := c.Call(t.Context(), request(14, ""))
			if !failure(t, err).MaybeDone || errors.Is(err, io.EOF) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
	c, _ := pipe(t, rpc.Options{})
	_, err := c.Call(t.Context(), &remoting.Command{Binary: true, Code: remoting.ReqPopMessage})
	var e *remoting.FrameError
	if failure(t, err).MaybeDone || !errors.As(err, &e) || c.Err() != nil {
		t.Errorf("a request that does not fit: got %v", err)
	}
}

func TestSigned(t *testing.T) {
	t.Parallel()
	for _, sha256 := range []bool{false, true} {
		c, p := pipe(t, rpc.Options{AccessKey: "key", SecretKey: "secret", SHA256: sha256})
		go func() {
			for x := p.next(); x != nil; x = p.next() {
				good := remoting.Verify("secret", x)
				if sha256 {
					good = remoting.VerifySHA256("secret", x, time.Now()) == nil
				}
				p.answer(x, fmt.Sprint(good, x.Fields.Get(remoting.FieldAccessKey), x.Fields.Get("topic")))
			}
		}()
		req := request(17, "body")
		req.Fields.Add("topic", "T")
		for range 2 { // again: the caller's request has not changed
			got, err := c.Call(t.Context(), req)
			if err != nil || string(got.Body) != fmt.Sprint(true, "key", "T") || len(req.Fields) != 1 {
				t.Errorf("SHA-256 %v: got %q, %v; the request has %d fields", sha256, got.Body, err, len(req.Fields))
			}
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	addr := serve(t, func(conn net.Conn) { newPeer(t, tls.Server(conn, server)).echo() })
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	c := dial(t, addr, rpc.Options{TLS: &tls.Config{RootCAs: roots}})
	if got, err := c.Call(t.Context(), request(34, "{}")); err != nil || string(got.Body) != "{}" {
		t.Errorf("got %+v, %v", got, err)
	}
	if c.Addr().String() != addr || c.LocalAddr() == nil {
		t.Errorf("addresses %v and %v", c.Addr(), c.LocalAddr())
	}
	for name, bad := range map[string]*tls.Config{"unknown root": {}, "another name": {RootCAs: roots, ServerName: "example.com"}} {
		if _, err := rpc.Dial(t.Context(), "tcp", addr, rpc.Options{TLS: bad}); failure(t, err).MaybeDone {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDial_Refused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, err = rpc.Dial(t.Context(), "tcp", addr, rpc.Options{})
	if e := failure(t, err); e.MaybeDone || e.Op != "dial" || !strings.HasPrefix(err.Error(), "dial at "+addr+": not done: ") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkCall(b *testing.B) {
	addr := serve(b, func(conn net.Conn) {
		r := remoting.NewReader(conn, remoting.Limits{})
		var c remoting.Command
		var out []byte
		for {
			frame, err := r.Next()
			if err != nil || remoting.Decode(frame, &c, remoting.Limits{}) != nil {
				return
			}
			out, _ = remoting.AppendFrame(out, &remoting.Command{Flag: remoting.FlagResponse, Opaque: c.Opaque})
			if !r.Ready() {
				_, _ = conn.Write(out)
				out = out[:0]
			}
		}
	})
	c := dial(b, addr, rpc.Options{})
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				req := request(remoting.ReqSendMessageV2, strings.Repeat("x", 1024))
				for pb.Next() {
					if _, err := c.Call(b.Context(), req); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// A peer that reads late gets everything once, in one piece each, though the
// system took only parts at first.
func TestCall_PeerReadsLate(t *testing.T) {
	t.Parallel()
	const callers, size = 16, 1 << 20
	reads := make(chan struct{})
	addr := serve(t, func(conn net.Conn) {
		<-reads
		newPeer(t, conn).echo()
	})
	c := dial(t, addr, rpc.Options{})
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			body := strings.Repeat(string(rune('a'+i)), size)
			for range 2 {
				if got, err := c.Call(t.Context(), request(remoting.ReqSendMessage, body)); err != nil || string(got.Body) != body {
					t.Errorf("caller %d: %v", i, err)
				}
			}
		})
	}
	time.AfterFunc(50*time.Millisecond, func() { close(reads) })
	wg.Wait()
}

// A call with a limit ends when it is over, and the connection goes on.
func TestCallWithin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := pipe(t, rpc.Options{})
		go func() {
			first := p.next()
			p.answer(p.next(), "second")
			p.answer(first, "first, too late")
			p.answer(p.next(), "third")
		}()
		began := time.Now()
		_, err := c.CallWithin(t.Context(), time.Second, request(105, ""))
		if e := failure(t, err); !errors.Is(e, rpc.ErrNoAnswer) || !e.MaybeDone || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		for _, want := range []string{"second", "third"} {
			if a, err := c.CallWithin(t.Context(), time.Second, request(105, "")); err != nil || string(a.Body) != want {
				t.Errorf("got %+v, %v; want %s", a, err, want)
			}
		}
	})
}
