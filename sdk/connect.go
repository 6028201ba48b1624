package sdk

import (
	"context"
	"errors"
	"log/slog"
	"math"

	"github.com/sluicemq/sluice/broker/driver"
)

// errClientClosed is the cause inside every [Closed] error of a client.
var errClientClosed = errors.New("the client is closed")

const opConnect = "connect to the broker"

// Conn returns the connection, which all parts of the application share. The
// first call opens it, within sluice.connect.timeout and with retries; callers
// at the same time wait for that. A failure is not remembered.
func (c *Client) Conn(ctx context.Context) (driver.Conn, error) {
	if c.driver == nil {
		return nil, errorf(FailedPrecondition, opConnect, "the application holds no broker driver; "+
			"add one, such as embedded.Module, to the fx options")
	}
	for {
		c.mu.Lock()
		switch {
		case c.closing:
			c.mu.Unlock()
			return nil, &Error{Code: Closed, Op: opConnect, Err: errClientClosed}
		case c.conn != nil:
			conn := c.conn
			c.mu.Unlock()
			return conn, nil
		case c.opening == nil:
			c.opening = make(chan struct{})
			c.mu.Unlock()
			return c.open(ctx)
		}
		wait := c.opening
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, asError(opConnect, driver.FromContext(ctx, "", false))
		}
	}
}

// open is run by one caller at a time, which owns c.opening.
func (c *Client) open(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.root, func() { cancel(errClientClosed) }) //nolint:contextcheck // Close ends it as well as the caller
	defer stop()
	var conn driver.Conn
	err := c.Retry(ctx, opConnect, func(ctx context.Context) error {
		var err error
		conn, err = c.driver.Open(ctx, driver.Config{
			URL: c.settings.Broker.Reveal(), ClientID: c.id,
			Logger: c.logger.With(slog.String("driver", c.driver.Scheme())),
		})
		return err
	}, RetryTimeout(c.settings.ConnectTimeout), RetryAttempts(0))

	c.mu.Lock()
	late := c.closing && err == nil
	if err == nil && !late {
		c.conn = conn
	}
	done := c.opening
	c.opening = nil
	c.mu.Unlock()
	defer close(done)
	if late {
		_ = conn.Close(ctx)
	}
	if late || err != nil && c.root.Err() != nil {
		return nil, &Error{Code: Closed, Op: opConnect, Err: errClientClosed}
	}
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// system is the OTel messaging.system: that of the connection, or as long as
// there is none the scheme of the driver.
func (c *Client) system() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.conn != nil:
		return c.conn.Capabilities().System
	case c.driver != nil:
		return c.driver.Scheme()
	default:
		return "none"
	}
}

// maxBatch is the largest batch that the broker is known to take.
func (c *Client) maxBatch() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		if n := c.conn.Capabilities().MaxBatch; n > 0 {
			return n
		}
	}
	return math.MaxInt
}

// Health reports whether the broker would accept a request now; it opens the
// connection if need be.
func (c *Client) Health(ctx context.Context) error {
	conn, err := c.Conn(ctx)
	if err != nil {
		return err
	}
	if err := conn.Health(ctx); err != nil {
		return asError("check the health of the broker", err)
	}
	return nil
}

// Close refuses new messages, waits for those that SendAsync accepted, then
// closes the connection. When ctx ends first, the remaining messages fail with
// [Canceled]. It is idempotent; a second call waits for the first.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	second := c.stopping
	c.stopping = true
	c.mu.Unlock()
	if second {
		return c.waitClosed(ctx)
	}
	// What SendAsync accepted still needs the connection.
	flushErr := c.producer.close(ctx)
	c.mu.Lock()
	c.closing = true
	conn, opening := c.conn, c.opening
	c.conn = nil
	c.mu.Unlock()
	c.cancel(errClientClosed)
	if opening != nil {
		select {
		case <-opening:
		case <-ctx.Done(): // whoever opens closes what it gets
		}
	}
	var connErr error
	if conn != nil {
		if err := conn.Close(ctx); err != nil {
			connErr = asError("close the connection to the broker", err)
		}
	}
	c.err = errors.Join(flushErr, connErr)
	close(c.closed)
	return c.err
}

func (c *Client) waitClosed(ctx context.Context) error {
	select {
	case <-c.closed:
		return c.err
	case <-ctx.Done():
		return asError("close the client", driver.FromContext(ctx, "", false))
	}
}
