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

// ask asks until one answers, whatever the code.
func (n *nameServers) ask(ctx context.Context, req *remoting.Command) (*remoting.Command, string, error) {
	first := int(n.last.Load())
	var errs []error
	for i := range n.addrs {
		at := (first + i) % len(n.addrs)
		a, err := n.links.call(ctx, n.timeout, n.addrs[at], req)
		if err == nil {
			n.last.Store(int32(at))
			return a, n.addrs[at], nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", fmt.Errorf("no name server answers: %w", errors.Join(errs...))
}
