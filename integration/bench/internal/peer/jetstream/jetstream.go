// Package jetstream drives NATS JetStream in this process, without a listener
// or over loopback.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	client "github.com/nats-io/nats.go/jetstream"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	streamName = "BENCH"
	subject    = "bench.a"
	// maxClients is how many connections producers share: more cost the server
	// more than they give.
	maxClients = 8
	startLimit = 30 * time.Second
)

// Config says how a server runs; the zero value is one client of a server that
// writes each message before its answer and syncs every two minutes, which is
// its default.
type Config struct {
	// SyncAlways: every message is synced before its answer.
	SyncAlways bool
	// Loopback: clients connect over loopback instead of by a pipe.
	Loopback bool
	// Clients is how many connections there are; fewer than asked for if that
	// is more than the server likes.
	Clients int
}

// Server is a server in this process, and clients.
type Server struct {
	server  *server.Server
	conns   []*nats.Conn
	clients []client.JetStream
}

// Start opens the store in dir, and makes its one stream if it is new.
func Start(dir string, c Config) (*Server, error) {
	s, err := server.NewServer(&server.Options{
		JetStream: true, StoreDir: dir, SyncAlways: c.SyncAlways, NoSigs: true, NoLog: true,
		DontListen: !c.Loopback, Host: "127.0.0.1", Port: server.RANDOM_PORT,
	})
	if err != nil {
		return nil, fmt.Errorf("make JetStream server: %w", err)
	}
	j := &Server{server: s}
	s.Start()
	if !s.ReadyForConnections(startLimit) {
		return nil, errors.Join(errors.New("the JetStream server is not ready"), j.Close())
	}
	for range min(max(c.Clients, 1), maxClients) {
		if err := j.connect(c.Loopback); err != nil {
			return nil, errors.Join(err, j.Close())
		}
	}
	_, err = j.clients[0].CreateOrUpdateStream(context.Background(), client.StreamConfig{
		Name: streamName, Subjects: []string{"bench.>"}, Storage: client.FileStorage,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make stream: %w", err), j.Close())
	}
	return j, nil
}

func (j *Server) connect(loopback bool) error {
	url, way := "", nats.InProcessServer(j.server)
	if loopback {
		url, way = j.server.ClientURL(), nats.Name(streamName)
	}
	nc, err := nats.Connect(url, way)
	if err != nil {
		return fmt.Errorf("connect to JetStream: %w", err)
	}
	j.conns = append(j.conns, nc)
	js, err := client.New(nc, client.WithPublishAsyncMaxPending(1<<16))
	if err != nil {
		return fmt.Errorf("make JetStream client: %w", err)
	}
	j.clients = append(j.clients, js)
	return nil
}

func (j *Server) client(worker int) client.JetStream { return j.clients[worker%len(j.clients)] }

// Close ends clients and server.
func (j *Server) Close() error {
	for _, nc := range j.conns {
		nc.Close()
	}
	j.server.Shutdown()
	j.server.WaitForShutdown()
	return nil
}

// Wait publishes one message and waits for its answer.
type Wait struct {
	*Server
	body []byte
}

// NewWait is a [measure.Publisher] in dir.
func NewWait(dir string, c Config) (*Wait, error) {
	j, err := Start(dir, c)
	if err != nil {
		return nil, err
	}
	return &Wait{j, measure.Body()}, nil
}

// Publish stores one message.
func (j *Wait) Publish(worker int) (int, error) {
	_, err := j.client(worker).Publish(context.Background(), subject, j.body)
	return 1, err
}

// Window keeps a window of messages without an answer.
type Window struct {
	*Server
	body    []byte
	size    int
	windows [][]client.PubAckFuture
}

// NewWindow is a [measure.Publisher] in dir for so many workers.
func NewWindow(dir string, c Config, workers int) (*Window, error) {
	c.Clients = workers
	j, err := Start(dir, c)
	if err != nil {
		return nil, err
	}
	return &Window{j, measure.Body(), max(1024/workers, 32), make([][]client.PubAckFuture, workers)}, nil
}

// Publish fills the window of the worker and waits for the older half of it.
func (j *Window) Publish(worker int) (int, error) {
	window := j.windows[worker]
	for len(window) < j.size {
		answer, err := j.client(worker).PublishAsync(subject, j.body)
		if err != nil {
			return 0, err
		}
		window = append(window, answer)
	}
	half := j.size / 2
	if err := await(window[:half]); err != nil {
		return 0, err
	}
	j.windows[worker] = append(window[:0], window[half:]...)
	return half, nil
}

func await(answers []client.PubAckFuture) error {
	for _, a := range answers {
		select {
		case <-a.Ok():
		case err := <-a.Err():
			return err
		}
	}
	return nil
}

// Fill makes a store in dir with so many messages waiting.
func Fill(dir string, messages int) error {
	j, err := Start(dir, Config{})
	if err != nil {
		return err
	}
	body := measure.Body()
	var window []client.PubAckFuture
	for i := 0; i < messages && err == nil; i++ {
		var a client.PubAckFuture
		if a, err = j.client(0).PublishAsync(subject, body); err == nil {
			window = append(window, a)
		}
		if len(window) == 2048 && err == nil {
			err = await(window[:1024])
			window = append(window[:0], window[1024:]...)
		}
	}
	return errors.Join(err, await(window), j.Close())
}

// consume hands every message to handle and acknowledges it by itself, which
// is what explicit acknowledgement asks for. settled is called after that.
func (j *Server) consume(worker int, name string, handle func(body []byte), settled func()) (client.ConsumeContext, error) {
	c, err := j.client(worker).CreateOrUpdateConsumer(context.Background(), streamName, client.ConsumerConfig{
		Durable: name, AckPolicy: client.AckExplicitPolicy, MaxAckPending: 20_000,
	})
	if err != nil {
		return nil, fmt.Errorf("make consumer: %w", err)
	}
	return c.Consume(func(m client.Msg) {
		handle(m.Data())
		if m.Ack() == nil {
			settled()
		}
	}, client.PullMaxMessages(1000))
}

// Drain opens the store in dir and gives the consumer, which must be
// new, so many messages; it answers microseconds for each.
func Drain(dir, consumer string, messages int) (us float64, err error) {
	j, err := Start(dir, Config{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	var begin time.Time
	seen, done := 0, make(chan time.Duration, 1)
	cc, err := j.consume(0, consumer, func([]byte) {
		if seen == 0 {
			begin = time.Now()
		}
	}, func() {
		if seen++; seen == messages {
			done <- time.Since(begin)
		}
	})
	if err != nil {
		return 0, err
	}
	defer cc.Stop()
	return measure.Micros(<-done) / float64(messages), nil
}

// Pipeline is publishers on one connection and a consumer on another.
type Pipeline struct {
	*Server
	body    []byte
	wait    bool
	consume client.ConsumeContext
}

// NewPipeline is a [measure.Pipeline] in dir that reports to f. With
// wait publishers wait for each answer.
func NewPipeline(dir string, c Config, f *measure.Flow, wait bool) (*Pipeline, error) {
	c.Clients = 2
	j, err := Start(dir, c)
	if err != nil {
		return nil, err
	}
	cc, err := j.consume(1, "flow", f.Handled, func() { f.Settled(1) })
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return &Pipeline{j, measure.Body(), wait, cc}, nil
}

// Publish stores one message. The client keeps the body until the answer.
func (p *Pipeline) Publish(_ int, stamp int64) error {
	body := slices.Clone(p.body)
	measure.PutStamp(body, stamp)
	if p.wait {
		_, err := p.client(0).Publish(context.Background(), subject, body)
		return err
	}
	_, err := p.client(0).PublishAsync(subject, body)
	return err
}

// Close ends everything.
func (p *Pipeline) Close() error {
	p.consume.Stop()
	return p.Server.Close()
}
