package main

import (
	"database/sql"
	"testing"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk"
)

// Everything that the program needs is in its graph.
func TestWiring(t *testing.T) {
	t.Parallel()
	if err := fx.ValidateApp(options(t.TempDir(), &sql.DB{}, nil), sdk.Start()); err != nil {
		t.Fatal(err)
	}
}
