package main

import (
	"context"
	"database/sql"
	"testing"
	"time"
)

// fixture holds the databases of the services with nothing in them.
type fixture struct {
	folder folder
	bills  *billStore
	wallet *wallet
	book   *book
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := folder(t.TempDir())
	open := func(service, schema string) *sql.DB {
		db, err := f.open(service)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		execute(t, db, schema)
		return db
	}
	return &fixture{
		folder: f,
		bills:  &billStore{db: open("bills", billSchema)},
		wallet: &wallet{db: open("redpacket", walletSchema)},
		book:   &book{db: open("ledger", ledgerSchema)},
	}
}

func execute(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// pay announces and pays a bill of 1000 cents, which earns 10.
func (f *fixture) pay(t *testing.T, id, account string) {
	t.Helper()
	fresh, _, err := f.bills.Announce(t.Context(), []row{{id, account, "gas", 1000, 1000, 2}}, time.Now())
	if err != nil || len(fresh) != 1 {
		t.Fatalf("announce %s: %v, %v", id, fresh, err)
	}
	err = inTx(t.Context(), f.bills.db, func(tx *sql.Tx) error { return f.bills.Pay(t.Context(), tx, &fresh[0], false) })
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) credit(t *testing.T, id, account string) {
	t.Helper()
	if err := f.wallet.Credit(t.Context(), id, account, packet(1000)); err != nil {
		t.Fatal(err)
	}
}

// The audit sees what went wrong even if no counter and no key of the services
// does: the cases write to the tables behind their backs.
func TestReconcile(t *testing.T) {
	t.Parallel()
	move := func(t *testing.T, f *fixture, id, account string, cents int64) {
		execute(t, f.wallet.db, `INSERT INTO movements(bill_id, account, cents) VALUES(?,?,?)`, id, account, cents)
		execute(t, f.wallet.db, `INSERT INTO balances(account, cents) VALUES(?,?)
			ON CONFLICT DO UPDATE SET cents = cents + excluded.cents`, account, cents)
	}
	for name, c := range map[string]struct {
		spoil        func(t *testing.T, f *fixture)
		lost, double int
	}{
		"in order":            {func(*testing.T, *fixture) {}, 0, 0},
		"lost":                {func(t *testing.T, f *fixture) { f.pay(t, "B3", "A1") }, 1, 0},
		"lost, whole account": {func(t *testing.T, f *fixture) { f.pay(t, "B3", "A9") }, 1, 0},
		"paid twice":          {func(t *testing.T, f *fixture) { move(t, f, "B1", "A1", 10) }, 0, 1},
		"paid three times": {func(t *testing.T, f *fixture) {
			move(t, f, "B1", "A1", 10)
			move(t, f, "B1", "A1", 10)
		}, 0, 2},
		"paid for nothing": {func(t *testing.T, f *fixture) { move(t, f, "B7", "A1", 10) }, 0, 1},
		"one lost, one twice in the same account": {func(t *testing.T, f *fixture) {
			f.pay(t, "B3", "A1")
			move(t, f, "B1", "A1", 10)
		}, 1, 1},
		"balance above the journal": {func(t *testing.T, f *fixture) {
			execute(t, f.wallet.db, `UPDATE balances SET cents = cents + 1 WHERE account = 'A1'`)
		}, 0, 1},
		"balance below the journal": {func(t *testing.T, f *fixture) {
			execute(t, f.wallet.db, `UPDATE balances SET cents = cents - 1 WHERE account = 'A2'`)
		}, 1, 0},
		"wrong amount": {func(t *testing.T, f *fixture) {
			f.pay(t, "B3", "A1")
			move(t, f, "B3", "A1", 9)
		}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			for id, account := range map[string]string{"B1": "A1", "B2": "A2"} {
				f.pay(t, id, account)
				f.credit(t, id, account)
			}
			c.spoil(t, f)
			a, err := reconcile(t.Context(), f.bills.db, f.wallet.db)
			if err != nil {
				t.Fatal(err)
			}
			if a.Lost != c.lost || a.DoublePayouts != c.double {
				t.Errorf("lost %d, double payouts %d; want %d, %d\n%q", a.Lost, a.DoublePayouts, c.lost, c.double, a.Findings)
			}
			if (len(a.Findings) == 0) != (c.lost+c.double == 0) {
				t.Errorf("findings %q", a.Findings)
			}
		})
	}
}

