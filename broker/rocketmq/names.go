package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// nameServers asks one of several name servers: the one that answered last, and
// when it does not answer, the next one.
type nameServers struct {
	addrs   []string
	links   *links
	timeout time.Duration // for one server, connecting included
	last    atomic.Int32
}

// opinion is how long other name servers may take when one has said that it
// knows nothing of what was asked: that is an answer, and mostly the right one.
const opinion = 500 * time.Millisecond

// ask asks until one answers, whatever the code. The time that ctx leaves is
// shared among those still to be asked, and one that did not answer is not the
// first of the next question: a name server that is silent delays one of them.
// One that knows nothing of what was asked may just have come back; its answer
// counts if no other soon says that it knows more.
func (n *nameServers) ask(ctx context.Context, req *remoting.Command) (*remoting.Command, string, error) {
	first := int(n.last.Load())
	most := n.timeout
	var errs []error
	var ignorant *remoting.Command
	var who string
	for i := range n.addrs {
		at := (first + i) % len(n.addrs)
		a, err := n.links.call(ctx, portion(ctx, most, len(n.addrs)-i), n.addrs[at], req)
		if err == nil {
			if knowsNothing(req.Code, a) {
				ignorant, who, most = a, n.addrs[at], min(most, opinion)
				continue
			}
			return a, n.addrs[at], nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		n.last.CompareAndSwap(int32(at), int32((at+1)%len(n.addrs)))
	}
	if ignorant != nil {
		return ignorant, who, nil
	}
	return nil, "", fmt.Errorf("no name server answers: %w", errors.Join(errs...))
}

// refusedRoute makes the error of a name server that did not answer with a route.
func refusedRoute(op, addr string, a *remoting.Command) *driver.Error {
	e := refused(op, addr, a)
	if a.Code == remoting.ResUnsupported {
		e.Err = fmt.Errorf("not a name server: %w", e.Err) // they know routes, and brokers do not
	}
	return e
}

// portion is how long one of several servers, or of several steps, may take, at
// most, while so many are left in what is left of ctx.
func portion(ctx context.Context, most time.Duration, left int) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(most, time.Until(end)/time.Duration(left))
	}
	return most
}

// knowsNothing reports whether a name server does not know the topic or any
// broker.
func knowsNothing(code int, a *remoting.Command) bool {
	switch code {
	case remoting.ReqGetRoute:
		return a.Code == remoting.ResTopicNotExist
	case remoting.ReqGetClusterInfo:
		info, err := remoting.DecodeClusterInfo(a.Body)
		return a.Code == remoting.ResSuccess && err == nil && len(info.Brokers) == 0
	default:
		return false
	}
}
