package sdk_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// fakeBroker is a broker module over conn.
func fakeBroker(conn driver.Conn) fx.Option {
	return fx.Module("fake", fx.Provide(fx.Annotate(func() driver.Driver { return driverOf(conn) }, fx.ResultTags(`group:"`+driver.Group+`"`))))
}

type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, s)
}

func (e *events) service(name string, phase sdk.Phase) sdk.Service {
	return sdk.Service{
		Name: name, Phase: phase,
		Start: func(context.Context) error { e.add("start " + name); return nil },
		Stop:  func(context.Context) error { e.add("stop " + name); return nil },
	}
}

func TestModule(t *testing.T) {
	t.Parallel()
	conn := newConn()
	var ev events
	var log logBuffer
	rec, mes := newTraced(t), newMeasured(t)
	var p *sdk.Producer
	app := fxtest.New(t,
		config.Map(map[string]string{"sluice.client-id": "app", "sluice.declared": "1"}), config.Declare("sluice.declared"),
		fx.Provide(func() trace.TracerProvider { return rec.provider }, func() metric.MeterProvider { return mes.provider }, log.logger),
		fakeBroker(conn), sdk.Module,
		fx.Module("user",
			sdk.RequireStart("listener *user.L"),
			sdk.AsService(func(c *sdk.Client) (sdk.Service, error) { return ev.service("listeners", sdk.PhaseListeners), nil }),
			sdk.AsService(ev.service("warm-up", 50)),
			sdk.AsCodec(func() shout { return shout{"text/shout"} }),
			sdk.AsInterceptor(func(l *slog.Logger) sdk.Interceptor { return recorder("mine", 150, new([]string)) }),
			fx.Invoke(func(lc fx.Lifecycle) {
				lc.Append(fx.Hook{
					OnStart: func(context.Context) error { ev.add("start user hook"); return nil },
					OnStop:  func(context.Context) error { ev.add("stop user hook"); return nil },
				})
			}),
		),
		fx.Populate(&p),
		sdk.Start(sdk.StopBudget(20*time.Second)),
	)
	if app.StopTimeout() != 20*time.Second {
		t.Errorf("stop timeout %v", app.StopTimeout())
	}
	app.RequireStart()
	if _, err := p.Send(t.Context(), "bills", "hey", sdk.ContentType("text/shout")); err != nil {
		t.Fatal(err)
	}
	app.RequireStop()
	want := []string{"start user hook", "start warm-up", "start listeners", "stop listeners", "stop warm-up", "stop user hook"}
	if !slices.Equal(ev.list, want) {
		t.Errorf("got  %q\nwant %q", ev.list, want)
	}
	m := conn.messages()[0]
	if string(m.Body) != "HEY" || m.Properties["seen-by"] != "mine" || m.Properties["traceparent"] == "" || conn.closes != 1 {
		t.Errorf("sent %+v, closed %d times", m, conn.closes)
	}
	rec.span(t, "send bills")
	if !strings.Contains(log.String(), `services="[warm-up client listeners]" interceptors="[tracing mine metrics]"`) {
		t.Errorf("the registrations are not logged: %s", log.String())
	}
}

func errOf(opts ...fx.Option) error { return fx.New(append(opts, fx.NopLogger)...).Err() }

