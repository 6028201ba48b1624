package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// pki is a certificate authority of a test, with a server and a client.
type pki struct {
	server, client *tls.Config
	roots          *x509.CertPool
}

var sharedPKI = sync.OnceValues(newPKI)

func testTLS(t *testing.T) pki {
	t.Helper()
	p, err := sharedPKI()
	if err != nil {
		t.Fatal(err)
	}
	p.server, p.client = p.server.Clone(), p.client.Clone()
	return p
}

func newPKI() (pki, error) {
	template := func(n int64, ca bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pki{}, err
	}
	ca := template(1, true)
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return pki{}, err
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		return pki{}, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	leaf := func(n int64) (tls.Certificate, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tls.Certificate{}, err
		}
		der, err := x509.CreateCertificate(rand.Reader, template(n, false), ca, key.Public(), caKey)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
	}
	server, err := leaf(2)
	if err != nil {
		return pki{}, err
	}
	client, err := leaf(3)
	if err != nil {
		return pki{}, err
	}
	return pki{
		server: &tls.Config{Certificates: []tls.Certificate{server}},
		client: &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: roots},
		roots:  roots,
	}, nil
}

func (b *bundle) dialTLS(t *testing.T, cfg *tls.Config) (*peer, error) {
	t.Helper()
	d := tls.Dialer{Config: cfg}
	c, err := d.DialContext(t.Context(), "tcp", b.Addr().String())
	if err != nil {
		return nil, err
	}
	return newPeer(t, c), nil
}

func TestTLS_OnTheSamePort(t *testing.T) {
	t.Parallel()
	p := testTLS(t)
	for _, mode := range []TLSMode{TLSRequired, TLSPermissive} {
		s := serveOn(t, Config{TLS: p.server, TLSMode: mode}, echo)
		secure, err := s.dialTLS(t, p.client)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 100, 1 << 20} {
			cmd := request(90)
			cmd.Body = make([]byte, size)
			if a := secure.must(cmd); len(a.Body) != size {
				t.Errorf("%v: body of %d bytes, want %d", mode, len(a.Body), size)
			}
		}
		plain := s.dial(t)
		if mode == TLSRequired {
			_, _ = plain.Write(frameOf(t, request(90)))
			plain.ended()
		} else {
			plain.must(request(90))
		}
		old := p.client.Clone()
		old.MaxVersion = tls.VersionTLS11
		if _, err := s.dialTLS(t, old); err == nil {
			t.Errorf("%v: TLS 1.1 is spoken", mode)
		}
		if _, err := s.dialTLS(t, &tls.Config{}); err == nil { //nolint:gosec // must fail: the authority is unknown
			t.Errorf("%v: a client trusts an unknown authority", mode)
		}
		secure.must(request(90))
	}
}

func TestTLS_Mutual(t *testing.T) {
	t.Parallel()
	p := testTLS(t)
	p.server.ClientCAs, p.server.ClientAuth = p.roots, tls.RequireAndVerifyClientCert
	s := serveOn(t, Config{TLS: p.server}, echo)
	known, err := s.dialTLS(t, p.client)
	if err != nil {
		t.Fatal(err)
	}
	known.must(request(90))
	stranger, err := s.dialTLS(t, &tls.Config{RootCAs: p.roots})
	if err == nil { // with TLS 1.3 the refusal comes after the client's half of the handshake
		_, _ = stranger.Write(frameOf(t, request(90)))
		stranger.ended()
	}
	for s.Stats().Connections > 1 { // the stranger's is being taken down
		runtime.Gosched()
	}
	known.must(request(90))
}

// TestTLS_PermissiveIsTold: certificates that are asked for keep nobody out who
// comes by a plain connection, which an operator has to hear of.
func TestTLS_PermissiveIsTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode TLSMode
		auth tls.ClientAuthType
		told bool
	}{
		{TLSPermissive, tls.RequireAndVerifyClientCert, true},
		{TLSPermissive, tls.NoClientCert, false},
		{TLSRequired, tls.RequireAndVerifyClientCert, false},
	} {
		p := testTLS(t)
		p.server.ClientCAs, p.server.ClientAuth = p.roots, test.auth
		var log syncBuffer
		serveOn(t, Config{
			TLS: p.server, TLSMode: test.mode, Logger: slog.New(slog.NewTextHandler(&log, nil)), Settings: map[string]string{"Config.TLSMode: TLSRequired": "-tls-mode required"},
		})
		const want = `level=WARN msg="plain connections are served, too, and no certificate is asked of them" closed_by="-tls-mode required"`
		if strings.Contains(log.String(), want) != test.told {
			t.Errorf("%v, %v: logged\n%s", test.mode, test.auth, log.String())
		}
	}
}

// TestTLS_ClosesWithGoodbye: a client that waits sees the end of the stream,
// not an error of the transport.
func TestTLS_ClosesWithGoodbye(t *testing.T) {
	t.Parallel()
	p := testTLS(t)
	s := serveOn(t, Config{TLS: p.server}, echo)
	c, err := s.dialTLS(t, p.client)
	if err != nil {
		t.Fatal(err)
	}
	c.must(request(90))
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || err.Error() != "EOF" {
		t.Errorf("read answers %v, want EOF", err)
	}
}
