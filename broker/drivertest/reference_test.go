package drivertest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/drivertest/internal/reference"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func referenceHarness() Harness {
	return Harness{
		Virtual: true,
		Open: func(testing.TB) Broker {
			b := reference.New(reference.Config{CheckMax: 4})
			return Broker{
				Connect: Connector(b), Close: b.Close,
				CrashAndReopen: func(testing.TB) { b.Crash() }, Reopen: func(testing.TB) {},
			}
		},
		Limits: Limits{CheckMax: 4, CheckGap: 31 * time.Second},
	}
}

func TestRun_Reference(t *testing.T) {
	t.Parallel()
	Run(t, referenceHarness()).RequireComplete(t)
}
