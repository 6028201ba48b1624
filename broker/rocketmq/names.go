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

// ask asks until one answers, whatever the code. The time that ctx leaves is
// shared among those still to be asked, and one that did not answer is not the
// first of the next question: a name server that is silent delays one of them.
func (n *nameServers) ask(ctx context.Context, req *remoting.Command) (*remoting.Command, string, error) {
	first := int(n.last.Load())
	var errs []error
	for i := range n.addrs {
		at := (first + i) % len(n.addrs)
		a, err := n.links.call(ctx, n.share(ctx, len(n.addrs)-i), n.addrs[at], req)
		if err == nil {
			return a, n.addrs[at], nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		n.last.CompareAndSwap(int32(at), int32((at+1)%len(n.addrs)))
	}
	return nil, "", fmt.Errorf("no name server answers: %w", errors.Join(errs...))
}

// share is how long one server may take while so many are left to be asked.
func (n *nameServers) share(ctx context.Context, left int) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(n.timeout, time.Until(end)/time.Duration(left))
	}
	return n.timeout
}
