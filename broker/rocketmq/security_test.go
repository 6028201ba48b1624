package rocketmq_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/rocketmq"
	"github.com/sluicemq/sluice/broker/server"
)

const testKey, testSecret = "billing", "billing-secret"

// guarded makes a server of the network refuse what is not signed; codes are
// those of the requests that came.
func (s *node) guarded(t *testing.T, mu *sync.Mutex, codes map[int]int) {
	inner := s.handle
	s.handle = func(p *peer, req *remoting.Command) *remoting.Command {
		if req.Fields.Get(remoting.FieldAccessKey) != testKey || !remoting.Verify(testSecret, req) {
			t.Errorf("request %d at %s is not signed, or wrongly", req.Code, s.addr)
			return &remoting.Command{Code: remoting.ResNoPermission, Remark: "signature does not match"}
		}
		mu.Lock()
		codes[req.Code]++
		mu.Unlock()
		return inner(p, req)
	}
}

// Every request of a client is signed: to name servers and brokers, the first
// one and those that are repeated, and what is sent when it leaves.
func TestSignature_EveryRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a", "b")
		c.topic("t", 2)
		var mu sync.Mutex
		codes := map[int]int{}
		for _, s := range []*node{c.names[0], c.names[1], c.brokers["a"].master, c.brokers["b"].master} {
			s.guarded(t, &mu, codes)
		}
		busy := 2
		for _, p := range c.brokers {
			p.onSend = func(remoting.SendMessage, int) *remoting.Command {
				mu.Lock()
				defer mu.Unlock()
				if busy == 0 {
					return nil
				}
				busy--
				return &remoting.Command{Code: remoting.ResSystemBusy}
			}
		}
		c.names[0].set(silent)
		conn := c.open(rocketmq.Config{AccessKey: testKey, SecretKey: testSecret}, "client")
		m := newConsumer(t)
		m.join(conn, inOrder)
		for sent := 0; sent < 3; {
			if r := sendOne(t.Context(), conn, &driver.Message{Topic: "t"}); r.Err == nil {
				sent++
			}
		}
		time.Sleep(2 * time.Minute)
		c.names[0].set(up)
		c.names[1].set(silent)
		time.Sleep(2 * time.Minute)
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := m.came(); len(got) != 3 {
			t.Errorf("%d of 3 messages came", len(got))
		}
		mu.Lock()
		defer mu.Unlock()
		for _, code := range []int{
			remoting.ReqGetRoute, remoting.ReqSendMessageV2, remoting.ReqPullMessage, remoting.ReqHeartbeat, remoting.ReqLockBatch, remoting.ReqUnlockBatch,
			remoting.ReqQueryConsumerOffset, remoting.ReqUpdateConsumerOffset, remoting.ReqGetConsumerListByGroup, remoting.ReqGetConsumerConnections,
			remoting.ReqUnregisterClient,
		} {
			if codes[code] == 0 {
				t.Errorf("no request %d came; the test does not see it", code)
			}
		}
	})
}

// Name servers ask nobody for a key, so a wrong one is noticed by the first
// broker: a send is told, and a member that gets nothing says why in its log.
func TestSignature_WrongAtBrokers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a")
		c.topic("t", 2)
		c.brokers["a"].master.handle = func(*peer, *remoting.Command) *remoting.Command {
			return &remoting.Command{Code: remoting.ResNoPermission, Remark: "signature does not match"}
		}
		var log strings.Builder
		conn := c.open(rocketmq.Config{
			AccessKey: testKey, SecretKey: "guessed", Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		}, "client")
		err := sendOne(t.Context(), conn, &driver.Message{Topic: "t"}).Err
		e, ok := errors.AsType[*driver.Error](err)
		if !ok || e.Code != driver.PermissionDenied || e.Retryable || !strings.Contains(err.Error(), "signature does not match") {
			t.Errorf("send: %v", err)
		}
		newConsumer(t).join(conn, spec)
		time.Sleep(90 * time.Second)
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "signature does not match"); n < 1 || n > 4 {
			t.Errorf("the member has told %d times in 90s why it gets nothing:\n%s", n, log.String())
		}
	})
}

// authority makes certificates for a server on loopback; the client's side trusts
// them.
func authority(t *testing.T) (serving, dialing *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

// A client with TLS and an account works with a broker that asks for both, and
// one that lacks or has the wrong one is told which.
func TestSecurity_BundledBroker(t *testing.T) {
	t.Parallel()
	serving, dialing := authority(t)
	_, strange := authority(t)
	acl, err := server.ParseACL([]byte("accounts:\n  - accessKey: " + testKey + "\n    secretKey: " + testSecret + "\n    admin: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	broker, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(broker, server.Config{Listen: "127.0.0.1:0", TLS: serving, ACL: acl})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(s.Close(ctx), broker.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	open := func(cfg rocketmq.Config) (driver.Conn, error) {
		cfg.NameServers, cfg.OffsetDir, cfg.Timeout = []string{s.Addr().String()}, t.TempDir(), time.Second
		return rocketmq.New(cfg).Open(t.Context(), driver.Config{ClientID: "client"})
	}
	for name, test := range map[string]struct {
		cfg  rocketmq.Config
		code driver.Code
		want string // in the error
	}{
		"a wrong secret":    {rocketmq.Config{TLS: dialing, AccessKey: testKey, SecretKey: "guessed"}, driver.PermissionDenied, "signature does not match"},
		"an unknown key":    {rocketmq.Config{TLS: dialing, AccessKey: "stranger", SecretKey: testSecret}, driver.PermissionDenied, "stranger"},
		"no account":        {rocketmq.Config{TLS: dialing}, driver.PermissionDenied, "not signed"},
		"another authority": {rocketmq.Config{TLS: strange, AccessKey: testKey, SecretKey: testSecret}, driver.Unavailable, "certificate"},
		"no TLS":            {rocketmq.Config{AccessKey: testKey, SecretKey: testSecret}, driver.Unavailable, "no name server answers"},
	} {
		conn, err := open(test.cfg)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		if driver.CodeOf(err) != test.code || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v (%v), want %v that says %q", name, err, driver.CodeOf(err), test.code, test.want)
		}
	}
	conn, err := open(rocketmq.Config{TLS: dialing, AccessKey: testKey, SecretKey: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: "t", Queues: 2}); err != nil {
		t.Fatal(err)
	}
	m := newConsumer(t)
	m.join(conn, spec)
	fill(t, conn, "t", 0, 10)
	for end := time.Now().Add(10 * time.Second); len(m.came()) < 10 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if got := m.bodies(); !slices.Equal(got, numbered(10)) {
		t.Errorf("there came %q", got)
	}
}
