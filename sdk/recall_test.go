package sdk_test

import (
	"context"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

// forgetful is a connection that takes messages back.
type forgetful struct {
	*fakeConn

	recalled []string
	fail     []error // of the calls to come
}

func (c *forgetful) Extensions() driver.Extensions { return driver.Extensions{Recall: c} }

func (c *forgetful) Recall(_ context.Context, topic, handle string) error {
	c.recalled = append(c.recalled, topic+" "+handle)
	if len(c.fail) > 0 {
		err := c.fail[0]
		c.fail = c.fail[1:]
		return err
	}
	return nil
}

func TestRecall(t *testing.T) {
	t.Parallel()
	conn := &forgetful{fakeConn: newConn()}
	conn.answer = func(_ context.Context, _ int, req driver.SendRequest) []driver.SendResult {
		return []driver.SendResult{{ID: req.Messages[0].ID, Offset: -1, Recall: "handle", Status: driver.Stored}}
	}
	// The broker may have done it when it answers nothing; once more is no error.
	conn.fail = []error{&driver.Error{Code: driver.Unavailable, Op: "recall", Retryable: true, MaybeDone: true}}
	p := client(t, conn, nil).Producer()
	r, err := p.Send(t.Context(), "reminders", question{"Ada"}, sdk.Delay(time.Hour))
	if err != nil || r.Recall != "handle" {
		t.Fatalf("got %+v, %v", r, err)
	}
	if err := p.Recall(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if len(conn.recalled) != 2 || conn.recalled[1] != "reminders handle" {
		t.Errorf("recalled %q", conn.recalled)
	}
	conn.fail = []error{driver.Errorf(driver.FailedPrecondition, "recall", "it is due")}
	if err := p.Recall(t.Context(), r); sdk.CodeOf(err) != sdk.FailedPrecondition {
		t.Errorf("a message that is due: got %v", err)
	}
	r.Recall = ""
	if err := p.Recall(t.Context(), r); sdk.CodeOf(err) != sdk.InvalidArgument {
		t.Errorf("a result without a handle: got %v", err)
	}
}

func TestRecall_Unsupported(t *testing.T) {
	t.Parallel()
	c := client(t, silent{newConn()}, nil)
	if err := c.Producer().Recall(t.Context(), sdk.SendResult{Topic: "reminders", Recall: "handle"}); sdk.CodeOf(err) != sdk.Unsupported {
		t.Errorf("got %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Producer().Recall(t.Context(), sdk.SendResult{}); sdk.CodeOf(err) != sdk.Closed {
		t.Errorf("after Close: got %v", err)
	}
}