func TestWallet_PaysABillOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.pay(t, "B1", "A1")
	f.credit(t, "B1", "A1")
	if err := f.wallet.Credit(t.Context(), "B1", "A1", 10); err == nil {
		t.Error("the second credit is no error")
	}
	a, err := reconcile(t.Context(), f.bills.db, f.wallet.db)
	if err != nil || a.Lost+a.DoublePayouts != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestCountInversions(t *testing.T) {
	t.Parallel()
	type entry struct {
		id, account, lane string
		position          int64
	}
	for name, c := range map[string]struct {
		entries []entry
		want    int
	}{
		"none": {nil, 0},
		"in order": {[]entry{
			{"B1", "A1", "l/0", 5}, {"B2", "A2", "l/1", 1}, {"B3", "A1", "l/0", 7}, {"B4", "A2", "l/1", 2},
		}, 0},
		"another account may be behind": {[]entry{{"B1", "A1", "l/0", 5}, {"B2", "A2", "l/0", 3}}, 0},
		"backwards":                     {[]entry{{"B1", "A1", "l/0", 5}, {"B2", "A1", "l/0", 4}}, 1},
		"two lanes":                     {[]entry{{"B1", "A1", "l/0", 5}, {"B2", "A1", "l/1", 6}}, 1},
		"a repetition is no entry":      {[]entry{{"B1", "A1", "l/0", 5}, {"B2", "A1", "l/0", 6}, {"B1", "A1", "l/0", 5}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			for _, e := range c.entries {
				if err := f.book.Append(t.Context(), billSettled{BillID: e.id, Account: e.account}, e.lane, e.position); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := countInversions(t.Context(), f.book.db); err != nil || n != c.want {
				t.Errorf("got %d, %v; want %d", n, err, c.want)
			}
		})
	}
}

// Two handlers with one account at once are an inversion, whatever they write.
func TestLedger_NoticesOverlap(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := newLedger(f.book, chaos{})
	if n := l.enter("A1"); n != 1 {
		t.Fatalf("enter = %d", n)
	}
	if err := l.OnMessage(t.Context(), settled("B1", "A1")); err != nil {
		t.Fatal(err)
	}
	if err := l.OnMessage(t.Context(), settled("B2", "A2")); err != nil {
		t.Fatal(err)
	}
	if n, err := countInversions(t.Context(), f.book.db); err != nil || n != 1 {
		t.Errorf("got %d, %v; want 1", n, err)
	}
	l.leave("A1")
	if len(l.busy) != 0 {
		t.Errorf("accounts stay busy: %v", l.busy)
	}
}

// A report that is not in order is an error and says what is wrong.
func TestReport_Check(t *testing.T) {
	t.Parallel()
	good := report{Bills: 10, Committed: 9, RolledBack: 1, RedPackets: 9}
	if err := good.check(); err != nil {
		t.Errorf("check = %v", err)
	}
	for name, spoil := range map[string]func(*report){
		"lost":       func(r *report) { r.Lost = 1 },
		"double":     func(r *report) { r.DoublePayouts = 1 },
		"inversion":  func(r *report) { r.LedgerInversions = 1 },
		"undecided":  func(r *report) { r.Bills++ },
		"no packet":  func(r *report) { r.RedPackets-- },
		"given up":   func(r *report) { r.DeadLetters = 1 },
		"cut, twice": func(r *report) { r.Interrupted, r.DoublePayouts = true, 1 },
	} {
		r := good
		spoil(&r)
		if r.check() == nil {
			t.Errorf("%s: check = nil", name)
		}
	}
	cut := good
	cut.Interrupted, cut.RedPackets = true, 3
	if err := cut.check(); err != nil {
		t.Errorf("an interrupted run: %v", err)
	}
}

// An interrupted run counts what is on its way as pending, a complete one as lost.
func TestMakeReport_PendingOrLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for service, schema := range map[string]string{"notify": notifySchema, "closer": closerSchema} {
		db, err := f.folder.open(service)
		if err != nil {
			t.Fatal(err)
		}
		execute(t, db, schema)
		_ = db.Close()
	}
	f.pay(t, "B1", "A1")
	f.pay(t, "B2", "A1")
	f.credit(t, "B1", "A1")
	if _, _, err := f.bills.Announce(t.Context(), []row{{"B3", "A1", "gas", 1000, 1000, 4}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	w, err := newWatch(f.folder, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, interrupted := range []bool{false, true} {
		r, err := makeReport(context.Background(), w, outcome{interrupted: interrupted})
		if err != nil {
			t.Fatal(err)
		}
		wantLost, wantPending := 1, 1
		if interrupted {
			wantLost, wantPending = 0, 2
		}
		if r.Lost != wantLost || r.Pending != wantPending || r.RedPackets != 1 || r.Committed != 2 {
			t.Errorf("interrupted %v: %+v; want lost %d, pending %d", interrupted, r, wantLost, wantPending)
		}
	}
}
