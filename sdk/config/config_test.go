package config_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"

	"github.com/sluicemq/sluice/sdk/config"
)

func mustNew(t *testing.T, sources ...config.Source) *config.Config {
	t.Helper()
	c, err := config.New(sources...)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return c
}

func fromMap(t *testing.T, m map[string]string) *config.Config {
	t.Helper()
	return mustNew(t, config.FromMap(m))
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q lacks %q", err, p)
		}
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file, err := config.FromFile(write(t, "a.yaml", "k: file\nonly-file: f\nx: {y: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	env := config.FromEnv("APP_", []string{"APP_K=env", "APP_ONLY_ENV=e", "OTHER=1", "APP_X_Y=2", "broken"})
	m := config.FromMap(map[string]string{"k": "map", "only.map": "m"})
	over := config.FromOverride(map[string]string{"k": "over"})
	for name, tt := range map[string]struct {
		sources []config.Source
		key     string
		value   string
		source  string
	}{
		"file":     {[]config.Source{file}, "k", "file", "a.yaml:1"},
		"env":      {[]config.Source{file, env}, "k", "env", "env APP_K"},
		"map":      {[]config.Source{env, m, file}, "k", "map", "map"},
		"override": {[]config.Source{file, over, m, env}, "k", "over", "override"},
		"below":    {[]config.Source{over, file, env, m}, "only-file", "f", "a.yaml:2"},
		"dash":     {[]config.Source{file, env}, "only-env", "e", "env APP_ONLY_ENV"},
		"nested":   {[]config.Source{file, env}, "x.y", "2", "env APP_X_Y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, s, ok := mustNew(t, tt.sources...).Lookup(tt.key)
			if !ok || v != tt.value || !strings.HasSuffix(s, tt.source) {
				t.Errorf("Lookup(%q) = %q, %q, %v; want %q from %q", tt.key, v, s, ok, tt.value, tt.source)
			}
		})
	}
	if _, _, ok := mustNew(t, file).Lookup("nothing"); ok {
		t.Error("an unset key was found")
	}
}

func TestNewRefusesRivals(t *testing.T) {
	t.Parallel()
	a := config.FromMap(map[string]string{"k": "1", "same": "x"})
	b := config.FromMap(map[string]string{"k": "2", "same": "x"})
	_, err := config.New(a, b)
	wantError(t, err, "key k is set differently by map and map", "config.File(base, over)")
	if strings.Contains(err.Error(), "same") {
		t.Errorf("agreement is reported as conflict: %v", err)
	}
	_, err = config.New(config.FromEnv("A_", nil), config.FromEnv("B_", nil))
	wantError(t, err, `two environment prefixes, "A_" and "B_"; one is allowed`)
}

