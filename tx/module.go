package tx

import (
	"reflect"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk"
)

type senderParams[T any] struct {
	fx.In

	Params Params
	Check  CheckFunc[T] `optional:"true"`
}

type senderResult[T any] struct {
	fx.Out

	Sender *Sender[T]
	Any    AnySender `group:"sluice.tx.senders"`
}

type serviceParams[T any] struct {
	fx.In

	Client  *sdk.Client
	Own     *Sender[T]
	Senders []AnySender `group:"sluice.tx.senders"`
}

// Provide gives a [*Sender] for payloads T to the graph and answers its
// check-backs while the application runs:
//
//	tx.Provide[BillSettled](tx.Topic("${bills.topic:bill-settled}"), tx.Group("bills"))
//
// It takes the [Local] of the graph, which marker.Module provides, unless
// [WithLocal] is given, and a [CheckFunc] for T if the graph has one. Senders of
// one application share one check loop per group. Do not wrap it in fx.Private:
// the check loops would not see the sender.
func Provide[T any](opts ...Option) fx.Option {
	name := reflect.TypeFor[T]().String()
	return fx.Module("tx("+name+")",
		sdk.RequireStart("the sender of "+name),
		fx.Provide(func(p senderParams[T]) (senderResult[T], error) {
			if p.Check != nil {
				opts = append([]Option{Checker(p.Check)}, opts...)
			}
			s, err := NewSender[T](p.Params, opts...)
			return senderResult[T]{Sender: s, Any: s}, err
		}),
		sdk.AsService(func(p serviceParams[T]) (sdk.Service, error) { return provideService(p, name) }),
	)
}

// provideService lets one sender start the loops of all. fx refuses to provide
// one type twice, so there can be no shared object that every Provide brings,
// and no module should have to be listed for it.
func provideService[T any](p serviceParams[T], name string) (sdk.Service, error) {
	if !leads(p.Own, p.Senders) {
		return sdk.Service{Name: "tx(" + name + ")", Phase: sdk.PhaseChecks}, nil
	}
	checks, err := NewChecks(p.Client, p.Senders...)
	if err != nil {
		return sdk.Service{}, err
	}
	return checks.Service(), nil
}
