package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

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

// ask asks until one answers, whatever the code. One that knows nothing of what
// was asked may just have come back; its answer counts if no other knows more.
func (n *nameServers) ask(ctx context.Context, req *remoting.Command) (*remoting.Command, string, error) {
	first := int(n.last.Load())
	var errs []error
	var ignorant *remoting.Command
	var who string
	for i := range n.addrs {
		at := (first + i) % len(n.addrs)
		a, err := n.one(ctx, n.addrs[at], req)
		if err == nil {
			if knowsNothing(req.Code, a) {
				ignorant, who = a, n.addrs[at]
				continue
			}
			n.last.Store(int32(at))
			return a, n.addrs[at], nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if ignorant != nil && ctx.Err() == nil {
		return ignorant, who, nil
	}
	return nil, "", fmt.Errorf("no name server answers: %w", errors.Join(errs...))
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

func (n *nameServers) one(ctx context.Context, addr string, req *remoting.Command) (*remoting.Command, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, n.timeout, errAttempt)
	defer cancel()
	return n.links.call(ctx, addr, req)
}
