package rocketmq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
	"github.com/sluicemq/sluice/broker/server"
)

// What follows was found on Apache's brokers.

// isolated is a client that reaches nobody. What it logs comes back.
func isolated(t *testing.T) (*conn, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	cfg, err := Config{NameServers: []string{"127.0.0.1:1"}, OffsetDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&log, nil))}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(cfg, "c")
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c, &log
}

// Brokers of RocketMQ fail on a body without a byte.
func TestCompress_EmptyBodyHasBytes(t *testing.T) {
	c, _ := isolated(t)
	for _, above := range []int{-1, 1, 4096} {
		c.cfg.CompressAbove = above
		body, flag, err := c.compress(nil)
		if err != nil || len(body) == 0 {
			t.Fatalf("an empty body is sent as %d bytes, %v", len(body), err)
		}
		if got, err := remoting.Inflate(flag, body, 0); err != nil || len(got) != 0 {
			t.Errorf("it is read as %q, %v", got, err)
		}
	}
}

// Brokers write the properties of a batch and their own behind those of each
// message, and the length in two bytes that wrap: a record that nobody can read.
func TestProperties_LeaveRoomForTheBroker(t *testing.T) {
	c, _ := isolated(t)
	var largest outgoing
	for n := 32_000; ; n++ {
		o := outgoing{m: &driver.Message{Topic: "t", Properties: map[string]string{"p": strings.Repeat("x", n)}}, r: &driver.SendResult{}}
		if err := c.accept(&o, 1); err != nil {
			if err.Code != driver.InvalidArgument || !strings.Contains(err.Error(), fmt.Sprint(len(largest.props)+1, " bytes on the wire, at most ", len(largest.props))) {
				t.Error(err)
			}
			break
		}
		largest = o
	}
	group := strings.Repeat("g", maxGroup)
	cluster := "CLUSTER\x01" + strings.Repeat("c", 127) + "\x02MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02"
	for what, own := range map[string]string{
		"a batch": batchProperties, "a half message": message.TranMsg + "\x01true\x02" + message.ProducerGroup + "\x01" + group + "\x02",
	} {
		if n := len(largest.props) + len(own) + len(cluster); n > message.MaxProperties {
			t.Errorf("a message of %s has %d bytes of properties at the broker, which writes %d at most", what, n, message.MaxProperties)
		}
	}
	if n := len(largest.props); n < message.MaxProperties-512 {
		t.Errorf("only %d bytes of properties are taken", n)
	}
}

// A dial that Close has ended is an operation on a closed client.
func TestLinks_DialEndedByClose(t *testing.T) {
	root, end := context.WithCancelCause(t.Context())
	dialing := make(chan struct{})
	s := newLinks(root, func(ctx context.Context, _ string) (*rpc.Conn, error) {
		close(dialing)
		<-ctx.Done()
		return nil, errors.New("operation was canceled")
	}, func(string) {}, time.Second, slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() {
		_, err := s.call(t.Context(), time.Second, "127.0.0.1:1", &remoting.Command{})
		done <- err
	}()
	<-dialing
	end(errClosed)
	err := <-done
	s.close()
	if e := unanswered(t.Context(), "send", err, true); e.Code != driver.Closed || e.MaybeDone || e.Retryable {
		t.Errorf("got %+v (%v), want closed and nothing done", e, e)
	}
}

// A broker that ended before it noted a commit asks again: the answer was given,
// and a second commit would be a second message.
func TestAnswerCheck_CommitIsNotRepeated(t *testing.T) {
	c, log := isolated(t)
	answer := func() string {
		log.Reset()
		k := check{half: driver.Half{TxID: "x", Group: "g"}, at: place{broker: "b"}, n: 1}
		c.answerCheck(t.Context(), k, func(context.Context, driver.Half, *driver.Delivery, int) driver.Decision { return driver.Commit })
		return log.String()
	}
	if got := answer(); !strings.Contains(got, "was not taken") {
		t.Fatalf("the first answer went nowhere: %q", got)
	}
	c.halves.get(txID{"g", "x"}).decided = driver.Commit
	if got := answer(); got != "" {
		t.Errorf("a commit that was answered went out again: %s", got)
	}
	c.decidesOnce = true // then it does no harm, and the broker may have lost the first
	if got := answer(); !strings.Contains(got, "was not taken") {
		t.Errorf("the bundled broker was not answered: %q", got)
	}
}

// bundled is a client of a bundled broker, and the address of that.
func bundled(t *testing.T) (*conn, string) {
	t.Helper()
	broker, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(broker, server.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(context.Background()), broker.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	c, err := New(Config{NameServers: []string{s.Addr().String()}, OffsetDir: t.TempDir()}).Open(t.Context(), driver.Config{ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c.(*conn), s.Addr().String()
}

// What a slave takes while there is no master is forgotten when that is back.
func TestStorePosition_SlaveDoesNotKeep(t *testing.T) {
	c, addr := bundled(t)
	if err := c.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: "t", Queues: 1}); err != nil {
		t.Fatal(err)
	}
	for id, want := range []bool{true, false} {
		c.routes.learnBroker(remoting.BrokerData{Name: "b", Addrs: []remoting.BrokerAddr{{ID: int64(id), Addr: addr}}})
		if kept, err := c.storePosition(t.Context(), "store", "g", Queue{"t", "b", 0}, 0); err != nil || kept != want {
			t.Errorf("the broker with the number %d has kept it: %v, %v; want %v", id, kept, err, want)
		}
	}
}

// A name server that has just come back does not know the topics yet; who knew
// them goes on.
func TestRoutes_NameServerThatForgot(t *testing.T) {
	c, _ := bundled(t)
	known := c.routes.learn("t", c.routes.topic("t"), remoting.Route{Brokers: []remoting.BrokerData{{Name: "b"}}})
	if _, err := c.routes.renew(t.Context(), "t", 0); err == nil || err.Code != driver.NotFound {
		t.Fatalf("the name server was asked and answered %v", err)
	}
	if r, err := c.routes.get(t.Context(), "t"); err != nil || r != known {
		t.Errorf("got %v, %v; want the route that was known", r, err)
	}
	c.routes.forget("t") // as DeleteTopic does
	if _, err := c.routes.get(t.Context(), "t"); err == nil {
		t.Error("the route of a topic that was deleted here is still known")
	}
}
