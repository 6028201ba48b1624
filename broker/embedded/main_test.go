package embedded_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/drivertest"
)

func TestMain(m *testing.M) {
	drivertest.SideBySide(16)
	goleak.VerifyTestMain(m)
}