func TestModuleErrors(t *testing.T) {
	t.Parallel()
	noop := fx.Invoke(func(*sdk.Client) {})
	for name, tt := range map[string]struct {
		opts []fx.Option
		want string
	}{
		"no start":         {[]fx.Option{sdk.Module, sdk.RequireStart("listener *shop.Bonus")}, "listener *shop.Bonus is registered but sdk.Start() is not among the fx options; add sdk.Start() as the last option of fx.New"},
		"no module":        {[]fx.Option{sdk.Start()}, "sdk.Start() is among the fx options but sdk.Module is not; add sdk.Module"},
		"budget":           {[]fx.Option{sdk.Start(sdk.StopBudget(-time.Second))}, "sdk.StopBudget(-1s): it must be longer than 0"},
		"settings":         {[]fx.Option{sdk.Module, config.Map(map[string]string{"sluice.brokr": "x"}), noop}, `unknown key sluice.brokr (map) (did you mean "sluice.broker"?)`},
		"bad interceptor":  {[]fx.Option{sdk.AsInterceptor(func() int { return 1 })}, "sdk.AsInterceptor takes a constructor that returns sdk.Interceptor or (sdk.Interceptor, error), or a value of that type; it was given func() int"},
		"pointer":          {[]fx.Option{sdk.AsInterceptor(func() *sdk.Interceptor { return nil })}, "it was given func() *sdk.Interceptor"},
		"second result":    {[]fx.Option{sdk.AsService(func() (sdk.Service, int) { return sdk.Service{}, 1 })}, "sdk.AsService takes a constructor that returns sdk.Service or (sdk.Service, error)"},
		"no codec":         {[]fx.Option{sdk.AsCodec("json")}, "sdk.AsCodec takes a constructor that returns sdk.Codec or (sdk.Codec, error), or a value of that type; it was given string"},
		"nothing":          {[]fx.Option{sdk.AsCodec(nil)}, "it was given <nil>"},
		"failing ctor":     {[]fx.Option{sdk.Module, noop, sdk.AsInterceptor(func() (sdk.Interceptor, error) { return sdk.Interceptor{}, errors.New("no luck") })}, "no luck"},
		"twin interceptor": {[]fx.Option{sdk.Module, noop, sdk.AsInterceptor(sdk.Interceptor{Name: "x"}), sdk.AsInterceptor(sdk.Interceptor{Name: "x"})}, `two interceptors are named "x"; the name must be unique`},
		"twin service":     {[]fx.Option{sdk.Module, sdk.AsService(sdk.Service{Name: "client"}), sdk.Start()}, `two services are named "client"; the name must be unique`},
		"twin codec":       {[]fx.Option{sdk.Module, noop, sdk.AsCodec(shout{"a/b"}), sdk.AsCodec(func() (sdk.Codec, error) { return shout{"a/b"}, nil })}, "both serve the content type a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, errOf(tt.opts...), tt.want)
		})
	}
}

func TestStartWithoutDriver(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, sdk.Module, sdk.Start())
	if app.Err() != nil {
		t.Fatal(app.Err())
	}
	wantError(t, app.Start(t.Context()), "start service client: connect to the broker: the application holds no broker driver; add one, such as embedded.Module")
}

func TestStartFailureStopsOthers(t *testing.T) {
	t.Parallel()
	conn := newConn()
	var ev events
	app := fx.New(fx.NopLogger, fakeBroker(conn), sdk.Module, sdk.Start(),
		sdk.AsService(ev.service("checks", sdk.PhaseChecks)),
		sdk.AsService(sdk.Service{Name: "gate", Phase: sdk.PhaseListeners, Start: func(context.Context) error { return errors.New("red") }}),
	)
	wantError(t, app.Start(t.Context()), "start service gate: red")
	if want := []string{"start checks", "stop checks"}; !slices.Equal(ev.list, want) || conn.closes != 1 {
		t.Errorf("%q, closed %d times", ev.list, conn.closes)
	}
}

func TestStopBudgetWarning(t *testing.T) {
	t.Parallel()
	for budget, warn := range map[string]bool{"1m": true, "10s": false} {
		var log logBuffer
		err := errOf(sdk.Module, config.Map(map[string]string{"sluice.stop-budget": budget}), fx.Provide(log.logger), sdk.Start())
		if got := strings.Contains(log.String(), "sluice.stop-budget is longer than the application may take to stop"); err != nil || got != warn {
			t.Errorf("budget %s: warned %v, %v", budget, got, err)
		}
	}
}

// TestHookSurvivesAStuckService: the hooks after ours run although a service
// never stops.
func TestHookSurvivesAStuckService(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	var ev events
	app := fx.New(fx.NopLogger, fakeBroker(newConn()), sdk.Module, fx.StopTimeout(2*time.Second),
		fx.Invoke(func(lc fx.Lifecycle) {
			lc.Append(fx.Hook{OnStop: func(context.Context) error { ev.add("database closed"); return nil }})
		}),
		sdk.AsService(sdk.Service{Name: "stuck", Phase: 500, Stop: func(context.Context) error { <-release; return nil }}),
		sdk.Start(),
	)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := app.Stop(ctx)
	wantError(t, err, "stop service stuck: it did not return in time")
	if !slices.Equal(ev.list, []string{"database closed"}) {
		t.Errorf("the hook after ours did not run: %q", ev.list)
	}
}
