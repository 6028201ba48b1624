package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sluicemq/sluice/integration/internal/pgtest"
)

func TestStart(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var n int
	if err := conn.QueryRow(t.Context(), "select 40 + 2").Scan(&n); err != nil || n != 42 {
		t.Fatalf("select 40 + 2 = %d, %v", n, err)
	}
}
