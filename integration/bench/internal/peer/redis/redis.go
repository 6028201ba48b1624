// Package redis drives a Redis server as a child process.
package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/peer"
)

const (
	redisProgram = "redis-server"
	startLimit   = 30 * time.Second
	stopLimit    = 10 * time.Second
	pipeline     = 500
)

// Server is a server as a child process on a free loopback port, and a client.
type Server struct {
	process *exec.Cmd
	output  bytes.Buffer
	exited  chan struct{}
	client  *client.Client
	body    []byte
	stop    sync.Once
}

// Start starts a server that keeps an append-only file in dir, synced as
// fsync says: "always" or "everysec". Without the program the error is
// [peer.ErrMissing]. It is a [measure.Publisher].
func Start(dir, fsync string, workers int) (*Server, error) {
	program, err := exec.LookPath(redisProgram)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", peer.ErrMissing, err)
	}
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("find a port for Redis: %w", err)
	}
	r := &Server{exited: make(chan struct{}), body: measure.Body()}
	r.process = exec.CommandContext(context.Background(), program, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0")
	r.process.Stdout, r.process.Stderr = &r.output, &r.output
	r.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := r.process.Start(); err != nil {
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	go func() {
		defer close(r.exited)
		_ = r.process.Wait()
	}()
	r.client = client.NewClient(&client.Options{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), PoolSize: workers + 1, Protocol: 2, DisableIdentity: true,
	})
	if err := r.ready(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func freePort() (int, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// ready waits for the first answer.
func (r *Server) ready() error {
	for end := time.Now().Add(startLimit); ; {
		if r.client.Ping(context.Background()).Err() == nil {
			return nil
		}
		select {
		case <-r.exited:
			return fmt.Errorf("redis-server has ended: %s", r.output.Bytes())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return errors.New("redis-server does not answer")
		}
	}
}

// Publish adds one entry to a stream and waits.
func (r *Server) Publish(int) (int, error) {
	return 1, r.client.XAdd(context.Background(), &client.XAddArgs{Stream: "bench", Values: []any{"body", r.body}}).Err()
}

// Delayed keeps so many due times in a sorted set, the usual delayed queue of
// Redis, and takes some of the first: rates, and the resident memory gained.
func (r *Server) Delayed(messages, take int) (measure.Figures, error) {
	ctx, pid := context.Background(), r.process.Process.Pid
	before, err := measure.Memory(pid, "VmRSS")
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	for i := 0; i < messages; i += pipeline {
		p := r.client.Pipeline()
		for n := i; n < min(i+pipeline, messages); n++ {
			p.ZAdd(ctx, "delayed", client.Z{Score: float64(n * 7919 % messages), Member: fmt.Sprintf("message-%032d", n)})
		}
		if _, err := p.Exec(ctx); err != nil {
			return nil, fmt.Errorf("add to sorted set: %w", err)
		}
	}
	add := time.Since(begin)
	after, err := measure.Memory(pid, "VmRSS")
	if err != nil {
		return nil, err
	}
	begin = time.Now()
	for n := 0; n < take; n += pipeline {
		if err := r.client.ZPopMin(ctx, "delayed", pipeline).Err(); err != nil {
			return nil, fmt.Errorf("take from sorted set: %w", err)
		}
	}
	return measure.Figures{
		"add_rate": float64(messages) / add.Seconds(), "fire_rate": float64(take) / time.Since(begin).Seconds(),
		"memory_mib": (after - before) / (1 << 20),
	}, nil
}

// Close ends the client and the server.
func (r *Server) Close() error {
	var err error
	r.stop.Do(func() {
		err = errors.Join(r.client.Close(), r.process.Process.Signal(syscall.SIGTERM))
		select {
		case <-r.exited:
		case <-time.After(stopLimit):
			err = errors.Join(err, r.process.Process.Kill())
			<-r.exited
		}
	})
	return err
}
