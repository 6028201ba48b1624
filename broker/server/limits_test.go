package server

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// frameOf encodes a request.
func frameOf(t *testing.T, cmd *remoting.Command) []byte {
	t.Helper()
	frame, err := remoting.AppendFrame(nil, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestLimits_Late(t *testing.T) {
	t.Parallel()
	frame := frameOf(t, request(90))
	for _, test := range []struct {
		name   string
		play   func(p *peer)
		within time.Duration // between this and two ticks more
		warned error         // what an operator hears of, if anything
	}{
		{"nothing is sent", func(*peer) {}, 10 * time.Second, nil},
		{"a byte each second", func(p *peer) {
			for _, b := range frame {
				if _, err := p.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, 10 * time.Second, errFirstFrame},
		{"a second request by a byte each second", func(p *peer) {
			_, _ = p.Write(frame)
			_, _ = p.frames.Next()
			for _, b := range frame {
				if _, err := p.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, 30 * time.Second, errRestOfFrame},
		{"half a request behind a whole one", func(p *peer) {
			_, _ = p.Write(append(slices.Clone(frame), frame[:10]...))
			_, _ = p.frames.Next()
		}, 30 * time.Second, errRestOfFrame},
		{"silence", func(p *peer) {
			_, _ = p.Write(frame)
			_, _ = p.frames.Next()
		}, 120 * time.Second, nil},
		{"a request each 100 s for a while", func(p *peer) {
			for range 10 {
				_, _ = p.Write(frame)
				_, _ = p.frames.Next()
				time.Sleep(100 * time.Second)
			}
		}, 1020 * time.Second, nil},
		{"requests in two halves for a while", func(p *peer) {
			for range 10 {
				_, _ = p.Write(frame[:10])
				time.Sleep(5 * time.Second)
				_, _ = p.Write(frame[10:])
				_, _ = p.frames.Next()
				time.Sleep(15 * time.Second)
			}
		}, (10*20 - 15 + 120) * time.Second, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log syncBuffer
				s := servePipes(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, echo)
				time.Sleep(time.Hour) // nobody is there, nothing ticks
				started := time.Now()
				p := s.dial(t)
				test.play(p)
				p.ended()
				if took := time.Since(started); took < test.within || took > test.within+2*tick {
					t.Errorf("ended after %v, want %v", took, test.within)
				}
				if got := s.Stats(); got.Expired != 1 || got.Malformed != 0 {
					t.Errorf("%+v", got)
				}
				synctest.Wait()
				warned := strings.Contains(log.String(), `level=WARN msg="a connection was cut off" address=pipe reason="`)
				if warned != (test.warned != nil) || warned && !strings.Contains(log.String(), test.warned.Error()) {
					t.Errorf("warned of %v, want %v:\n%s", warned, test.warned, log.String())
				}
			})
		})
	}
}

// TestLimits_SlowReader: who takes nothing of its answers is cut off, which an
// operator hears of.
func TestLimits_SlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log syncBuffer
		s := servePipes(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, echo)
		p := s.dial(t)
		_, _ = p.Write(frameOf(t, request(90)))
		time.Sleep(33 * time.Second)
		synctest.Wait()
		if got := log.String(); !strings.Contains(got, `level=WARN msg="a connection was cut off" address=pipe reason="`+errStalled.Error()+`" unlogged_before=0`) {
			t.Errorf("logged\n%s", got)
		}
	})
}

