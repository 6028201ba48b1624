package apache

import (
	"os"
	"testing"

	"github.com/sluicemq/sluice/broker/drivertest"
)

func TestMain(m *testing.M) {
	drivertest.SideBySide(32)
	os.Exit(m.Run())
}
