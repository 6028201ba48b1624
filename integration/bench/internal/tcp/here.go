package tcp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/server"
	"github.com/sluicemq/sluice/integration/bench/internal/client/raw"
	"github.com/sluicemq/sluice/integration/bench/internal/client/sluice"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// here is our server in this process, as kfake, JetStream and the limits of rows
// 9 and 10 are: with clients of the same process, nobody pays for waking another
// one. It does the same as sluice serve.
type here struct {
	broker *embedded.Broker
	server *server.Server
	addr   string
}

// openHere serves a store in dir, with a topic.
func openHere(dir, topic string) (*here, error) {
	every, err := time.ParseDuration(interval)
	if err != nil {
		return nil, fmt.Errorf("how often to sync: %w", err)
	}
	b, err := embedded.Open(dir, embedded.Config{Sync: embedded.SyncEvery(every)})
	if err != nil {
		return nil, fmt.Errorf("open a store: %w", err)
	}
	s, err := server.Open(b, server.Config{Listen: "127.0.0.1:0", Cluster: "bench", Broker: "here"})
	if err != nil {
		return nil, errors.Join(err, b.Close(context.Background()))
	}
	h := &here{broker: b, server: s, addr: s.Addr().String()}
	if err := raw.MakeTopic(h.addr, topic); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close ends the server in order.
func (h *here) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	return errors.Join(h.server.Close(ctx), h.broker.Close(ctx))
}

// hereBatch sends batches to it.
func hereBatch() row.Step {
	return loop(ownBatchHere, func(dir string) (measure.Publisher, error) {
		h, err := openHere(dir, ownBatchHere)
		if err != nil {
			return nil, err
		}
		p, err := sluice.NewSender(h.addr, ownBatchHere, ownBatchHere, many, batch)
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		return &hereSender{p, h}, nil
	})
}

type hereSender struct {
	*sluice.Sender
	h *here
}

// Close ends the client, then the server.
func (s *hereSender) Close() error { return errors.Join(s.Sender.Close(), s.h.Close()) }

// newHereFlow passes messages through it.
func newHereFlow(dir string, f *measure.Flow, wait bool) (measure.Pipeline, error) {
	h, err := openHere(dir, flow)
	if err != nil {
		return nil, err
	}
	p, err := sluice.NewPipeline(h.addr, flow, publishers, f, wait)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return &herePipeline{p, h}, nil
}

type herePipeline struct {
	*sluice.Pipeline
	h *here
}

// Close ends the client, then the server.
func (p *herePipeline) Close() error { return errors.Join(p.Pipeline.Close(), p.h.Close()) }
