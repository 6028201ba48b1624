package sdk

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk/config"
)

// Module provides [*config.Config], [*Codecs], [*Client], [*Producer] and
// [*Tracing], and registers the connection as a [Service]. Its constructors
// start nothing; [Start] does. From the graph it takes, if they are there, a
// *slog.Logger, a trace.TracerProvider, a metric.MeterProvider and a
// propagation.TextMapPropagator.
var Module = fx.Module("sluice.sdk",
	fx.Provide(config.Provide, NewCodecs, provideClient),
)

// ClientResult is what [Module] gives to the graph.
type ClientResult struct {
	fx.Out

	Client   *Client
	Producer *Producer
	Tracing  *Tracing
	Service  Service `group:"sluice.services"`
}

func provideClient(p ClientParams) (ClientResult, error) {
	c, err := NewClient(p)
	if err != nil {
		return ClientResult{}, err
	}
	return ClientResult{Client: c, Producer: c.Producer(), Tracing: c.Tracing(), Service: c.Service()}, nil
}

// AsInterceptor registers an [Interceptor]: ctor is a constructor that returns
// Interceptor or (Interceptor, error) and takes its dependencies from the graph,
// or an Interceptor itself. A constructor must not depend on [*Client] or
// [*Producer], which depend on it.
func AsInterceptor(ctor any) fx.Option {
	return grouped[Interceptor]("sdk.AsInterceptor", "sluice.interceptors", ctor)
}

// AsCodec registers a [Codec]: ctor is a constructor that returns one, with or
// without an error, or a Codec itself.
func AsCodec(ctor any) fx.Option { return grouped[Codec]("sdk.AsCodec", "sluice.codecs", ctor) }

// AsService registers a [Service]: ctor is a constructor that returns Service or
// (Service, error), or a Service itself.
func AsService(ctor any) fx.Option {
	return grouped[Service]("sdk.AsService", "sluice.services", ctor)
}

// grouped provides ctor into a value group. A result of the wrong type would
// land in a group that nobody reads, so it is refused.
func grouped[T any](helper, group string, ctor any) fx.Option {
	want := reflect.TypeFor[T]()
	tag := fx.ResultTags(`group:"` + group + `"`)
	if v, ok := ctor.(T); ok {
		return fx.Provide(fx.Annotate(func() T { return v }, tag))
	}
	t := reflect.TypeOf(ctor)
	bad := func() fx.Option {
		return fx.Error(fmt.Errorf("%s takes a constructor that returns %s or (%s, error), or a value of that type; it was given %T", helper, want, want, ctor))
	}
	if t == nil || t.Kind() != reflect.Func || t.NumOut() < 1 || t.NumOut() > 2 {
		return bad()
	}
	if t.NumOut() == 2 && t.Out(1) != reflect.TypeFor[error]() {
		return bad()
	}
	switch out := t.Out(0); {
	case out == want:
		return fx.Provide(fx.Annotate(ctor, tag))
	case want.Kind() == reflect.Interface && out.Implements(want):
		return fx.Provide(fx.Annotate(ctor, fx.As(new(T)), tag))
	default:
		return bad()
	}
}

// StartMarker is in the graph if [Start] is among the fx options; see
// [RequireStart].
type StartMarker struct {
	stopBudget time.Duration
}

// StartOption changes what [Start] does.
type StartOption func(*StartMarker)

// StopBudget is how long the application may take to stop; it sets
// fx.StopTimeout and lets the services divide the time. Defaults to the 15s of
// fx.
func StopBudget(d time.Duration) StartOption {
	return func(m *StartMarker) { m.stopBudget = d }
}

type startParams struct {
	fx.In

	Lifecycle fx.Lifecycle
	Marker    *StartMarker
	Services  []Service    `group:"sluice.services"`
	Client    *Client      `optional:"true"`
	Logger    *slog.Logger `optional:"true"`
}

// Start starts the registered services and stops them in reverse. It is the last
// option of fx.New, outside of any module: consumption then begins after every
// other start hook and ends before every other stop hook. All services share one
// hook, which stops what it has started if one of them fails, and returns at
// least 500ms before the stop deadline so that the hooks after it run.
func Start(opts ...StartOption) fx.Option {
	m := &StartMarker{}
	for _, o := range opts {
		o(m)
	}
	list := []fx.Option{fx.Supply(m), fx.Invoke(appendHook)}
	switch {
	case m.stopBudget > 0:
		list = append(list, fx.StopTimeout(m.stopBudget))
	case m.stopBudget < 0:
		list = append(list, fx.Error(fmt.Errorf("sdk.StopBudget(%v): it must be longer than 0", m.stopBudget)))
	}
	return fx.Options(list...)
}

func appendHook(p startParams) error {
	if p.Client == nil {
		return errors.New("sdk.Start() is among the fx options but sdk.Module is not; add sdk.Module")
	}
	logger := p.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	budget := p.Client.settings.StopBudget
	given := p.Marker.stopBudget
	if given == 0 {
		given = fx.DefaultTimeout
	}
	if budget > given-stopMargin {
		logger.Warn("sluice.stop-budget is longer than the application may take to stop; the stop will be cut short, see sdk.StopBudget",
			slog.Duration("budget", budget), slog.Duration("stop_timeout", given))
	}
	l, err := newLifecycle(p.Services, budget, logger)
	if err != nil {
		return err
	}
	logger.Debug("services registered", slog.Any("services", l.names()), slog.Any("interceptors", p.Client.interceptorNames()))
	p.Lifecycle.Append(fx.Hook{OnStart: l.start, OnStop: l.stop})
	return nil
}

// RequireStart makes the start fail with a sentence if [Start] is not among the
// fx options; what names the registration, such as "listener *shop.Bonus".
func RequireStart(what string) fx.Option {
	type params struct {
		fx.In

		Marker *StartMarker `optional:"true"`
	}
	return fx.Invoke(func(p params) error {
		if p.Marker == nil {
			return fmt.Errorf("%s is registered but sdk.Start() is not among the fx options; add sdk.Start() as the last option of fx.New", what)
		}
		return nil
	})
}
