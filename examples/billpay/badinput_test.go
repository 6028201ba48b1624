package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded"
)

// Every wrong input is answered with one clear sentence and a status above 0.
func TestRun_BadInput(t *testing.T) {
	t.Parallel()
	bills := write(t, "bills.csv", sample(3, 2, 500))
	held := t.TempDir()
	other := t.TempDir()
	if err := os.Mkdir(filepath.Join(other, "broker"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"notes.txt", "MANIFEST", "CURRENT", "LOCK"} {
		if err := os.WriteFile(filepath.Join(other, "broker", name), []byte("something else"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	t.Cleanup(func() { // once all have run
		if _, err := os.Stat(missing); err == nil {
			t.Error("the name of a folder that is not there has made it")
		}
	})
	b, err := embedded.Open(filepath.Join(held, "broker"), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(t.Context()) })

	for name, c := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"no bills":             {nil, 2, "nothing to pay: name a file with -bills"},
		"unknown flag":         {[]string{"-bill", bills}, 2, "flag provided but not defined: -bill"},
		"argument":             {[]string{"-bills", bills, "now"}, 2, `unexpected argument "now"`},
		"chaos above":          {[]string{"-bills", bills, "-chaos", "1.5"}, 2, "-chaos 1.5 is not a share; it takes 0 to 0.9"},
		"chaos below":          {[]string{"-bills", bills, "-chaos", "-1"}, 2, "-chaos -1 is not a share"},
		"chaos NaN":            {[]string{"-bills", bills, "-chaos", "NaN"}, 2, "-chaos NaN is not a share"},
		"seed":                 {[]string{"-bills", bills, "-seed", "x"}, 2, `invalid value "x" for flag -seed`},
		"deadline":             {[]string{"-bills", bills, "-deadline", "0s"}, 2, "-deadline 0s; it takes"},
		"set":                  {[]string{"-bills", bills, "-set", "x"}, 2, "it takes KEY=VALUE"},
		"as nobody":            {[]string{"-as", "ledgr", "-dir", other, "-broker", "rocketmq://127.0.0.1:1"}, 2, "-as ledgr is no service; it takes one of bills, closer, ledger, notify, redpacket"},
		"as without broker":    {[]string{"-as", "ledger", "-dir", other}, 2, "-as ledger needs the -broker and the -dir that all services share"},
		"as without folder":    {[]string{"-as", "bills", "-bills", bills, "-broker", "rocketmq://127.0.0.1:1"}, 2, "-as bills needs the -broker and the -dir"},
		"as one with bills":    {[]string{"-as", "ledger", "-bills", bills, "-dir", other, "-broker", "rocketmq://127.0.0.1:1"}, 2, "-as ledger does not read bills; give -bills to -as bills"},
		"as without others":    {[]string{"-as", "bills", "-bills", bills, "-dir", t.TempDir(), "-broker", "rocketmq://127.0.0.1:1", "-deadline", "300ms"}, 1, "waited for 300ms: there was no closer, ledger, notify, redpacket"},
		"no file":              {[]string{"-bills", "/nowhere/bills.csv"}, 1, "open the bills: open /nowhere/bills.csv: no such file"},
		"a folder":             {[]string{"-bills", t.TempDir()}, 1, "is a directory"},
		"wrong header":         {[]string{"-bills", write(t, "x.csv", "a,b\n1,2\n")}, 1, `line 1 is "a,b"; the header must be "bill_id,account`},
		"unknown key":          {[]string{"-bills", bills, "-set", "listeners.red-packet.concurency=3"}, 1, "concurrency"},
		"unknown listener":     {[]string{"-bills", bills, "-set", "listeners.redpacket.concurrency=3"}, 1, "red-packet"},
		"bad value":            {[]string{"-bills", bills, "-set", "listeners.red-packet.concurrency=many"}, 1, "many"},
		"unknown key in file":  {[]string{"-bills", bills, "-config", write(t, "c.yaml", "sluice:\n  brokr: x\n")}, 1, "sluice.brokr"},
		"no config":            {[]string{"-bills", bills, "-config", "/nowhere/c.yaml"}, 1, "/nowhere/c.yaml"},
		"no redis":             {[]string{"-bills", bills, "-redis", "127.0.0.1:1"}, 1, "redis at 127.0.0.1:1 does not answer"},
		"trace":                {[]string{"-bills", bills, "-trace", "/nowhere/spans"}, 1, "open the trace: open /nowhere/spans"},
		"broker held":          {[]string{"-bills", bills, "-dir", held}, 1, "broker"},
		"broker is no store":   {[]string{"-bills", bills, "-dir", other}, 1, "broker"},
		"folder is a file":     {[]string{"-bills", bills, "-dir", bills}, 1, "make the folder of -dir"},
		"no folder to finish":  {[]string{"-dir", missing}, 1, "-dir " + missing + " holds no earlier run to finish: it does not exist; -bills FILE begins one"},
		"nothing to finish":    {[]string{"-dir", other}, 1, "-dir " + other + " holds no earlier run to finish: it has no bills.db; -bills FILE begins one"},
		"no folder, as one":    {[]string{"-as", "bills", "-dir", missing, "-broker", "rocketmq://127.0.0.1:1"}, 1, "-dir " + missing + " holds no earlier run"},
		"broker is a file":     {[]string{"-bills", bills, "-dir", filepath.Dir(write(t, "broker", "x"))}, 1, "broker"},
		"database is no table": {[]string{"-bills", bills, "-dir", filepath.Dir(write(t, "bills.db", strings.Repeat("not a database ", 99)))}, 1, "bills.db"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := runHere(t.Context(), nil, c.args...)
			if r.status != c.status || !strings.Contains(r.stderr, c.want) {
				t.Errorf("status %d, want %d; want %q in\n%s", r.status, c.status, c.want, r.stderr)
			}
			if r.stdout != "" || strings.Contains(r.stderr, "goroutine") || strings.Contains(r.stderr, "dig") ||
				!strings.HasPrefix(r.stderr, "billpay: ") {
				t.Errorf("stdout %q\nstderr %s", r.stdout, r.stderr)
			}
			if n := strings.Count(r.stderr, "\n"); n > 3 {
				t.Errorf("%d lines for one problem:\n%s", n, r.stderr)
			}
		})
	}
}

func TestRun_Help(t *testing.T) {
	t.Parallel()
	r := runHere(t.Context(), nil, "-help")
	if r.status != exitDone || !strings.Contains(r.stderr, "usage: billpay -bills FILE") || !strings.Contains(r.stderr, "-chaos SHARE") {
		t.Errorf("status %d\n%s", r.status, r.stderr)
	}
}
