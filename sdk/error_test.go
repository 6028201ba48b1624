package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

func TestErrorText(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*sdk.Error{
		"send to a: lane lost":     {Code: sdk.LaneLost, Op: "send to a"},
		"unavailable":              {Code: sdk.Unavailable},
		"send to a: boom":          {Op: "send to a", Err: errors.New("boom")},
		"a: b (after 2 attempts)":  {Op: "a", Err: errors.New("b"), Attempts: 2},
		"send to a: write: broken": {Op: "send to a", Err: driver.Errorf(driver.Internal, "write", "broken")},
		"op: x: y (the broker may have done it)": {
			Op: "op", MaybeDone: true,
			Err: &driver.Error{Op: "x", MaybeDone: true, Err: errors.New("y")},
		},
		"op: z (after 3 attempts)": {Op: "op", Attempts: 3, Err: &sdk.Error{Op: "op", Attempts: 3, Err: errors.New("z")}},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want sdk.Code
	}{
		{nil, sdk.Unknown},
		{errors.New("x"), sdk.Unknown},
		{fmt.Errorf("x: %w", &sdk.Error{Code: sdk.Closed}), sdk.Closed},
		{fmt.Errorf("x: %w", driver.Errorf(driver.Corrupt, "", "x")), sdk.Corrupt},
		{context.DeadlineExceeded, sdk.Timeout},
		{fmt.Errorf("x: %w", context.Canceled), sdk.Canceled},
	} {
		if got := sdk.CodeOf(tt.err); got != tt.want {
			t.Errorf("CodeOf(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestNewDelivery(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := sdk.NewDelivery(&driver.Delivery{
		Message: driver.Message{
			ID: "1", Topic: "a", Tag: "t", Keys: []string{"k", "l"}, Body: []byte("b"), OrderingKey: "o", BornAt: now,
			Properties: map[string]string{"content-type": "x/y", "h": "v"},
		},
		OffsetID: "off", Offset: 7, Attempt: 2, StoredAt: now,
	}, "g", "l", "a/3")
	if d.ID != "1" || d.Topic != "a" || d.Tag != "t" || d.Key() != "k" || string(d.Body) != "b" || d.OrderingKey != "o" ||
		d.ContentType != "x/y" || d.Header("h") != "v" || d.Header("none") != "" || d.OffsetID != "off" || d.Offset != 7 ||
		d.Attempt != 2 || d.Group != "g" || d.Listener != "l" || d.Lane != "a/3" || !d.BornAt.Equal(now) || !d.StoredAt.Equal(now) {
		t.Errorf("%+v", d)
	}
	if k := (&sdk.Delivery{}).Key(); k != "" {
		t.Errorf("Key of none = %q", k)
	}
}
