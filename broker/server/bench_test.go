package server

import (
	"io"
	"net"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// BenchmarkServe_Pipelined is what a request costs beside its handler: decode,
// dispatch, answer, with 64 in flight on one connection over loopback.
func BenchmarkServe_Pipelined(b *testing.B) {
	broker, err := embedded.Open("", embedded.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = broker.Close(b.Context()) }()
	s := newServer(broker, Config{Listen: "127.0.0.1:0"}.withDefaults())
	s.table = newLookup([]handler{{code: 90, serve: func(_ *Server, _ *conn, req, resp *remoting.Command) error {
		resp.Fields.Add("msgId", req.Fields.Get("msgId"))
		return nil
	}}})
	if err := s.open(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close(b.Context()) }()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	const inFlight = 64
	var batch []byte
	for range inFlight {
		cmd := &remoting.Command{Code: 90, Body: make([]byte, 1024)}
		cmd.Fields.Add("msgId", "7F0000010000000000000000000000000000")
		if batch, err = remoting.AppendFrame(batch, cmd); err != nil {
			b.Fatal(err)
		}
	}
	answers := remoting.NewReader(c, remoting.Limits{})
	b.ReportAllocs()
	for left := b.N; left > 0; left -= inFlight {
		if _, err := c.Write(batch); err != nil {
			b.Fatal(err)
		}
		for range inFlight {
			if _, err := answers.Next(); err != nil && err != io.EOF { //nolint:errorlint // Next answers it bare
				b.Fatal(err)
			}
		}
	}
}
