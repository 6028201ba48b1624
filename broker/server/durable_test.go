package server

import (
	"testing"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// A panic of who answers what has waited for the disk is that request's own, as
// it is of who answers at once.
func TestDurable_Panic(t *testing.T) {
	t.Parallel()
	s := startStore(t, t.TempDir(), Config{Listen: "127.0.0.1:0"}, nil, []handler{{
		code: 91, serve: func(s *Server, c *conn, req, resp *remoting.Command) error {
			return c.await(s.store.Put([]embedded.Put{{Topic: "T", Body: []byte("b")}}), req, resp, panicking{})
		},
	}})
	s.topic(t, "T", 1)
	p := s.dial(t)
	for range 2 {
		if a := p.wantCode(remoting.ResSystemError, request(91)); a.Remark != "serve request type 91: internal failure, see the log of the server" {
			t.Errorf("remark %q", a.Remark)
		}
		p.mustSend(outgoing("T", 0, "b", ""))
	}
	if got := s.Stats().Panics; got != 2 {
		t.Errorf("%d panics are counted, want 2", got)
	}
}

type panicking struct{}

func (panicking) answer(*Server, []embedded.PutResult, *remoting.Command) error { panic("on purpose") }