// TestLimits_RefusalsAreTold: of each reason at once, and what was quiet is counted
// when the while is over, though nothing comes any more.
func TestLimits_RefusalsAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log syncBuffer
		s := servePipes(t, Config{
			Limits: Limits{PerAddress: 1, Connections: 1}, Settings: map[string]string{"Limits.Connections": "-limit connections=N"},
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		}, echo)
		first := s.dial(t)
		for range 4 {
			s.dial(t).ended()
		}
		first.must(request(90)) // it is proven, and makes no room
		s.dial(t).ended()
		synctest.Wait()
		wants := func(when string, lines ...string) {
			t.Helper()
			got := log.String()
			for _, line := range lines {
				want := "level=WARN msg=\"a connection was refused\" address=pipe reason=\"" + line + "\n"
				if n := strings.Count(got, want); n != 1 {
					t.Errorf("%s: %d times %q", when, n, want)
				}
			}
			if n := strings.Count(got, "a connection was refused"); n != len(lines) {
				t.Errorf("%s: %d lines, want %d:\n%s", when, n, len(lines), got)
			}
		}
		here, all := errTooManyHere.Error()+`: 1 (Limits.PerAddress)" unlogged_before=`, errTooMany.Error()+`: 1 (-limit connections=N)" unlogged_before=`
		wants("at once", here+"0", all+"0")
		_ = first.Close() // nobody is there, and the count is told all the same
		time.Sleep(seldomPause + 2*tick)
		wants("later", here+"0", all+"0", here+"2")
		first = s.dial(t)
		for range 4 {
			s.dial(t).ended()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = first.Close()
		_ = s.Close(ctx)
		// In the while of the line before, so that the end tells them.
		wants("at the end", here+"0", all+"0", here+"2", here+"3")
	})
}

// TestLimits_PausedIsNotLate: a peer whose requests are left unread for a
// while is not taken for one that sends none.
func TestLimits_PausedIsNotLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lot parking
		s := servePipes(t, Config{Limits: Limits{InFlight: 2}}, lot.handler(91), echo)
		p := s.dial(t)
		go func() {
			var out []byte
			for range 3 {
				out, _ = remoting.AppendFrame(out, request(91))
			}
			_, _ = p.Write(append(out, out[:7]...)) // the beginning of a fourth
		}()
		synctest.Wait()
		if n := len(lot.cmds); n != 2 {
			t.Fatalf("%d requests are in flight, 2 are allowed", n)
		}
		time.Sleep(100 * time.Second)
		lot.release()
		for range 2 {
			p.next()
		}
		synctest.Wait()
		if n := len(lot.cmds); n != 1 {
			t.Fatalf("%d requests came after room was made, want the third", n)
		}
		if got := s.Stats().Expired; got != 0 {
			t.Fatal("a peer whose requests were not read has expired")
		}
		_ = p.Close()
		synctest.Wait()
		lot.release()
	})
}

func TestLimits_HeldPullsAreNotInFlight(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var held []*remoting.Command
	var from *conn
	hold := handler{code: 91, serve: func(_ *Server, c *conn, _, resp *remoting.Command) error {
		mu.Lock()
		defer mu.Unlock()
		from = c
		if !c.hold() {
			return refuse(remoting.ResPullNotFound, "too many")
		}
		held = append(held, clone(resp))
		return errLater
	}}
	s := serveOn(t, Config{Limits: Limits{InFlight: 1, HeldPulls: 3}}, hold, echo)
	p := s.dial(t)
	for range 3 {
		p.send(request(91))
	}
	if a := p.ask(request(91)); a.Code != remoting.ResPullNotFound {
		t.Errorf("a pull beyond those that may be held: %+v", a)
	}
	p.must(request(90))
	mu.Lock()
	for _, resp := range held {
		from.unhold()
		from.respond(resp)
	}
	mu.Unlock()
	for range 3 {
		p.next()
	}
	p.must(request(90))
	if l, h := from.later.Load(), from.held.Load(); l != 0 || h != 0 {
		t.Errorf("%d in flight and %d held at the end", l, h)
	}
}

