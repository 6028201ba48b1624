package tx_test

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
	"github.com/sluicemq/sluice/tx"
)

func withBroker(b *broker) fx.Option {
	return fx.Options(
		fx.Provide(fx.Annotate(func() driver.Driver { return b }, fx.ResultTags(`group:"`+driver.Group+`"`))),
		fx.Provide(func() tx.Local { return newRows() }),
		fx.NopLogger,
	)
}

func TestModule_SendsAndAnswers(t *testing.T) {
	t.Parallel()
	b := newBroker()
	var s *tx.Sender[billSettled]
	app := fxtest.New(t, withBroker(b), config.Map(map[string]string{"bills.topic": "bill-paid"}), sdk.Module,
		tx.Provide[billSettled](tx.Topic("${bills.topic:bill-settled}"), tx.Group("${bills.group:bills}")),
		fx.Populate(&s), sdk.Start())
	app.RequireStart()
	if res, err := s.Send(t.Context(), billSettled{"B-1"}, work(nil), sdk.ID("B-1")); err != nil || res.Outcome != tx.Committed {
		t.Errorf("Send = %v, %v", res, err)
	}
	if got := b.halves["B-1"].message.Topic; got != "bill-paid" {
		t.Errorf("topic = %q", got)
	}
	app.RequireStop()
}

func TestModule_ForgottenPartsAreNamed(t *testing.T) {
	t.Parallel()
	sender := tx.Provide[billSettled](tx.Topic("bill-settled"), tx.Group("bills"))
	for want, opts := range map[string]fx.Option{
		"add sdk.Start() as the last option": fx.Options(withBroker(newBroker()), sdk.Module, sender),
		"no value for": fx.Options(withBroker(newBroker()), sdk.Module, sdk.Start(),
			tx.Provide[billSettled](tx.Topic("${bills.topic}"), tx.Group("bills")), fx.Invoke(func(*tx.Sender[billSettled]) {})),
		"two senders of group bills": fx.Options(withBroker(newBroker()), sdk.Module, sdk.Start(), sender,
			tx.Provide[struct{ billSettled }](tx.Topic("other"), tx.Group("bills"), tx.TypeName("tx_test.billSettled"))),
	} {
		err := fx.New(opts).Err()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

// A broker without half messages is seen at the start, not at the first message.
func TestModule_BrokerWithoutHalves(t *testing.T) {
	t.Parallel()
	b := newBroker()
	b.noHalves = true
	app := fx.New(withBroker(b), sdk.Module, tx.Provide[billSettled](tx.Topic("bill-settled"), tx.Group("bills")), sdk.Start())
	err := app.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "stores no half messages") {
		t.Errorf("Start = %v", err)
	}
	_ = app.Stop(context.WithoutCancel(t.Context()))
}
