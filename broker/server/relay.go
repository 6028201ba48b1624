package server

import (
	"context"
	"errors"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// How long a client may take to answer what it is asked, as with RocketMQ.
const (
	relayWait  = 10 * time.Second
	statusWait = 5 * time.Second
)

// The oldest releases of clients that know the requests of a broker.
const (
	versionResets      = 28 // 3.0.7: 220 and 221
	versionRunningInfo = 62 // 3.1.8: 307 and 309
)

// errNoAnswer says that a client was asked and has not answered in time.
var errNoAnswer = errors.New("the client has not answered in time")

// ask asks a client. What it did not answer in time is refused with 207.
func (s *Server) ask(m client, wait time.Duration, cmd *remoting.Command) (*remoting.Command, error) {
	ctx, cancel := context.WithTimeoutCause(s.root, wait, errNoAnswer)
	defer cancel()
	answer, err := m.conn.call(ctx, cmd)
	if errors.Is(err, errNoAnswer) {
		return nil, refuse(remoting.ResConsumeMessageTimeout, "client %s at %s has not answered in %v", m.id, m.conn.remote, wait)
	}
	return answer, err
}

// relay sends an operator's request to a client, and the answer back. The
// client sees everything but who has signed the request, and how.
func (s *Server) relay(m client, req, resp *remoting.Command) error {
	cmd := &remoting.Command{Code: req.Code, Body: req.Body}
	for _, f := range req.Fields {
		if !ofSignature(f.Name) {
			cmd.Fields = append(cmd.Fields, f)
		}
	}
	answer, err := s.ask(m, relayWait, cmd)
	if err != nil {
		return err
	}
	resp.Code, resp.Remark, resp.Fields, resp.Body = answer.Code, answer.Remark, answer.Fields, answer.Body
	return nil
}

// consumerOf finds the member that a request is to be relayed to.
func (s *Server) consumerOf(group, id string) (client, error) {
	m, ok := s.clients.member(group, id)
	if !ok {
		return m, refuse(remoting.ResSystemError, "The Consumer <%.255s> <%.255s> not online", group, id)
	}
	if m.version < versionRunningInfo {
		return m, refuse(remoting.ResSystemError, "client %s is of version %d, which does not know this request", id, m.version)
	}
	return m, nil
}

// ofSignature reports whether a field says who has signed a request, and how.
func ofSignature(name string) bool {
	switch name {
	case remoting.FieldAccessKey, remoting.FieldSignature, remoting.FieldSecurityToken, remoting.FieldSignTime, remoting.FieldSignNonce:
		return true
	default:
		return false
	}
}