func TestLimits_Connections(t *testing.T) {
	t.Parallel()
	t.Run("in all", func(t *testing.T) {
		t.Parallel()
		s := serveOn(t, Config{Limits: Limits{Connections: 3}}, echo)
		for range 3 {
			s.dial(t).must(request(90))
		}
		s.dial(t).ended()
		if got := s.Stats(); got.Connections != 3 || got.Turned != 1 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("from an address", func(t *testing.T) {
		t.Parallel()
		s := serveOn(t, Config{Limits: Limits{PerAddress: 2}}, echo)
		first := s.dial(t)
		first.must(request(90))
		s.dial(t).must(request(90))
		s.dial(t).ended()
		_ = first.Close()
		for s.Stats().Connections > 1 {
			runtime.Gosched()
		}
		s.dial(t).must(request(90))
	})
	t.Run("unproven", func(t *testing.T) {
		t.Parallel()
		s := serveOn(t, Config{Limits: Limits{Unproven: 4, Connections: 6}}, echo)
		healthy := s.dial(t)
		healthy.must(request(90))
		var idle []*peer
		for range 20 {
			p := s.dial(t)
			idle = append(idle, p)
			if len(idle) > 4 {
				idle[len(idle)-5].ended() // the oldest makes room
			}
		}
		unknown := s.dial(t)
		if a := unknown.ask(request(4711)); a.Code != remoting.ResUnsupported {
			t.Errorf("%+v", a)
		}
		for range 3 { // an unknown code proves nothing
			s.dial(t)
		}
		last := s.dial(t)
		unknown.ended()
		last.must(request(90))
		healthy.must(request(90))
	})
}

func TestLimits_Frames(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	s := serveOn(t, Config{Limits: Limits{Frame: 64 << 10}, Logger: slog.New(slog.NewTextHandler(&log, nil))}, echo)
	large := request(90)
	large.Body = make([]byte, 64<<10)
	many := request(90)
	for i := range 129 {
		many.Fields.AddInt(fmt.Sprint("f", i), 1)
	}
	long := request(90, strings.Repeat("n", 129), "v")
	for _, test := range []struct {
		name  string
		bytes []byte
	}{
		{"1 GiB", binary.BigEndian.AppendUint32(nil, 1<<30)},
		{"a negative length", []byte{0xff, 0xff, 0xff, 0xff}},
		{"a length of 3", []byte{0, 0, 0, 3, 0, 0, 0}},
		{"a body beyond the limit", frameOf(t, large)},
		{"a header beyond its frame", []byte{0, 0, 0, 4, 0, 0, 0, 1}},
		{"an unknown form", []byte{0, 0, 0, 4, 7, 0, 0, 0}},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n")},
		{"TLS", []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc}},
		{"no JSON", []byte{0, 0, 0, 6, 0, 0, 0, 2, '{', '['}},
		{"too many fields", frameOf(t, many)},
		{"a long name", frameOf(t, long)},
	} {
		p := s.dial(t)
		before := s.Stats().Malformed
		if _, err := p.Write(test.bytes); err != nil {
			t.Fatal(err)
		}
		p.ended()
		for s.Stats().Malformed == before {
			runtime.Gosched()
		}
	}
	s.dial(t).must(request(90))
	// All of them are one line in ten seconds: a log must not grow by what peers
	// send.
	const want = `level=WARN msg="a connection was closed that does not speak the protocol" address=`
	if got := log.String(); strings.Count(got, want) == 0 || strings.Count(got, want) > 3 || !strings.Contains(got, "reason=\"frame of 1073741824, ") {
		t.Errorf("logged\n%s", got)
	}
}

// TestHostile is the short form of reliability rule R23: while peers send
// garbage, drip and promise gigabytes, a healthy client is served and memory
// stays small.
func TestHostile(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{}, echo)
	healthy := s.dial(t)
	healthy.must(request(90))
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	hostile := func(play func(c net.Conn, r *rand.Rand)) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(23, uint64(len(done))))
			for {
				select {
				case <-done:
					return
				default:
				}
				c, err := net.Dial("tcp", s.Addr().String())
				if err != nil {
					continue
				}
				play(c, r)
				_ = c.Close()
			}
		})
	}
	good := frameOf(t, request(90, "n", "1"))
	hostile(func(c net.Conn, r *rand.Rand) { // one bit is wrong
		bad := slices.Clone(good)
		bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		_, _ = c.Write(bad)
	})
	hostile(func(c net.Conn, r *rand.Rand) { // a promise of nearly 16 MiB
		_, _ = c.Write(binary.BigEndian.AppendUint32(nil, uint32(16<<20-r.IntN(1000))))
		_, _ = c.Write([]byte{0, 0, 0, 0, '{'})
	})
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			_ = c.Close()
		}
	}()
	var before, after runtime.MemStats
	runtime.GC() // what counts is what is kept
	runtime.ReadMemStats(&before)
	for i := range 1500 {
		if i%10 == 0 { // a slow one, half a request each
			c, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(good[:len(good)/2])
			slow = append(slow, c)
		}
		healthy.must(request(90, "n", "2"))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	if got := s.Stats(); got.Turned == 0 || got.Malformed == 0 || got.Connections > 1024 {
		t.Errorf("%+v", got)
	}
}

