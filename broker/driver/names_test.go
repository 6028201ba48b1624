package driver_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
)

func TestValidTopic(t *testing.T) {
	t.Parallel()
	good := []string{"a", "bill-settled", "A_1|b", "%RETRY%red-packet", strings.Repeat("x", 127), "%DLQ%" + strings.Repeat("x", 250)}
	for _, name := range good {
		if err := driver.ValidTopic(name); err != nil {
			t.Errorf("ValidTopic(%.20q…) = %v, want nil", name, err)
		}
	}
	bad := map[string]string{
		"":                                 "empty",
		"..":                               `'.'`,
		"a/b":                              `'/'`,
		"a b":                              `' '`,
		"tópico":                           `'ó'`,
		"a\x00":                            `'\x00'`,
		strings.Repeat("x", 128):           "128 characters",
		"%DLQ%" + strings.Repeat("x", 251): "256 characters",
	}
	for name, want := range bad {
		err := driver.ValidTopic(name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ValidTopic(%.20q) = %v, want an error with %q", name, err, want)
		}
	}
}

func TestParseTags(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		"": "*", "*": "*", " * ": "*", "water": "water", "water || power": "power || water", "a||b||a": "a || b",
	} {
		f, err := driver.ParseTags(expr)
		if err != nil || f.String() != want {
			t.Errorf("ParseTags(%q) = %q, %v; want %q", expr, f, err, want)
		}
	}
	for _, expr := range []string{"a||", "||", "a b", "a || *", "a\tb"} {
		if f, err := driver.ParseTags(expr); err == nil {
			t.Errorf("ParseTags(%q) = %q, want an error", expr, f)
		}
	}
}

// The normal form reads back as itself and selects the same tags.
func TestFilter_NormalFormRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tags := rapid.SliceOfN(rapid.StringMatching(`[a-z][a-z0-9_-]{0,8}`), 0, 6).Draw(t, "tags")
		f, err := driver.ParseTags(strings.Join(tags, " || "))
		if err != nil {
			t.Fatal(err)
		}
		g, err := driver.ParseTags(f.String())
		if err != nil || g.String() != f.String() {
			t.Fatalf("%q reads back as %q, %v", f, g, err)
		}
		for _, tag := range append(slices.Clone(tags), "other!") {
			if got, want := f.MatchTag(tag), len(tags) == 0 || slices.Contains(tags, tag); got != want {
				t.Fatalf("%q matches %q: %v, want %v", f, tag, got, want)
			}
		}
	})
}

func TestMessage_Check(t *testing.T) {
	t.Parallel()
	ok := driver.Message{Topic: "t", Tag: "water", Keys: []string{"B-1"}, Properties: map[string]string{"k": "v"}, OrderingKey: "account 7"}
	if err := ok.Check(); err != nil {
		t.Fatalf("Check = %v", err)
	}
	for name, m := range map[string]driver.Message{
		"topic":          {Topic: "../x"},
		"tag":            {Topic: "t", Tag: "a||b"},
		"empty key":      {Topic: "t", Keys: []string{""}},
		"key with space": {Topic: "t", Keys: []string{"a b"}},
		"property name":  {Topic: "t", Properties: map[string]string{"a\x01": "v"}},
		"property value": {Topic: "t", Properties: map[string]string{"a": ""}},
		"not UTF-8":      {Topic: "t", Properties: map[string]string{"a": "\xff"}},
		"ordering key":   {Topic: "t", OrderingKey: "a\nb"},
		"queue":          {Topic: "t", QueueSet: true, Queue: -1},
	} {
		if err := m.Check(); err == nil {
			t.Errorf("%s: Check(%+v) = nil, want an error", name, m)
		}
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	cause := errors.New("reset by peer")
	e := &driver.Error{Code: driver.Timeout, Op: "send to orders queue 3", MaybeDone: true, Err: cause}
	if got, want := e.Error(), "send to orders queue 3: reset by peer (the broker may have done it)"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if !errors.Is(e, cause) {
		t.Error("the cause is lost")
	}
	if got := (&driver.Error{Code: driver.LaneLost}).Error(); got != "lane lost" {
		t.Errorf("Error() = %q", got)
	}
	if got := driver.CodeOf(errors.Join(errors.New("x"), e)); got != driver.Timeout {
		t.Errorf("CodeOf = %v, want timeout", got)
	}
	if got := driver.Code(200).String(); got != "unknown" {
		t.Errorf("Code(200) = %q", got)
	}
}

func TestFromContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if e := driver.FromContext(ctx, "send", true); e.Code != driver.Timeout || !e.Retryable || !e.MaybeDone {
		t.Errorf("deadline: %+v", e)
	}
	why := errors.New("draining")
	ctx2, cancel2 := context.WithCancelCause(t.Context())
	cancel2(why)
	if e := driver.FromContext(ctx2, "fetch", false); e.Code != driver.Canceled || e.Retryable || !errors.Is(e, why) {
		t.Errorf("cancel: %+v", e)
	}
}

func TestTimeRange_IsHalfOpen(t *testing.T) {
	t.Parallel()
	at := time.Unix(100, 0)
	r := driver.TimeRange{From: at, To: at.Add(time.Second)}
	if !r.Contains(at) || r.Contains(at.Add(time.Second)) || r.Contains(at.Add(-1)) || !(driver.TimeRange{}).Contains(at) {
		t.Error("bounds are wrong")
	}
}
