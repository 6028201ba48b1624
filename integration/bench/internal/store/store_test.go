package store_test

import (
	"testing"

	"github.com/sluicemq/sluice/integration/bench/internal/store"
)

// TestSuite checks that goals name steps, and that steps serve goals.
func TestSuite(t *testing.T) {
	t.Parallel()
	for _, wrong := range store.Suite().Check() {
		t.Error(wrong)
	}
}
