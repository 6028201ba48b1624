package idempotency_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/memstore"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

func annotate(tag reflect.StructTag, opts ...listener.Option) (idempotency.Config, error) {
	s := &listener.Spec{Annotations: map[string]any{}}
	err := idempotency.By{}.Annotate(tag, s)
	for _, o := range opts {
		err = errors.Join(err, o(s))
	}
	c, _ := s.Annotations[idempotency.Annotation].(idempotency.Config)
	return c, err
}

func TestBy_ReadsItsTag(t *testing.T) {
	t.Parallel()
	got, err := annotate(`key:"bill.id" lease:"45s" ttl:"4d" namespace:"prod" onError:"open"`)
	want := idempotency.Config{Key: "bill.id", Lease: 45 * time.Second, TTL: 96 * time.Hour, Namespace: "prod", OnError: idempotency.Open}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err = annotate(``); err != nil || !reflect.DeepEqual(got, idempotency.Config{}) {
		t.Errorf("an empty tag: got %+v, %v", got, err)
	}
}

func TestBy_RefusesBadTags(t *testing.T) {
	t.Parallel()
	for tag, want := range map[reflect.StructTag]string{
		`kye:"bill_id"`:              `unknown key "kye" (did you mean "key"?)`,
		`key:""`:                     `key "key" is empty`,
		`key:"$kye"`:                 `did you mean "$key"?`,
		`key:"a..b"`:                 `it takes a field of the payload such as bill_id`,
		`key:"a" key:"b"`:            `stands twice`,
		`lease:"soon"`:               `lease: "soon" is not a duration`,
		`lease:"100ms"`:              `lease 100ms: it takes 1s to 1h0m0s`,
		`lease:"2h"`:                 `lease 2h0m0s: it takes 1s to 1h0m0s`,
		`lease:"-5s"`:                `longer than 0`,
		`ttl:"500d"`:                 `ttl 12000h0m0s: it takes up to`,
		`onError:"opne"`:             `did you mean "open"?`,
		`onError:"whatever"`:         `it takes closed or open`,
		`lease:"100ms" onError:"no"`: `lease 100ms: it takes 1s to 1h0m0s; onError "no"`,
	} {
		if _, err := annotate(tag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", tag, err, want)
		}
	}
}

