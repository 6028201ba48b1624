package sdk_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

// asking is a connection that has requests.
type asking struct {
	*fakeConn

	answer func(ctx context.Context, m *driver.Message) (*driver.Message, error)
	to     *driver.Delivery // of the last reply
	reply  *driver.Message
}

func (c *asking) Extensions() driver.Extensions { return driver.Extensions{Requests: c} }

func (c *asking) Request(ctx context.Context, m *driver.Message) (*driver.Message, error) {
	return c.answer(ctx, m)
}

func (c *asking) Reply(_ context.Context, request *driver.Delivery, m *driver.Message) error {
	c.to, c.reply = request, m
	if request == nil {
		return driver.Errorf(driver.InvalidArgument, "reply", "no request")
	}
	return nil
}

type question struct{ Name string }

type answer struct{ Text string }

func TestRequest(t *testing.T) {
	t.Parallel()
	conn := &asking{fakeConn: newConn()}
	conn.answer = func(_ context.Context, m *driver.Message) (*driver.Message, error) {
		if m.Topic != "greet" || string(m.Body) != `{"Name":"Ada"}` || m.Tag != "t" || m.ID == "" {
			t.Errorf("the request is %+v", m)
		}
		return &driver.Message{
			Topic: "greet", ID: "R", Body: []byte(`{"Text":"hello Ada"}`), Properties: map[string]string{sdk.HeaderContentType: "application/json"},
		}, nil
	}
	p := client(t, conn, nil).Producer()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := sdk.Request[answer](ctx, p, "greet", question{"Ada"}, sdk.Tag("t"))
	if err != nil || m.Payload.Text != "hello Ada" || m.ID != "R" || m.Topic != "greet" {
		t.Fatalf("got %+v, %v", m, err)
	}
	var e *sdk.Error
	if _, err := sdk.Request[int](ctx, p, "greet", question{"Ada"}, sdk.Tag("t")); !errors.As(err, &e) || e.Code != sdk.InvalidArgument || !e.MaybeDone {
		t.Errorf("a reply that is of another type: got %v", err)
	}
}

// Without a deadline the setting says how long.
func TestRequest_Timeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &asking{fakeConn: newConn()}
		conn.answer = func(ctx context.Context, _ *driver.Message) (*driver.Message, error) {
			<-ctx.Done()
			return nil, driver.FromContext(ctx, "request", true)
		}
		p := client(t, conn, map[string]string{"sluice.send.timeout": "2s"}).Producer()
		began := time.Now()
		var e *sdk.Error
		if _, err := sdk.Request[answer](t.Context(), p, "greet", question{}); !errors.As(err, &e) || e.Code != sdk.Timeout || !e.MaybeDone {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestReply(t *testing.T) {
	t.Parallel()
	conn := &asking{fakeConn: newConn()}
	p := client(t, conn, nil).Producer()
	request := &driver.Delivery{Message: driver.Message{Topic: "greet"}}
	err := p.Reply(t.Context(), sdk.NewDelivery(request, "g", "l", "lane"), answer{"hello"}, sdk.Header("h", "v"))
	if err != nil || conn.to != request || string(conn.reply.Body) != `{"Text":"hello"}` || conn.reply.Properties["h"] != "v" ||
		conn.reply.Properties[sdk.HeaderContentType] != "application/json" || conn.reply.Topic != "" {
		t.Errorf("the reply to %p is %+v, %v", conn.to, conn.reply, err)
	}
	if err := p.Reply(t.Context(), &sdk.Delivery{}, answer{}); sdk.CodeOf(err) != sdk.InvalidArgument {
		t.Errorf("reply to a delivery of nobody: got %v", err)
	}
}

// silent is a connection without requests.
type silent struct{ *fakeConn }

func (silent) Extensions() driver.Extensions { return driver.Extensions{} }

func TestRequest_Unsupported(t *testing.T) {
	t.Parallel()
	c := client(t, silent{newConn()}, nil)
	p := c.Producer()
	_, err := sdk.Request[answer](t.Context(), p, "greet", question{})
	if sdk.CodeOf(err) != sdk.Unsupported {
		t.Errorf("request: got %v", err)
	}
	if err := p.Reply(t.Context(), &sdk.Delivery{}, answer{}); sdk.CodeOf(err) != sdk.Unsupported {
		t.Errorf("reply: got %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := sdk.Request[answer](t.Context(), p, "greet", question{}); sdk.CodeOf(err) != sdk.Closed {
		t.Errorf("request after Close: got %v", err)
	}
}