func TestYAML(t *testing.T) {
	t.Parallel()
	const text = `
base: &base {attempts: 16, backoff: 10s..2h}
listeners:
  red-packet:
    <<: *base
    attempts: 010
    tags: [water, power]
    enabled: true
    note: ~
  copy: *base
servers:
  - {host: a}
  - {host: b}
lists:
  - [x, y]
  - "a,b"
one: &one {a: 1, b: 1}
two: &two {b: 2, c: 2}
both: {<<: [*one, *two], c: 3}
bills.topic: bill-settled
empty: []
`
	s, err := config.FromFile(write(t, "y.yaml", text))
	if err != nil {
		t.Fatal(err)
	}
	c := mustNew(t, s)
	for key, want := range map[string]string{
		"listeners.red-packet.attempts": "010", // as spelt, not octal
		"listeners.red-packet.backoff":  "10s..2h",
		"listeners.red-packet.tags":     "water,power",
		"listeners.red-packet.enabled":  "true",
		"listeners.red-packet.note":     "",
		"listeners.copy.attempts":       "16",
		"servers.0.host":                "a",
		"servers.1.host":                "b",
		"lists.0":                       "x,y",
		"lists.1":                       "a,b",
		"bills.topic":                   "bill-settled",
		"empty":                         "",
		"both.a":                        "1",
		"both.b":                        "1", // the first map of a merge wins
		"both.c":                        "3",
	} {
		if v, _, ok := c.Lookup(key); !ok || v != want {
			t.Errorf("%s = %q, %v; want %q", key, v, ok, want)
		}
	}
	if got, want := c.Keys("listeners.copy"), []string{"listeners.copy.attempts", "listeners.copy.backoff"}; !slices.Equal(got, want) {
		t.Errorf("Keys = %q, want %q", got, want)
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"syntax":     {"a: [", "bad.yaml"},
		"twice":      {"a.b: 1\na: {b: 2}\n", "key a.b is set twice, first at"},
		"yaml twin":  {"a: 1\na: 2\n", "a"},
		"list":       {"- a\n", "the top level must be a map of keys"},
		"documents":  {"a: 1\n---\nb: 2\n", "more than one YAML document; one is allowed"},
		"map key":    {"{a: 1}: 2\n", "a key must be a plain word"},
		"merge list": {"a: {<<: [{b: {? {c: 1} : 2}}]}\n", "a key must be a plain word"},
		"merge":      {"a: {<<: 3}\n", "<< takes a map or a list of maps"},
		"bomb":       {bomb(), "more than 100000 values; aliases multiply them"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.FromFile(write(t, "bad.yaml", tt.text))
			wantError(t, err, tt.want, "bad.yaml")
		})
	}
	_, err := config.FromFile("/no/such.yaml", "/nor/this.yaml")
	wantError(t, err, "configuration file /no/such.yaml does not exist; config.FileIfExists makes it optional", "/nor/this.yaml")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	_, err = config.FromFile(t.TempDir())
	wantError(t, err, "read configuration file")
	for _, text := range []string{"", "# nothing\n", "~\n"} {
		if _, err := config.FromFile(write(t, "e.yaml", text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func bomb() string {
	var b strings.Builder
	b.WriteString("l0: &l0 {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8}\n")
	for i := 1; i < 8; i++ {
		fmt.Fprintf(&b, "l%d: &l%d {", i, i)
		for _, k := range "abcdefgh" {
			fmt.Fprintf(&b, "%c: *l%d, ", k, i-1)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func TestFileLayers(t *testing.T) {
	t.Parallel()
	base := write(t, "base.yaml", "a: 1\nb: 1\n")
	over := write(t, "over.yaml", "b: 2\n")
	s, err := config.FromFile(base, over)
	if err != nil {
		t.Fatal(err)
	}
	c := mustNew(t, s)
	if v, _, _ := c.Lookup("a"); v != "1" {
		t.Errorf("a = %q", v)
	}
	if v, src, _ := c.Lookup("b"); v != "2" || !strings.HasSuffix(src, "over.yaml:1") {
		t.Errorf("b = %q from %q", v, src)
	}
}

func TestTypedReaders(t *testing.T) {
	t.Parallel()
	c := fromMap(t, map[string]string{
		"d": "90s", "n": "7", "b": "off", "s": "64MiB", "r": "10s..2h", "w": "fail", "empty": "",
		"bad": "zzz", "ref": "${n}", "lost": "${nowhere}",
	})
	if v, err := c.Duration("d", 0); v != 90*time.Second || err != nil {
		t.Errorf("Duration = %v, %v", v, err)
	}
	if v, err := c.Int("n", 0); v != 7 || err != nil {
		t.Errorf("Int = %v, %v", v, err)
	}
	if v, err := c.Int("ref", 0); v != 7 || err != nil {
		t.Errorf("Int through a placeholder = %v, %v", v, err)
	}
	if v, err := c.Bool("b", true); v || err != nil {
		t.Errorf("Bool = %v, %v", v, err)
	}
	if v, err := c.Size("s", 0); v != 64*config.MiB || err != nil {
		t.Errorf("Size = %v, %v", v, err)
	}
	if v, err := c.Range("r", config.Range{}); v != (config.Range{From: 10 * time.Second, To: 2 * time.Hour}) || err != nil {
		t.Errorf("Range = %v, %v", v, err)
	}
	if v, err := c.OneOf("w", "block", "block", "fail"); v != "fail" || err != nil {
		t.Errorf("OneOf = %v, %v", v, err)
	}
	for _, key := range []string{"empty", "unset"} {
		if v, err := c.Int(key, 42); v != 42 || err != nil {
			t.Errorf("Int(%s) = %v, %v; want the default", key, v, err)
		}
	}
	_, err := c.Int("bad", 0)
	wantError(t, err, `bad (map): "zzz" is not a whole number such as 16`)
	_, err = c.Text("lost", "")
	wantError(t, err, "lost (map): no value for ${nowhere}")
}

func TestConfigPrintsNoValues(t *testing.T) {
	t.Parallel()
	c := fromMap(t, map[string]string{"password": "hunter2"})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, c); strings.Contains(text, "hunter2") || text != "config(map)" {
			t.Errorf("%s prints %q", verb, text)
		}
	}
}

func TestCheckKnown(t *testing.T) {
	t.Parallel()
	file, err := config.FromFile(write(t, "c.yaml", "sluice:\n  sned: {timeout: 3s}\n  broker: x\n  redis: {any: 1}\nmine: {free: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	env := config.FromEnv("APP_", []string{"APP_SLUICE_BROKR=x", "APP_SLUICE_BROKER=y", "APP_SLUICE_REDIS_ANY=z", "APP_MINE=1"})
	c := mustNew(t, file, env)
	if !strings.HasSuffix(file.Name(), "c.yaml") {
		t.Errorf("Name = %q", file.Name())
	}
	all := config.Known{Keys: []string{"sluice.send.timeout", "sluice.broker", "sluice.redis.*"}}
	err = c.CheckKnown("sluice", all.Match, all.Keys)
	wantError(t, err,
		`c.yaml:2) (did you mean "sluice.send.timeout"?)`, "unknown key sluice.sned.timeout (",
		`unknown environment variable APP_SLUICE_BROKR (did you mean "APP_SLUICE_BROKER"?)`)
	if strings.Contains(err.Error(), "redis") || strings.Contains(err.Error(), "mine") || strings.Contains(err.Error(), "key sluice.broker") {
		t.Errorf("too strict: %v", err)
	}
	bare := mustNew(t, config.FromEnv("", []string{"SLUICE_HOME=/"}))
	if err := bare.CheckKnown("sluice", all.Match, all.Keys); err != nil {
		t.Errorf("without a prefix foreign variables count: %v", err)
	}
}

func TestFxOptions(t *testing.T) {
	t.Parallel()
	var c *config.Config
	m := map[string]string{"k": "map"}
	app := fxtest.New(t,
		config.File(write(t, "a.yaml", "k: file\nf: 1\n")), config.FileIfExists("/no/such.yaml"),
		config.FileIfExists(write(t, "b.yaml", "g: 2\n")),
		config.Env("SLUICE_TEST_NOTHING_"), config.Map(m), config.Override(map[string]string{"o": "over"}),
		config.Declare("sluice.x.*"),
		fx.Provide(config.Provide), fx.Populate(&c),
		fx.Invoke(func(p struct {
			fx.In
			Known []config.Known `group:"sluice.config.known"`
		},
		) {
			if len(p.Known) != 1 || !p.Known[0].Match("sluice.x.y") || p.Known[0].Match("sluice.y") {
				t.Errorf("declared keys = %v", p.Known)
			}
		}),
	)
	app.RequireStart().RequireStop()
	m["k"] = "changed later"
	for key, want := range map[string]string{"k": "map", "f": "1", "g": "2", "o": "over"} {
		if v, _, _ := c.Lookup(key); v != want {
			t.Errorf("%s = %q, want %q", key, v, want)
		}
	}
	if !strings.Contains(c.String(), "/no/such.yaml (absent)") {
		t.Errorf("%v does not name the absent file", c)
	}
	err := fx.New(fx.NopLogger, config.File("/no/such.yaml"), fx.Provide(config.Provide), fx.Invoke(func(*config.Config) {})).Err()
	wantError(t, err, "configuration file /no/such.yaml does not exist")
}
