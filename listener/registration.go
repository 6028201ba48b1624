package listener

import (
	"errors"
	"fmt"
	"reflect"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk"
)

// Registration is a listener on its way to the [Container].
type Registration struct {
	spec *Spec
	bind invoker
}

// Register makes a registration without fx, for [ContainerParams].
func Register[T any](h Handler[T], opts ...Option) (Registration, error) {
	t := reflect.TypeOf(h)
	if t == nil {
		return Registration{}, errors.New("listener: the handler is nil")
	}
	spec, err := newSpec(t, reflect.TypeFor[T](), opts)
	if err != nil {
		return Registration{}, err
	}
	return Registration{spec: spec, bind: invokerOf(h)}, nil
}

type registrationResult struct {
	fx.Out

	Registration Registration `group:"listener.registrations"`
}

type moduleMarker struct{}

// Provide registers a listener: a type that implements [Handler], whose marker
// fields and options say what it listens to. T is inferred:
//
//	listener.Provide[*RedPackets](NewRedPackets)
//	listener.Provide[listener.Func[OrderPaid]](Audit, listener.Topic("orders"), listener.Group("audit"))
//
// ctor is func(dependencies…) L or func(dependencies…) (L, error); its
// dependencies come from the graph, and L itself stays private to the listener.
// Do not wrap the result in fx.Private: the listener would vanish in silence.
//
// Without a name in the markers or options a listener is called after its type
// in kebab case, without the suffix Listener: *pay.RedPacketListener is
// red-packet, *bonus.Listener is bonus. A Func is called after its payload type;
// payloads without a name of their own, such as []byte, need one given.
//
// Mistakes in markers and options are an fx.Error with one text that names the
// type. What needs configuration or the other listeners is checked when the
// container is built, what needs the broker when it starts.
func Provide[L Handler[T], T any](ctor any, opts ...Option) fx.Option {
	t := reflect.TypeFor[L]()
	spec, err := newSpec(t, reflect.TypeFor[T](), opts)
	if err == nil {
		if e := checkConstructor(t, ctor); e != nil {
			err = fmt.Errorf("listener %s: %w", t, e)
		}
	}
	if err != nil {
		return fx.Error(err)
	}
	what := "listener " + t.String()
	return fx.Module("listener("+t.String()+")",
		sdk.RequireStart(what),
		requireModule(what),
		fx.Provide(ctor, fx.Private),
		fx.Provide(func(l L) registrationResult {
			return registrationResult{Registration: Registration{spec: spec, bind: invokerOf[T](l)}}
		}),
	)
}

func checkConstructor(t reflect.Type, ctor any) error {
	form := fmt.Sprintf("it takes func(dependencies…) %s or func(dependencies…) (%s, error)", t, t)
	if ctor == nil {
		return fmt.Errorf("the constructor is nil; %s", form)
	}
	c := reflect.TypeOf(ctor)
	if c.Kind() != reflect.Func {
		return fmt.Errorf("the constructor is %s; %s", c, form)
	}
	if reflect.ValueOf(ctor).IsNil() {
		return fmt.Errorf("the constructor is nil; %s", form)
	}
	ok := c.NumOut() >= 1 && c.NumOut() <= 2 && c.Out(0) == t
	if !ok || c.NumOut() == 2 && c.Out(1) != reflect.TypeFor[error]() {
		return fmt.Errorf("the constructor is %s; %s", c, form)
	}
	return nil
}

type moduleCheck struct {
	fx.In

	Marker *moduleMarker `optional:"true"`
}

// requireModule turns a forgotten listener.Module into a sentence.
func requireModule(what string) fx.Option {
	return fx.Invoke(func(c moduleCheck) error {
		if c.Marker == nil {
			return fmt.Errorf("%s is registered but listener.Module is not among the fx options; add listener.Module beside sdk.Module", what)
		}
		return nil
	})
}

// Module provides the [Container] and starts and stops it with the
// application. Every application with listeners lists it beside sdk.Module.
var Module = fx.Module("listener",
	fx.Supply(&moduleMarker{}),
	fx.Provide(NewContainer),
	sdk.AsService(func(c *Container) sdk.Service { return c.Service() }),
	// Whoever lists the module wants mistakes seen when the application is
	// built, even if nothing else asks for the container.
	fx.Invoke(func(*Container) {}),
)
