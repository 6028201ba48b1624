package tcp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// dialAgain connects as soon as the server is there; nil when ctx ends first.
func dialAgain(ctx context.Context, addr string, handler func(*remoting.Command) *remoting.Command) *rpc.Conn {
	for {
		conn, err := rpc.Dial(ctx, "tcp", addr, rpc.Options{Handler: handler})
		if err == nil {
			return conn
		}
		if !pause(ctx, 5*time.Millisecond) {
			return nil
		}
	}
}

// alive reports whether a connection is still there.
func alive(conn *rpc.Conn) bool { return conn.Err() == nil }

// request is a command without a body.
func request(code int, fields interface{ AppendTo(*remoting.Fields) }) *remoting.Command {
	c := &remoting.Command{Code: code}
	fields.AppendTo(&c.Fields)
	return c
}

// unanswered says that a server which is there gave no answer in time.
var errUnanswered = errors.New("no answer in time")

// call waits for an answer for a while; the error is errUnanswered if the
// connection is there all the same.
func call(ctx context.Context, conn *rpc.Conn, req *remoting.Command) (*remoting.Command, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errUnanswered)
	defer cancel()
	return conn.Call(ctx, req)
}

// done is call for a request that has to succeed.
func done(ctx context.Context, conn *rpc.Conn, req *remoting.Command) (*remoting.Command, error) {
	a, err := call(ctx, conn, req)
	if err == nil && a.Code != remoting.ResSuccess {
		err = &refusedError{req.Code, a.Code, a.Remark}
	}
	return a, err
}

// refusedError is an answer that is no success.
type refusedError struct {
	request, code int
	remark        string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s was answered %d: %s", remoting.RequestName(e.request), e.code, e.remark)
}

// complain notes an error that no kill explains: a refusal, or silence.
func (l *ledger) complain(what string, err error) {
	var refused *refusedError
	if errors.As(err, &refused) || errors.Is(err, errUnanswered) {
		l.bad("%s: %v", what, err)
	}
}

// certainly reports whether a request that failed was not done.
func certainly(err error) bool {
	var e *rpc.Error
	return errors.As(err, &e) && !e.MaybeDone
}
