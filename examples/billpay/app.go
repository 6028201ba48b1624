package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/rocketmq"
	"github.com/sluicemq/sluice/idempotency/redisstore"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// stopBudget is how long the drain may take at the end.
const stopBudget = 15 * time.Second

// services are the parts of the scenario. Each is a module with a database of
// its own; they share the broker and Redis, and nothing else.
func services() map[string]fx.Option {
	return map[string]fx.Option{
		"bills":     billsModule(),
		"redpacket": redpacketModule(),
		"ledger":    ledgerModule(),
		"notify":    notifyModule(),
		"closer":    closerModule(),
	}
}

// serviceNames are the names of the services as a text.
func serviceNames() string { return strings.Join(slices.Sorted(maps.Keys(services())), ", ") }

// platform is what every process of the scenario has, whichever services it runs.
type platform struct {
	databases *databases
	redis     redis.UniversalClient
	traces    trace.TracerProvider
	log       *slog.Logger
	flags     flags
}

// newApp puts the services together with what they share.
func newApp(p platform, run ...fx.Option) (*fx.App, error) {
	options, err := p.options(run...)
	if err != nil {
		return nil, err
	}
	app := fx.New(append(options, sdk.Start(sdk.StopBudget(stopBudget)))...)
	return app, rootCause(app.Err())
}

// sections are those of the settings that something reads: the framework, its
// listeners, and the scenario.
var sections = []string{"sluice", "listeners", "billpay"}

// envPrefix begins the names of the environment variables that are settings.
const envPrefix = "BILLPAY_"

// checkSections refuses a setting that nobody reads; the keys inside a section
// are checked by who reads them.
func checkSections(set map[string]string, environ []string) error {
	known := func(first string) bool { return slices.Contains(sections, first) }
	var errs []error
	refuse := func(what, first string) {
		hint := ""
		if near, ok := config.Nearest(first, sections); ok {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		errs = append(errs, fmt.Errorf("%s: there is no section %q%s; the sections are %s", what, first, hint, strings.Join(sections, ", ")))
	}
	for key := range set {
		if first, _, _ := strings.Cut(key, "."); !known(first) {
			refuse("unknown key "+key, first)
		}
	}
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if rest, ours := strings.CutPrefix(name, envPrefix); ours {
			if first, _, _ := strings.Cut(strings.ToLower(rest), "_"); !known(first) {
				refuse("unknown environment variable "+name, first)
			}
		}
	}
	return errors.Join(errs...)
}

// options are the application, but for its start.
func (p platform) options(run ...fx.Option) ([]fx.Option, error) {
	if err := checkSections(p.flags.set, os.Environ()); err != nil {
		return nil, err
	}
	namespace, err := p.databases.folder.identity()
	if err != nil {
		return nil, err
	}
	options := []fx.Option{
		fx.WithLogger(func(l *slog.Logger) fxevent.Logger {
			e := &fxevent.SlogLogger{Logger: l.With(slog.String("component", "fx"))}
			e.UseLogLevel(slog.LevelDebug)
			e.UseErrorLevel(slog.LevelDebug) // main prints the cause
			return e
		}),
		fx.Supply(p.databases, p.flags.chaos, p.log),
		fx.Supply(fx.Annotate(p.redis, fx.As(new(redis.UniversalClient)))),
		fx.Supply(fx.Annotate(p.traces, fx.As(new(trace.TracerProvider)))),
		p.broker(),
		config.Env(envPrefix),
		config.Map(map[string]string{"billpay.namespace": namespace}),
		config.Override(p.flags.set),
		redisstore.Module, sdk.Module, listener.Module,
	}
	if p.flags.config != "" {
		options = append(options, config.File(p.flags.config))
	}
	for name, service := range services() {
		if p.flags.runs(name) {
			options = append(options, service)
		}
	}
	return append(options, run...), nil
}

// broker is the one thing that differs between the bundled broker and a cluster.
func (p platform) broker() fx.Option {
	if p.flags.broker != "" {
		return fx.Options(config.Map(map[string]string{"sluice.broker": p.flags.broker}), rocketmq.Module)
	}
	return fx.Options(fx.Supply(embedded.Config{
		Dir:  filepath.Join(string(p.databases.folder), "broker"),
		Sync: embedded.SyncAlways,
		// Short, so that a sender that stopped is asked about at once.
		CheckAfter: 500 * time.Millisecond, CheckEvery: 500 * time.Millisecond,
	}), embedded.Module)
}

// identity is a random name that the folder keeps: one Redis can serve several
// folders that hold bills with the same ids.
func (f folder) identity() (string, error) {
	path := filepath.Join(string(f), "identity")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createOnce(path, rand.Text()); err == nil {
			b, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return "", fmt.Errorf("read the identity of the folder: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// createOnce makes a file with a text, unless another process was first. Nobody
// ever sees a part of it.
func createOnce(path, text string) error {
	whole, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(whole.Name()) }()
	_, err = whole.WriteString(text)
	if err = errors.Join(err, whole.Close()); err != nil {
		return err
	}
	if err := os.Link(whole.Name(), path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// rootCause strips the path through the dependency graph from an error of fx:
// the user of billpay knows settings and folders, not constructors.
func rootCause(err error) error {
	for err != nil {
		t := reflect.TypeOf(err)
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		next := errors.Unwrap(err)
		if next == nil || !strings.HasPrefix(t.PkgPath(), "go.uber.org/") {
			return err
		}
		err = next
	}
	return nil
}
