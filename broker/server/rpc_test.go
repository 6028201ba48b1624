package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// TestRPC goes with our own client through the ways to connect: many requests
// at a time, out of order, with requests in both directions.
func TestRPC(t *testing.T) {
	t.Parallel()
	pki := testTLS(t)
	pki.server.ClientCAs, pki.server.ClientAuth = pki.roots, tls.VerifyClientCertIfGiven
	acl := testACL(t)
	for _, test := range []struct {
		name string
		cfg  Config
		opts rpc.Options
	}{
		{"plain", Config{}, rpc.Options{}},
		{"signed", Config{ACL: acl}, rpc.Options{AccessKey: plainKey, SecretKey: plainSecret}},
		{"signed by SHA-256", Config{ACL: acl}, rpc.Options{AccessKey: plainKey, SecretKey: plainSecret, SHA256: true}},
		{"TLS", Config{TLS: pki.server}, rpc.Options{TLS: pki.client}},
		{"TLS beside plain, signed", Config{TLS: pki.server, TLSMode: TLSPermissive, ACL: acl}, rpc.Options{TLS: pki.client, AccessKey: plainKey, SecretKey: plainSecret, SHA256: true}},
		{"plain beside TLS", Config{TLS: pki.server, TLSMode: TLSPermissive}, rpc.Options{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			asks := handler{code: 91, apart: true, serve: func(s *Server, c *conn, req, resp *remoting.Command) error {
				a, err := c.call(s.root, request(remoting.ReqGetConsumerRunningInfo, "clientId", req.Fields.Get("n")))
				if err != nil {
					return err
				}
				resp.Body = a.Body
				return nil
			}}
			s := serveOn(t, test.cfg, echo, asks)
			opts := test.opts
			opts.Handler = func(cmd *remoting.Command) *remoting.Command {
				return &remoting.Command{Body: []byte("client " + cmd.Fields.Get("clientId"))}
			}
			c, err := rpc.Dial(t.Context(), "tcp", s.Addr().String(), opts)
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() { converse(t, c, i) })
			}
			wg.Wait()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func converse(t *testing.T, c *rpc.Conn, i int) {
	for j := range 20 {
		code, want := 90, "body"
		if j%4 == 0 {
			code, want = 91, fmt.Sprintf("client %d-%d", i, j)
		}
		cmd := request(code, "n", fmt.Sprintf("%d-%d", i, j))
		cmd.Body = []byte("body")
		a, err := c.Call(t.Context(), cmd)
		if err != nil {
			t.Errorf("request %d-%d: %v", i, j, err)
			return
		}
		if a.Code != 0 || string(a.Body) != want {
			t.Errorf("request %d-%d: answer %d %q %q", i, j, a.Code, a.Remark, a.Body)
		}
	}
}

// TestRPC_ServerEnds: a client whose server ends hears whether its request may
// have been done.
func TestRPC_ServerEnds(t *testing.T) {
	t.Parallel()
	var lot parking
	s := serveOn(t, Config{}, lot.handler(91), echo)
	c, err := rpc.Dial(t.Context(), "tcp", s.Addr().String(), rpc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Call(t.Context(), request(90)); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := c.Call(context.Background(), request(91))
		failed <- err
	}()
	lot.await(1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close answers %v", err)
	}
	if e, ok := errors.AsType[*rpc.Error](<-failed); !ok || !e.MaybeDone {
		t.Errorf("the request ends with %v, want one that may have been done", e)
	}
}
