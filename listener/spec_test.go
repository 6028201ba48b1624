package listener_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

type base struct{}

func (*base) OnMessage(context.Context, *sdk.Message[bill]) error { return nil }

type (
	unknownKey struct {
		base
		_ listener.On `topic:"t" gruop:"g"`
	}
	emptyValue struct {
		base
		_ listener.On `topic:"" group:"g"`
	}
	keyTwice struct {
		base
		_ listener.On `topic:"t" topic:"u"` //nolint:staticcheck // the mistake under test
	}
	markerTwice struct {
		base
		_ listener.Retry `attempts:"3"`
		_ listener.Retry `attempts:"4"`
	}
	named struct {
		base
		On listener.On `topic:"t" group:"g"`
	}
	embeddedMarker struct {
		base
		listener.On `topic:"t" group:"g"`
	}
	sqlAndTags struct {
		base
		_ listener.On `topic:"t" group:"g" tags:"a" sql:"b > 1"`
	}
	orderlyBroadcast struct {
		base
		_ listener.On        `topic:"t" group:"g"`
		_ listener.Orderly   ``
		_ listener.Broadcast ``
	}
	badDuration struct {
		base
		_ listener.On `topic:"t" group:"g" timeout:"soon"`
	}
	badTopic struct {
		base
		_ listener.On `topic:"a/b" group:"g g" name:"x.y"`
	}
	badNumbers struct {
		base
		_ listener.On    `concurrency:"0" prefetch:"-1" buffer:"0" from:"yesterday" tags:"a||*"`
		_ listener.Retry `attempts:"many" backoff:"2h..1s" jitter:"200%"`
	}
	badWords struct {
		base
		_ listener.Orderly     `workers:"2" by:"lane" exhausted:"dead-letter"`
		_ listener.StartPaused `resume:"automatic"`
		_ listener.Broadcast   `all:"yes"`
	}
	workersTwice struct {
		base
		_ listener.On      `concurrency:"3"`
		_ listener.Orderly `workers:"4"`
	}
	thirdParty struct {
		base
		_ limit `per:"x"`
	}
)

// limit is an annotation as another package would write it.
type limit struct{}

func (*limit) Annotate(tag reflect.StructTag, s *listener.Spec) error {
	v, err := listener.ParseTag(tag, "per")
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(v["per"])
	if err != nil {
		return fmt.Errorf("per %q is not a duration such as 1s", v["per"])
	}
	s.Annotate("limit", d)
	return nil
}