func TestClose_UnderLoad(t *testing.T) {
	t.Parallel()
	var lot parking
	s := serveOn(t, Config{}, echo, lot.handler(91))
	var wg sync.WaitGroup
	for range 8 {
		p := s.dial(t)
		p.must(request(90))
		wg.Go(func() {
			frame := frameOf(t, request(90))
			for {
				if _, err := p.Write(frame); err != nil {
					return
				}
				if _, err := p.frames.Next(); err != nil {
					return
				}
			}
		})
	}
	waiting := s.dial(t)
	opaque := waiting.send(request(91))
	lot.await(1)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	for !s.isClosing() {
		runtime.Gosched()
	}
	select {
	case err := <-closed:
		t.Fatalf("closed with a request unanswered: %v", err)
	default:
	}
	lot.release()
	if a := waiting.next(); a.Opaque != opaque {
		t.Errorf("answer %+v to what was in flight", a)
	}
	waiting.ended()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := net.Dial("tcp", s.Addr().String()); err == nil {
		t.Error("a closed server accepts connections")
	}
}

func TestClose_CutsOff(t *testing.T) {
	t.Parallel()
	var lot parking
	s := serveOn(t, Config{}, lot.handler(91))
	p := s.dial(t)
	p.send(request(91))
	gaveUp := errors.New("gave up")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(gaveUp)
	if err := s.Close(ctx); !errors.Is(err, gaveUp) {
		t.Errorf("close answers %v", err)
	}
	p.ended()
	lot.release()
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestOpen_Exposed(t *testing.T) {
	t.Parallel()
	b, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	acl := &ACL{accounts: map[string]*account{}}
	trusting := func(global, own string) *ACL {
		acl, err := ParseACL([]byte("globalWhiteRemoteAddresses: ['" + global + "']\naccounts: [{accessKey: operators, secretKey: operators-secret, whiteRemoteAddress: '" + own + "'}]"))
		if err != nil {
			t.Fatal(err)
		}
		return acl
	}
	proven := testTLS(t).server.Clone()
	proven.ClientAuth = tls.RequireAndVerifyClientCert
	for _, test := range []struct {
		name       string
		cfg        Config
		exposed    *ExposedError
		text, need string
	}{
		{"all addresses", Config{Listen: "0.0.0.0:0"}, &ExposedError{Address: "0.0.0.0:0", NoTLS: true, NoACL: true}, "Config.TLS", "Config.ACL"},
		{"no host", Config{Listen: ":0"}, &ExposedError{Address: ":0", NoTLS: true, NoACL: true}, "InsecureListen", "127.0.0.1"},
		{"IPv6", Config{Listen: "[::]:0", ACL: acl}, &ExposedError{Address: "[::]:0", NoTLS: true}, "Config.TLS", "InsecureListen"},
		{"permissive TLS", Config{Listen: "0.0.0.0:0", ACL: acl, TLS: testTLS(t).server, TLSMode: TLSPermissive}, &ExposedError{Address: "0.0.0.0:0", NoTLS: true}, "required TLS", ""},
		{"TLS without accounts", Config{Listen: "0.0.0.0:0", TLS: testTLS(t).server}, &ExposedError{Address: "0.0.0.0:0", NoACL: true}, "Config.ACL", ""},
		{"trust in all", Config{Listen: "0.0.0.0:0", TLS: testTLS(t).server, ACL: trusting("*", "10.0.0.1")}, &ExposedError{Address: "0.0.0.0:0", TrustsAll: true}, "globalWhiteRemoteAddresses", "InsecureListen"},
		{"trust in all by octets", Config{Listen: "0.0.0.0:0", TLS: testTLS(t).server, ACL: trusting("0-255.*.*.*", "10.0.0.1")}, &ExposedError{Address: "0.0.0.0:0", TrustsAll: true}, "certificates of clients", ""},
		{"no signatures from all", Config{Listen: "[::]:0", TLS: testTLS(t).server, ACL: trusting("10.0.0.0/8", "::/0")}, &ExposedError{Address: "[::]:0", TrustsAll: true}, "whiteRemoteAddress", ""},
		{"trust in some", Config{Listen: "0.0.0.0:0", TLS: testTLS(t).server, ACL: trusting("10.*.*.*", "192.168.1.{7,9}"), Advertise: "127.0.0.1:9876"}, nil, "", ""},
		{"trust in all with certificates", Config{Listen: "0.0.0.0:0", TLS: proven, ACL: trusting("*", "*"), Advertise: "127.0.0.1:9876"}, nil, "", ""},
		{"nothing to dial", Config{Listen: "0.0.0.0:0", InsecureListen: true}, nil, "Config.Advertise", ""},
		{"no such name", Config{Listen: "127.0.0.1:0", Advertise: "no.such.invalid:1"}, nil, "Config.Advertise", ""},
		{"TLS and accounts", Config{Listen: "0.0.0.0:0", TLS: testTLS(t).server, ACL: acl, Advertise: "127.0.0.1:9876"}, nil, "", ""},
		{"said to be so", Config{Listen: "0.0.0.0:0", InsecureListen: true, Advertise: "127.0.0.1:9876"}, nil, "", ""},
	} {
		s, err := Open(b, test.cfg)
		// Who only tries meets the same checks; the address that clients dial is
		// looked up when it is served.
		if tried := Try(test.cfg); test.name != "no such name" && fmt.Sprint(tried) != fmt.Sprint(err) {
			t.Errorf("%s: Try says %v, Open %v", test.name, tried, err)
		}
		if test.text == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: the server starts", test.name)
			_ = s.Close(context.Background())
			continue
		}
		if !strings.Contains(err.Error(), test.text) || !strings.Contains(err.Error(), test.need) {
			t.Errorf("%s: %q does not say what to set", test.name, err)
		}
		got, _ := errors.AsType[*ExposedError](err)
		if (got == nil) != (test.exposed == nil) || got != nil && *got != *test.exposed {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.exposed)
		}
	}
}

func TestConfig_ReportsAllProblems(t *testing.T) {
	t.Parallel()
	_, err := Open(nil, Config{
		Cluster: "a/b", Broker: "x", Listen: "nowhere", Advertise: ":1", TLSMode: TLSPermissive,
		DelayLevels: []time.Duration{-1}, Limits: Limits{Frame: 32 << 20, Idle: -1, Topics: -5},
	})
	if err == nil {
		t.Fatal("a wrong configuration is accepted")
	}
	for _, word := range []string{"Cluster", "Listen", "Advertise", "TLSMode", "level 1", "Limits.Frame", "Limits.Idle", "Limits.Topics"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %s", err, word)
		}
	}
}
