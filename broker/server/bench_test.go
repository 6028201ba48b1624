package server

import (
	"net"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// BenchmarkServe_Pipelined is what a request costs beside its handler: decode,
// dispatch, answer, with 64 in flight on one connection over loopback.
func BenchmarkServe_Pipelined(b *testing.B) {
	cmd := &remoting.Command{Code: 90, Body: make([]byte, 1024)}
	cmd.Fields.Add("msgId", "7F0000010000000000000000000000000000")
	pipelined(b, cmd, handler{code: 90, serve: func(_ *Server, _ *conn, req, resp *remoting.Command) error {
		resp.Fields.Add("msgId", req.Fields.Get("msgId"))
		return nil
	}})
}

// BenchmarkSend_Pipelined is the same for a message of 1 KiB, as Java clients
// send it, into a store in memory.
func BenchmarkSend_Pipelined(b *testing.B) {
	x := remoting.SendMessage{
		ProducerGroup: "PG", Topic: "T", DefaultTopic: "TBW102", DefaultTopicQueues: 4, QueueID: 3, BornTimestamp: 1_700_000_000_000,
		Properties: props("UNIQ_KEY", "0A00000110925FFD2B27000003E80000", "WAIT", "true", "TAGS", "TagA"), MaxReconsumeTimes: -1,
	}
	pipelined(b, sending(remoting.ReqSendMessageV2, x, string(make([]byte, 1024))))
}

// BenchmarkPull_Pipelined is a pull of 32 messages of 1 KiB; divide by 32.
func BenchmarkPull_Pipelined(b *testing.B) {
	x := remoting.SendMessage{Topic: "T", DefaultTopic: "TBW102", DefaultTopicQueues: 4, QueueID: 3, Properties: props("TAGS", "TagA"), MaxReconsumeTimes: -1}
	pipelined(b, pullCommand(pulling("G", "T", 3, 0)), handler{code: 90, serve: func(s *Server, c *conn, _, resp *remoting.Command) error {
		for range 32 {
			if err := handleSend(s, c, sending(remoting.ReqSendMessageV2, x, string(make([]byte, 1024))), &remoting.Command{}); err != nil {
				return err
			}
		}
		return nil
	}})
}

// pipelined measures one request with 64 in flight; further handlers are called
// once before.
func pipelined(b *testing.B, cmd *remoting.Command, extra ...handler) {
	broker, err := embedded.Open("", embedded.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = broker.Close(b.Context()) }()
	s := newServer(broker, Config{Listen: "127.0.0.1:0"}.withDefaults())
	s.table = newLookup(append(handlers(), extra...))
	if err := s.open(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close(b.Context()) }()
	if err := s.store.PutTopic(b.Context(), embedded.Topic{Name: "T", Queues: 4}); err != nil {
		b.Fatal(err)
	}
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	answers := remoting.NewReader(c, remoting.Limits{})
	var answer remoting.Command
	exchange := func(batch []byte, n int) {
		if _, err := c.Write(batch); err != nil {
			b.Fatal(err)
		}
		for range n {
			frame, err := answers.Next()
			if err != nil {
				b.Fatal(err)
			}
			if err := remoting.Decode(frame, &answer, remoting.Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, h := range extra {
		first, err := remoting.AppendFrame(nil, &remoting.Command{Code: h.code})
		if err != nil {
			b.Fatal(err)
		}
		exchange(first, 1)
	}
	const inFlight = 64
	var batch []byte
	for range inFlight {
		if batch, err = remoting.AppendFrame(batch, cmd); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for left := b.N; left > 0; left -= inFlight {
		exchange(batch, inFlight)
	}
}