func TestProvide_Mistakes(t *testing.T) {
	t.Parallel()
	good := func() *base { return &base{} }
	for want, o := range map[string]fx.Option{
		`listener *listener_test.unknownKey: listener.On: unknown key "gruop" (did you mean "group"?)`:                                        listener.Provide[*unknownKey](func() *unknownKey { return nil }),
		`listener *listener_test.emptyValue: listener.On: key "topic" is empty; leave it out instead`:                                         listener.Provide[*emptyValue](func() *emptyValue { return nil }),
		`listener *listener_test.keyTwice: listener.On: key "topic" stands twice`:                                                             listener.Provide[*keyTwice](func() *keyTwice { return nil }),
		`listener *listener_test.markerTwice: listener.Retry: stands twice`:                                                                   listener.Provide[*markerTwice](func() *markerTwice { return nil }),
		`listener *listener_test.named: listener.On: field On has a name; a marker stands on a blank field, written _ listener.On`:            listener.Provide[*named](func() *named { return nil }),
		`listener *listener_test.embeddedMarker: listener.On: field On has a name; a marker stands on a blank field, written _ listener.On`:   listener.Provide[*embeddedMarker](func() *embeddedMarker { return nil }),
		`listener *listener_test.sqlAndTags: tags and sql exclude each other; keep one`:                                                       listener.Provide[*sqlAndTags](func() *sqlAndTags { return nil }),
		`listener *listener_test.orderlyBroadcast: orderly and broadcast exclude each other; keep one`:                                        listener.Provide[*orderlyBroadcast](func() *orderlyBroadcast { return nil }),
		`listener *listener_test.badDuration: listener.On: timeout "soon" is not a duration; it takes a form such as 300ms, 10s, 2h30m or 7d`: listener.Provide[*badDuration](func() *badDuration { return nil }),
		`listener *listener_test.badTopic: listener.On: topic name "a/b" holds '/'; it takes 1 to 127 characters of a-z A-Z 0-9 _ - % |; group name "g g" holds ' '; it takes 1 to 127 characters of a-z A-Z 0-9 _ - % |; name "x.y" holds '.'; a name takes 1 to 127 letters, digits, '-' and '_'`:                                                                                                                                                                                                                                                                                               listener.Provide[*badTopic](func() *badTopic { return nil }),
		`listener *listener_test.badNumbers: listener.On: tag expression "a||*": * stands alone, it already selects every tag; concurrency 0 is out of range; it takes 1 to 100000; prefetch -1 is out of range; it takes 0 to 100000; buffer must be above zero; from "yesterday" is unknown; it takes earliest, latest or a time such as 2006-01-02T15:04:05Z; listener.Retry: attempts "many" is not a whole number such as 16; backoff "2h..1s" is not a range of durations; it takes a form such as 10s..2h, the shorter first; jitter "200%" is not a share; it takes 0% to 100% or 0 to 1`: listener.Provide[*badNumbers](func() *badNumbers { return nil }),
		`listener *listener_test.badWords: listener.Orderly: by "lane" is unknown; it takes queue or key; exhausted "dead-letter" is unknown (did you mean "deadletter"?); it takes block, deadletter or skip; listener.StartPaused: resume "automatic" is unknown; it takes auto or manual; listener.Broadcast: unknown key "all"; it takes no keys`:                                                                                                                                                                                                                                             listener.Provide[*badWords](func() *badWords { return nil }),
		`listener *listener_test.workersTwice: listener.Orderly: workers says the same as concurrency in tag listener.On; keep one`:                                     listener.Provide[*workersTwice](func() *workersTwice { return nil }),
		`listener *listener_test.thirdParty: listener_test.limit: per "x" is not a duration such as 1s`:                                                                 listener.Provide[*thirdParty](func() *thirdParty { return nil }),
		`listener *listener_test.base: option: topic name "a/b" holds '/'; it takes 1 to 127 characters of a-z A-Z 0-9 _ - % |`:                                         listener.Provide[*base](good, listener.Topic("a/b")),
		`listener *listener_test.base: the constructor is string; it takes func(dependencies…) *listener_test.base or func(dependencies…) (*listener_test.base, error)`: listener.Provide[*base]("x"),
		`listener *listener_test.base: the constructor is nil; it takes func(dependencies…) *listener_test.base or func(dependencies…) (*listener_test.base, error)`:    listener.Provide[*base](nil),
		`listener *listener_test.base: the constructor is func() base; it takes`:                                                                                        listener.Provide[*base](func() base { return base{} }),
		`listener gate "g": the check is func() error; it takes func(context.Context, dependencies…) error`:                                                             listener.Gate("g", func() error { return nil }),
		`listener gate "g": the check is <nil>; it takes func(context.Context, dependencies…) error`:                                                                    listener.Gate("g", nil),
	} {
		err := fx.New(fx.NopLogger, o).Err()
		if err == nil || !strings.HasPrefix(strings.ReplaceAll(err.Error(), "listener_test.base; it takes", "base; it takes"), strings.ReplaceAll(want, "listener_test.base; it takes", "base; it takes")) {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
}

func TestName_Default(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]listener.Registration{
		"red-packet": must(listener.Register(&RedPacketListener{})),
		"http-push":  must(listener.Register(&HTTPPush{})),
		"bill":       must(listener.Register(listener.Func[bill](nil))),
		"settled-v2": must(listener.Register(listener.Func[*SettledV2](nil))),
		"chosen":     must(listener.Register(listener.Func[bill](nil), listener.Name("chosen"))),
	} {
		_, err := tryBuild(t, bundleOptions{settings: map[string]string{"listeners.x.topic": "t"}}, r)
		if err == nil || !strings.Contains(err.Error(), "listeners."+want+".topic") {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}

type (
	RedPacketListener struct{ base }
	HTTPPush          struct{ base }
	SettledV2         struct{}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type precedence struct {
	base
	_ listener.On    `topic:"${topic:from-tag}" group:"g" concurrency:"5" timeout:"1m"`
	_ listener.Retry `attempts:"${attempts}" backoff:"1s"`
}

func TestSettings_PrecedenceAndSources(t *testing.T) {
	t.Parallel()
	b := build(t, bundleOptions{settings: map[string]string{
		"attempts": "9", "listeners.precedence.timeout": "${t:3m}", "listeners.precedence.backoff": "",
	}}, must(listener.Register(&precedence{}, listener.Concurrency(6), listener.Timeout(2*time.Minute))))
	got := map[string]string{}
	for _, s := range b.c.Settings("precedence") {
		got[s.Key] = s.Value + " " + s.Source
	}
	for key, want := range map[string]string{
		"name": "precedence default", "topic": "from-tag tag listener.On", "group": "g tag listener.On",
		"concurrency": "6 option", "timeout": "3m map", "attempts": "9 tag listener.Retry",
		"backoff": "1s tag listener.Retry", "start": "auto default",
	} {
		if got[key] != want {
			t.Errorf("%s: got %q, want %q", key, got[key], want)
		}
	}
	var out strings.Builder
	if err := b.c.Dump(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "timeout") || !strings.Contains(out.String(), "(map)") {
		t.Errorf("dump:\n%s", out.String())
	}
}

func TestSettings_SameResultFromTagOptionAndConfig(t *testing.T) {
	t.Parallel()
	values := func(b *bundle, name string) string {
		var out []string
		for _, s := range b.c.Settings(name) {
			if s.Key != "name" {
				out = append(out, s.Key+"="+s.Value)
			}
		}
		return strings.Join(out, " ")
	}
	tag := build(t, bundleOptions{}, must(listener.Register(&spelled{})))
	option := build(t, bundleOptions{}, must(listener.Register(&base{}, listener.Topic("t"), listener.Group("g"),
		listener.Tags("a || b"), listener.Concurrency(4), listener.Ordered("key", "skip"), listener.Attempts(3),
		listener.Backoff("1s..1m"), listener.Jitter(0.1), listener.Paused(false))))
	cfg := build(t, bundleOptions{settings: map[string]string{
		"listeners.base.topic": "t", "listeners.base.group": "g", "listeners.base.tags": "a || b",
		"listeners.base.concurrency": "4", "listeners.base.ordered": "true", "listeners.base.by": "key",
		"listeners.base.exhausted": "skip", "listeners.base.attempts": "3", "listeners.base.backoff": "1s..1m",
		"listeners.base.jitter": "0.1", "listeners.base.start": "paused", "listeners.base.resume": "manual",
	}}, must(listener.Register(&base{})))
	a, o, c := values(tag, "spelled"), values(option, "base"), values(cfg, "base")
	if a != o || a != c {
		t.Errorf("tag    %s\noption %s\nconfig %s", a, o, c)
	}
}

type spelled struct {
	base
	_ listener.On          `topic:"t" group:"g" tags:"a || b"`
	_ listener.Orderly     `workers:"4" by:"key" exhausted:"skip"`
	_ listener.Retry       `attempts:"3" backoff:"1s..1m" jitter:"0.1"`
	_ listener.StartPaused `resume:"manual"`
}

func TestContainer_Refusals(t *testing.T) {
	t.Parallel()
	f := listener.Func[bill](nop)
	reg := func(opts ...listener.Option) listener.Registration { return must(listener.Register(f, opts...)) }
	tg := func(name string, opts ...listener.Option) listener.Registration {
		return reg(append([]listener.Option{listener.Name(name), listener.Topic("t"), listener.Group("g")}, opts...)...)
	}
	const fn = "(listener.Func[github.com/sluicemq/sluice/listener_test.bill])"
	for name, c := range map[string]struct {
		settings map[string]string
		regs     []listener.Registration
		want     []string
	}{
		"missing placeholders, all together": {
			regs: []listener.Registration{reg(listener.Name("a"), listener.Topic("${x.topic}"), listener.Group("${x.group}")), reg(listener.Name("b"), listener.Topic("${y}"), listener.Group("g"))},
			want: []string{"topic (option): no value for ${x.topic}", "group (option): no value for ${x.group}", "no value for ${y}"},
		},
		"bad value behind a placeholder": {
			settings: map[string]string{"n": "lots"}, regs: []listener.Registration{tg("a", func(s *listener.Spec) error { return s.Set("concurrency", "${n}") })},
			want: []string{`concurrency (option): concurrency "lots" is not a whole number`},
		},
		"missing group": {regs: []listener.Registration{reg(listener.Name("a"), listener.Topic("t"))}, want: []string{"group is missing; set it in the tag of listener.On, by listener.Group, or as listeners.a.group"}},
		"no name to derive": {
			regs: []listener.Registration{must(listener.Register(listener.Func[[]byte](nil), listener.Topic("t"), listener.Group("g"))), must(listener.Register(listener.Func[map[string]bill](nil)))},
			want: []string{"listener listener.Func[[]uint8]: name is missing, and its type and payload have none", "listener listener.Func[map[string]", "by listener.Name"},
		},
		"duplicate name": {regs: []listener.Registration{tg("a"), tg("a", listener.Topic("u"))}, want: []string{`two listeners are named "a": listener.Func`}},
		"unknown key":    {settings: map[string]string{"listeners.a.concurency": "3", "listeners.b.topic": "x"}, regs: []listener.Registration{tg("a")}, want: []string{`unknown key listeners.a.concurency (map) (did you mean "listeners.a.concurrency"?)`, `unknown key listeners.b.topic (map) (did you mean "listeners.a.topic"?)`}},
		"overlapping tags": {
			regs: []listener.Registration{tg("a", listener.Tags("x || y")), tg("b", listener.Tags("y || z"))},
			want: []string{`listeners "a" ` + fn + ` and "b" ` + fn + ` share group g and topic t, but both want the tag y: x || y and y || z`},
		},
		"everything and a tag": {regs: []listener.Registration{tg("a"), tg("b", listener.Tags("y"))}, want: []string{"both want the tag y: * and y"}},
		"differ": {
			regs: []listener.Registration{tg("a", listener.Tags("x"), listener.Ordered("queue", "block")), tg("b", listener.Tags("y"), listener.From("latest"), listener.Paused(true))},
			want: []string{"differ in ordered: true and false; differ in from: earliest and latest; differ in start: auto and paused"},
		},
		"sql beside another":                 {regs: []listener.Registration{tg("a", listener.SQL("x > 1")), tg("b", listener.Tags("y"))}, want: []string{"a listener with sql needs a group of its own: sql: x > 1 and y"}},
		"broadcast for one topic of a group": {regs: []listener.Registration{tg("a"), tg("b", listener.Topic("u"), listener.WithBroadcast())}, want: []string{"only one of them is broadcast"}},
		"in order for one topic of a group":  {regs: []listener.Registration{tg("a"), tg("b", listener.Topic("u"), listener.Ordered("queue", "block"))}, want: []string{"only one of them is ordered"}},
		"annotation that nobody serves":      {regs: []listener.Registration{tg("a", listener.Annotate("limit", 1))}, want: []string{`nothing serves its annotation "limit"`}},
		"tags and sql by configuration":      {settings: map[string]string{"listeners.a.sql": "x > 1"}, regs: []listener.Registration{tg("a", listener.Tags("y"))}, want: []string{"tags and sql exclude each other"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tryBuild(t, bundleOptions{settings: c.settings}, c.regs...)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
		})
	}
}

func TestAnnotation_OfAnotherPackage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got any
		var horizon time.Duration
		build(t, bundleOptions{settings: map[string]string{"limit.per": "5s"}, interceptors: []sdk.Interceptor{{
			Name: "limit", Annotations: []string{"limit"},
			Consume: func(info sdk.ListenerInfo, next sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
				got, horizon = info.Annotations["limit"], info.RetryHorizon
				return next, nil
			},
		}}}, must(listener.Register(&limited{})))
		if got != 5*time.Second || horizon != 4*time.Hour+45*time.Minute+40*time.Second {
			t.Errorf("annotation %v, horizon %s", got, horizon)
		}
	})
}

type limited struct {
	base
	_ listener.On `topic:"t" group:"g"`
	_ limit       `per:"${limit.per}"`
}

func TestMerge_OneSubscriptionRoutedByTag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		handle := func(name string) func(context.Context, *sdk.Message[bill]) error {
			return func(_ context.Context, m *sdk.Message[bill]) error {
				r.add(name + " " + m.Tag + " " + m.Listener)
				return nil
			}
		}
		var spec driver.SubscribeSpec
		broker := newFake()
		broker.onSubscribe = func(s driver.SubscribeSpec) error { spec = s; return nil }
		b := start(t, bundleOptions{broker: broker}, on(t, handle("one"), listener.Name("one"), listener.Tags("b || a")),
			on(t, handle("two"), listener.Name("two"), listener.Tags("c")))
		for _, tag := range []string{"a", "b", "c"} {
			b.broker.put("t", 0, driver.Message{Tag: tag, Body: []byte("{}")})
			time.Sleep(time.Second)
		}
		equal(t, "runs", r.get(), []string{"0s one a one", "1s one b one", "2s two c two"})
		if b.broker.members() != 1 || spec.Filter.String() != "a || b || c" {
			t.Errorf("%d members, filter %s", b.broker.members(), spec.Filter)
		}
		if s, _ := b.c.Status("one"); strings.Join(s.Shared, " ") != "one two" {
			t.Errorf("shared %v", s.Shared)
		}
		err := b.c.Pause(t.Context(), listener.Named("one"), listener.HoldLanes)
		if err == nil || !strings.Contains(err.Error(), "listener one shares the subscription of group g to t with two; choose all of them or none") {
			t.Errorf("pausing half: %v", err)
		}
		if err := b.c.Pause(t.Context(), listener.Named("one", "two"), listener.HoldLanes); err != nil {
			t.Error(err)
		}
	})
}