func TestUse_OverridesTheMarkerFieldByField(t *testing.T) {
	t.Parallel()
	f := func(*sdk.Delivery) (string, error) { return "k", nil }
	c, err := annotate(`key:"bill_id" lease:"45s"`, idempotency.KeyFunc(f), idempotency.Use(idempotency.Config{TTL: 100 * time.Hour}))
	if err != nil || c.Key != "" || c.KeyFunc == nil || c.Lease != 45*time.Second || c.TTL != 100*time.Hour {
		t.Errorf("got %+v, %v", c, err)
	}
	// A tag with a placeholder is read after the options; they win all the same.
	s := &listener.Spec{Annotations: map[string]any{}}
	if err := errors.Join(idempotency.KeyFunc(f)(s), idempotency.By{}.Annotate(`key:"bill_id" lease:"45s"`, s)); err != nil {
		t.Fatal(err)
	}
	c, _ = s.Annotations[idempotency.Annotation].(idempotency.Config)
	if c.Key != "" || c.KeyFunc == nil || c.Lease != 45*time.Second {
		t.Errorf("after the options: got %+v", c)
	}
	for name, o := range map[string]listener.Option{
		"nil function": idempotency.KeyFunc(nil),
		"both":         idempotency.Use(idempotency.Config{Key: "a", KeyFunc: f}),
		"lease":        idempotency.Use(idempotency.Config{Lease: time.Millisecond}),
	} {
		if o(s) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWrap_ChecksTheConfigAgainstTheListener(t *testing.T) {
	t.Parallel()
	d := process(t, memstore.New(memstore.Options{}))
	horizon := info()
	long := info()
	long.RetryHorizon = 200 * time.Hour
	broadcast := info()
	broadcast.Broadcast = true
	for name, c := range map[string]struct {
		info   sdk.ListenerInfo
		config idempotency.Config
		want   string
	}{
		"fits":           {horizon, idempotency.Config{TTL: 5 * time.Hour}, ""},
		"default":        {long, idempotency.Config{}, ""},
		"below horizon":  {horizon, idempotency.Config{TTL: time.Hour}, "ttl 1h0m0s is shorter than the retry horizon of the listener, 4h45m40s"},
		"below long":     {long, idempotency.Config{TTL: 80 * time.Hour}, "ttl 80h0m0s is shorter than the retry horizon of the listener, 200h0m0s"},
		"broadcast":      {broadcast, idempotency.Config{}, "a broadcast listener cannot be idempotent"},
		"ttl and lease":  {sdk.ListenerInfo{}, idempotency.Config{TTL: time.Second}, "ttl 1s is shorter than the lease 30s"},
		"bad by options": {horizon, idempotency.Config{Lease: time.Millisecond}, "lease 1ms: it takes"},
	} {
		_, err := d.Wrap(c.info, c.config, nil)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}

// spy remembers the times it was asked for.
type spy struct {
	idempotency.Store

	ttl, fenceTTL, lease time.Duration
}

func (s *spy) Begin(ctx context.Context, k idempotency.Key, owner string, lease, fenceTTL time.Duration) (idempotency.Claim, error) {
	s.lease, s.fenceTTL = lease, fenceTTL
	return s.Store.Begin(ctx, k, owner, lease, fenceTTL)
}

func (s *spy) Complete(ctx context.Context, k idempotency.Key, owner string, fence uint64, ttl time.Duration) (idempotency.Completion, error) {
	s.ttl = ttl
	return s.Store.Complete(ctx, k, owner, fence, ttl)
}

func TestWrap_DefaultTTLCoversTheRetryHorizon(t *testing.T) {
	t.Parallel()
	for horizon, want := range map[time.Duration]time.Duration{
		5 * time.Hour:   80 * time.Hour,
		200 * time.Hour: 221 * time.Hour,
	} {
		s := &spy{Store: memstore.New(memstore.Options{})}
		i := info()
		i.RetryHorizon = horizon
		handle, err := process(t, s).Wrap(i, idempotency.Config{}, func(context.Context, *sdk.Delivery) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := handle(t.Context(), bill("1", 1)); err != nil {
			t.Fatal(err)
		}
		if s.ttl != want || s.lease != 30*time.Second || s.fenceTTL <= s.ttl {
			t.Errorf("horizon %v: lease %v, ttl %v, fence %v; want 30s, %v and more than that", horizon, s.lease, s.ttl, s.fenceTTL, want)
		}
	}
}

func TestInterceptor_LeavesOthersAloneAndRefusesForeignValues(t *testing.T) {
	t.Parallel()
	i := process(t, memstore.New(memstore.Options{})).Interceptor()
	if i.Order != sdk.OrderIdempotency || len(i.Annotations) != 1 || i.Annotations[0] != "idempotency" {
		t.Errorf("got %+v", i)
	}
	ran := false
	plain, err := i.Consume(info(), func(context.Context, *sdk.Delivery) error { ran = true; return nil })
	if err != nil || plain(t.Context(), &sdk.Delivery{}) != nil || !ran {
		t.Errorf("a listener without the annotation: %v, ran %v", err, ran)
	}
	foreign := info()
	foreign.Annotations = map[string]any{"idempotency": "yes"}
	if _, err := i.Consume(foreign, plain); err == nil {
		t.Error("a foreign value is accepted")
	}
}

func TestSettings_AreValidated(t *testing.T) {
	t.Parallel()
	s := memstore.New(memstore.Options{})
	for _, bad := range []idempotency.Settings{
		{BusyCap: -1}, {HoldAfter: -1}, {HoldMin: time.Hour}, {CompleteTries: -1}, {CompleteBudget: -1},
	} {
		if _, err := idempotency.New(idempotency.Params{Store: s, Settings: bad}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	if _, err := idempotency.New(idempotency.Params{}); err == nil {
		t.Error("no store is accepted")
	}
}

// outcome runs one message and tells which key was claimed, by asking for it again
// under a listener whose key function returns the expected business key.
func outcome(t *testing.T, c idempotency.Config, m *sdk.Delivery, business string) error {
	t.Helper()
	d := process(t, memstore.New(memstore.Options{}))
	handle, err := d.Wrap(info(), c, func(context.Context, *sdk.Delivery) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := handle(t.Context(), m); err != nil {
		return err
	}
	again, err := d.Wrap(info(), idempotency.Config{KeyFunc: func(*sdk.Delivery) (string, error) { return business, nil }},
		func(context.Context, *sdk.Delivery) error { return errors.New("the key is another one") })
	if err != nil {
		t.Fatal(err)
	}
	return again(t.Context(), m)
}

func TestKey_IsFoundInTheMessage(t *testing.T) {
	t.Parallel()
	body := func(s string) *sdk.Delivery {
		return &sdk.Delivery{Topic: "t", ID: "unique", Keys: []string{"first", "second"}, Body: []byte(s)}
	}
	for _, c := range []struct {
		key, body, want string
	}{
		{"", `x`, "first"},
		{"$key", `x`, "first"},
		{"$id", `x`, "unique"},
		{"bill_id", `{"bill_id":"b-1"}`, "b-1"},
		{"bill_id", `{"bill_id": 9007199254740993 }`, "9007199254740993"},
		{"bill_id", `{"bill_id":-1.50}`, "-1.50"},
		{"bill.id", `{"id":"no","bill":{"id":"ü\u00fc"}}`, "üü"},
		{"a.b.c", `{"a":{"b":{"c":"deep"}}}`, "deep"},
	} {
		if err := outcome(t, idempotency.Config{Key: c.key}, body(c.body), c.want); err != nil {
			t.Errorf("key %q of %s: %v, want %q", c.key, c.body, err, c.want)
		}
	}
	noKeys := body("x")
	noKeys.Keys = nil
	if err := outcome(t, idempotency.Config{}, noKeys, "unique"); err != nil {
		t.Errorf("without a message key: %v, want the unique id", err)
	}
}

func TestKey_MissingIsADeadLetter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ key, body, want string }{
		{"$key", `x`, "no key"},
		{"$id", `x`, "no unique id"},
		{"bill_id", `not json`, "no JSON object"},
		{"bill_id", ``, "no JSON object"},
		{"bill_id", `[]`, "no JSON object"},
		{"bill_id", `null`, "no field bill_id"},
		{"bill_id", `{}`, "no field bill_id"},
		{"bill_id", `{"Bill_ID":"1"}`, "no field bill_id"},
		{"bill_id", `{"bill_id":""}`, "is empty"},
		{"bill_id", `{"bill_id":null}`, "neither a string nor a number"},
		{"bill_id", `{"bill_id":true}`, "neither a string nor a number"},
		{"bill_id", `{"bill_id":{}}`, "neither a string nor a number"},
		{"bill.id", `{"bill":"1"}`, "no JSON object"},
	} {
		err := outcome(t, idempotency.Config{Key: c.key}, &sdk.Delivery{Topic: "t", Body: []byte(c.body)}, "")
		if !listener.IsReject(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("key %q of %s: got %v, want a rejection with %q", c.key, c.body, err, c.want)
		}
	}
	empty := idempotency.Config{KeyFunc: func(*sdk.Delivery) (string, error) { return "", nil }}
	if err := outcome(t, empty, bill("1", 1), ""); !listener.IsReject(err) {
		t.Errorf("an empty key: got %v, want a rejection", err)
	}
	failure := errors.New("no database")
	failing := idempotency.Config{KeyFunc: func(*sdk.Delivery) (string, error) { return "", failure }}
	if err := outcome(t, failing, bill("1", 1), ""); !errors.Is(err, failure) || listener.IsReject(err) {
		t.Errorf("a failing function: got %v, want its error", err)
	}
}

func FuzzKey_NeverPanicsAndNeverIsEmpty(f *testing.F) {
	for _, body := range []string{`{"a":{"b":"c"}}`, `{"a":{"b":1}}`, `{"a":`, `"`, ` `, `{"a":{"b":""}}`} {
		f.Add([]byte(body))
	}
	d := process(f, memstore.New(memstore.Options{}))
	handle, err := d.Wrap(info(), idempotency.Config{Key: "a.b"}, func(context.Context, *sdk.Delivery) error { return nil })
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if err := handle(t.Context(), &sdk.Delivery{Topic: "t", ID: "1", Body: body}); err != nil && !listener.IsReject(err) {
			t.Fatalf("%q: got %v, want nil or a rejection", body, err)
		}
	})
}

func TestNewKey_TellsPartsApart(t *testing.T) {
	t.Parallel()
	if got, want := idempotency.NewKey("", "g", "t", "k"), idempotency.NewKey("", "g", "t", "k"); got != want || len(got) != 64 {
		t.Errorf("got %q and %q", got, want)
	}
	part := rapid.StringMatching(`[a:/|\x00]{0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		var a, b [4]string
		for i := range 4 {
			a[i], b[i] = part.Draw(t, "a"), part.Draw(t, "b")
		}
		same := idempotency.NewKey(a[0], a[1], a[2], a[3]) == idempotency.NewKey(b[0], b[1], b[2], b[3])
		if same != (a == b) {
			t.Fatalf("%q and %q: same key %v", a, b, same)
		}
	})
}

// The digest is stored for days and shared by versions of an application.
func TestNewKey_IsStable(t *testing.T) {
	t.Parallel()
	const want = "c63917a46c2d3a36eca7df4c980530b5b6984a8ac39c73b391651955e6cdf2a1"
	if got := idempotency.NewKey("prod", "red-packet", "bill-settled", "b-1"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