func TestDisabled_ListenerIsNotStarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, bundleOptions{settings: map[string]string{"listeners.l.enabled": "no"}}, on(t, nop))
		if _, ok := b.c.Status("l"); ok || b.broker.members() != 0 || len(b.c.States()) != 0 {
			t.Error("it was started")
		}
		if err := b.c.Resume(t.Context(), listener.Named("l")); err == nil || !strings.Contains(err.Error(), "disabled by configuration") {
			t.Errorf("resume: %v", err)
		}
	})
}

func TestCapabilities_AllGapsAtOnce(t *testing.T) {
	t.Parallel()
	broker := newFake()
	broker.caps = driver.Capabilities{System: "poor"}
	f := listener.Func[bill](nop)
	b := build(t, bundleOptions{broker: broker},
		must(listener.Register(f, listener.Name("a"), listener.Topic("t"), listener.Group("a"), listener.SQL("x > 1"))),
		must(listener.Register(f, listener.Name("b"), listener.Topic("t"), listener.Group("b"), listener.Tags("x"), listener.Ordered("queue", "block"))),
		must(listener.Register(f, listener.Name("c"), listener.Topic("t"), listener.Group("c"), listener.WithBroadcast())),
	)
	err := b.c.Start(t.Context())
	for _, want := range []string{`the broker "poor"`, "listener a (", "needs sql filters", "needs delayed retries", "listener b (", "needs ordered", "needs tag filters", "listener c (", "needs broadcast"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v\nlacks %s", err, want)
		}
	}
	if err := errors.Join(b.c.Stop(t.Context()), b.client.Close(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestParseTag(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]string{
		`a:"1" b:"x y"`:   "map[a:1 b:x y]",
		``:                "map[]",
		`a:"q\"q"`:        `map[a:q"q]`,
		`a: "1"`:          `malformed tag at "a: \"1\""`,
		`a:"1`:            "malformed tag",
		`a`:               "malformed tag",
		"a:`1`":           "malformed tag",
		`a:"1"b:"2"`:      "malformed tag",
		`a:"1" a:"2"`:     `key "a" stands twice`,
		`a:" "`:           `key "a" is empty`,
		`c:"1" b:"" x:""`: `unknown key "c"; it takes a, b; key "b" is empty; leave it out instead; unknown key "x"; it takes a, b`,
	} {
		got, err := listener.ParseTag(reflect.StructTag(tag), "a", "b")
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if !strings.HasPrefix(text, want) {
			t.Errorf("%s:\n got %s\nwant %s", tag, text, want)
		}
	}
}

func FuzzParseTag(f *testing.F) {
	f.Add(`a:"1" b:"x y"`)
	f.Add(`a: "1"`)
	f.Fuzz(func(t *testing.T, tag string) {
		got, err := listener.ParseTag(reflect.StructTag(tag), "a", "b")
		if err != nil {
			return
		}
		for k, v := range got {
			if reflect.StructTag(tag).Get(k) != v {
				t.Errorf("%q: %s is %q here and %q at reflect", tag, k, v, reflect.StructTag(tag).Get(k))
			}
		}
	})
}
