package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/server"
	"github.com/sluicemq/sluice/sdk/config"
)

// serveFlags are the flags of "sluice serve", and what they make.
type serveFlags struct {
	*flagSet
	dir   string
	store embedded.Config
	net   server.Config

	cert, key, clientCA, acl string
	autoCreate               *bool
	addr                     *net.TCPAddr // what -listen says; nil if that is wrong
	level                    slog.Level
	silent, jsonLog, version bool

	// certificate is the one that new connections get.
	certificate atomic.Pointer[tls.Certificate]
}

func newServeFlags() *serveFlags {
	f := &serveFlags{flagSet: newFlags("serve", serveUsage)}
	f.StringVar(&f.dir, "dir", "", "")
	f.value("sync", "always, never or a duration above 0, such as 1s", f.setSync)
	f.value("retention-age", "a duration above 0, such as 72h, or forever", func(s string) error {
		if s == "forever" {
			f.store.Retention.Age = -1
			return nil
		}
		return positive(&f.store.Retention.Age)(s)
	})
	f.value("retention-bytes", "a size above 0, such as 10GiB", func(s string) error {
		n, err := config.ParseSize(s)
		if err != nil || n <= 0 {
			return errForm
		}
		f.store.Retention.Bytes = int64(n)
		return nil
	})
	f.word("on-corruption", map[string]func(){
		"refuse":     func() { f.store.OnCorruption = embedded.Refuse },
		"quarantine": func() { f.store.OnCorruption = embedded.Quarantine },
	}, "refuse", "quarantine")
	f.value("check-after", "a duration above 0, such as 6s", positive(&f.store.CheckAfter))
	f.value("check-every", "a duration above 0, such as 30s", positive(&f.store.CheckEvery))
	f.value("check-max", "1 and more", number(1, 1<<20, &f.store.CheckMax))
	f.netFlags()
	f.value("log", "debug, info, warn, error or off", f.setLevel)
	f.word("log-format", map[string]func(){"text": func() { f.jsonLog = false }, "json": func() { f.jsonLog = true }}, "text", "json")
	f.BoolVar(&f.version, "version", false, "")
	return f
}

// netFlags are those of the port.
func (f *serveFlags) netFlags() {
	f.StringVar(&f.net.Listen, "listen", defaultAddr, "")
	f.StringVar(&f.net.Advertise, "advertise", "", "")
	f.text("tls-cert", "a file", &f.cert)
	f.text("tls-key", "a file", &f.key)
	f.text("tls-client-ca", "a file", &f.clientCA)
	f.word("tls-mode", map[string]func(){
		"required":   func() { f.net.TLSMode = server.TLSRequired },
		"permissive": func() { f.net.TLSMode = server.TLSPermissive },
	}, "required", "permissive")
	f.text("acl", "a file", &f.acl)
	f.BoolVar(&f.net.InsecureListen, "insecure-listen", false, "")
	f.truth("auto-create", &f.autoCreate)
	f.value("delay-levels", `durations above 0 with blanks between, such as "1s 5s 10s", 64 at most`, f.setLevels)
	f.limitFlag()
	f.value("cluster", nameForm, name(&f.net.Cluster))
	f.value("broker", nameForm, name(&f.net.Broker))
}

// nameForm is how clusters and brokers are called: each has a topic of its name.
const nameForm = "1 to 127 characters of a-z A-Z 0-9 _ - % |"

func name(to *string) func(string) error {
	return func(s string) error {
		if driver.ValidTopic(s) != nil {
			return errForm
		}
		*to = s
		return nil
	}
}

// word declares a flag that takes one of some words.
func (f *serveFlags) word(name string, set map[string]func(), order ...string) {
	f.value(name, alternatives(order), func(s string) error {
		do, ok := set[s]
		if !ok {
			return errForm
		}
		do()
		return nil
	})
}

func (f *serveFlags) setSync(s string) error {
	switch s {
	case "always":
		f.store.Sync = embedded.SyncAlways
		return nil
	case "never":
		f.store.Sync = embedded.SyncNever
		return nil
	}
	var d time.Duration
	if err := positive(&d)(s); err != nil {
		return err
	}
	f.store.Sync = embedded.SyncEvery(d)
	return nil
}

func (f *serveFlags) setLevel(s string) error {
	if s == "off" {
		f.silent = true
		return nil
	}
	f.silent = false
	switch s {
	case "debug":
		f.level = slog.LevelDebug
	case "info":
		f.level = slog.LevelInfo
	case "warn":
		f.level = slog.LevelWarn
	case "error":
		f.level = slog.LevelError
	default:
		return errForm
	}
	return nil
}

// setLevels reads delays, in Go's form and in RocketMQ's, which has days.
func (f *serveFlags) setLevels(s string) error {
	words := strings.Fields(s)
	if len(words) == 0 || len(words) > 64 {
		return errForm
	}
	levels := make([]time.Duration, len(words))
	for i, w := range words {
		if days, ok := strings.CutSuffix(w, "d"); ok {
			if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 365 {
				levels[i] = time.Duration(n) * 24 * time.Hour
				continue
			}
		}
		if err := positive(&levels[i])(w); err != nil {
			return err
		}
	}
	f.net.DelayLevels = levels
	return nil
}

// check looks at what the flags say together, and reads the files they name.
func (f *serveFlags) check() {
	f.addr = f.resolve("listen", f.net.Listen, "host:port, such as "+defaultAddr)
	f.checkAdvertise()
	f.checkLimits()
	f.checkNames()
	f.checkTLS()
	if f.acl != "" {
		acl, err := server.LoadACL(f.acl)
		if err != nil {
			f.bad("-acl: %w", err)
		}
		f.net.ACL = acl
	}
	f.net.AutoCreate = f.loopback()
	if f.autoCreate != nil {
		f.net.AutoCreate = *f.autoCreate
	}
	f.checkExposed()
}

// resolve reads the address that a flag takes, nil if it is none. Names are
// looked up, as the server does.
func (f *serveFlags) resolve(name, value, form string) *net.TCPAddr {
	_, port, err := net.SplitHostPort(value)
	if err != nil || port == "" {
		f.bad("-%s takes %s, not %q", name, form, short(value))
		return nil
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		f.bad("-%s %s: the port is a number from 0 to 65535, not %q", name, short(value), short(port))
		return nil
	}
	addr, err := net.ResolveTCPAddr("tcp", value)
	if err != nil {
		advice := ""
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			advice = "; it takes a name that this machine can look up, or an address"
		}
		f.bad("-%s %s: %s%s", name, short(value), short(err.Error()), advice)
		return nil
	}
	return addr
}

// checkAdvertise looks at what clients are told to dial.
func (f *serveFlags) checkAdvertise() {
	if !f.given("advertise") {
		if f.addr != nil && (f.addr.IP == nil || f.addr.IP.IsUnspecified()) {
			f.bad("-listen %s takes -advertise HOST:PORT, too: what clients are told to dial", f.net.Listen)
		}
		return
	}
	const form = "host:port that clients can dial, such as mq.example:9876"
	addr := f.resolve("advertise", f.net.Advertise, form)
	if addr != nil && (addr.IP == nil || addr.IP.IsUnspecified() || addr.Port == 0) {
		f.bad("-advertise takes %s, not %q", form, f.net.Advertise)
	}
}

// Names that a server has if nothing is said.
const (
	defaultCluster = "DefaultCluster"
	defaultBroker  = "broker-a"
)

// checkNames refuses one name for two things: each has a topic of its name.
func (f *serveFlags) checkNames() {
	if cluster := cmp.Or(f.net.Cluster, defaultCluster); cluster == cmp.Or(f.net.Broker, defaultBroker) {
		f.bad("-cluster and -broker take different names, not both %q", cluster)
	}
}

// checkExposed refuses an address that others reach, unless it is safe.
func (f *serveFlags) checkExposed() {
	if err := f.exposed(f.net.ACL); err != nil {
		f.bad("%w", err)
	}
}

// exposed says what is missing with these accounts. The server would, too, by the
// names of its Config instead of the flags.
func (f *serveFlags) exposed(acl *server.ACL) error {
	if f.net.InsecureListen || f.addr == nil || f.loopback() {
		return nil
	}
	var missing []string
	switch {
	case !f.given("tls-cert") && !f.given("tls-key"): // one without the other is told by now
		missing = append(missing, "-tls-cert F -tls-key F")
	case f.net.TLSMode != server.TLSRequired:
		missing = append(missing, "-tls-mode required")
	}
	switch {
	case !f.given("acl"):
		missing = append(missing, "-acl F")
	case acl != nil && acl.TrustsAll() && !f.given("tls-client-ca"):
		missing = append(missing, "-tls-client-ca F, because "+short(f.acl)+" lets in strangers without a signature (globalWhiteRemoteAddresses and every whiteRemoteAddress together may have private addresses, an IPv4 /8 and an IPv6 /24)")
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("-listen %s can be reached from other machines: it takes %s, or -insecure-listen to allow it without, or a loopback address such as %s",
		f.net.Listen, strings.Join(missing, " and "), defaultAddr)
}

// loopback reports whether only this machine reaches the address.
func (f *serveFlags) loopback() bool { return f.addr != nil && f.addr.IP.IsLoopback() }

// checkTLS reads certificate, key and authority.
func (f *serveFlags) checkTLS() {
	if f.given("tls-cert") != f.given("tls-key") {
		f.bad("-tls-cert and -tls-key take each other")
		return
	}
	if !f.given("tls-cert") {
		for _, name := range []string{"tls-client-ca", "tls-mode"} {
			if f.given(name) {
				f.bad("-%s takes -tls-cert and -tls-key, too", name)
			}
		}
		return
	}
	if f.cert == "" || f.key == "" {
		return // which is told by now
	}
	f.net.TLS = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate.Load(), nil },
	}
	if err := f.loadCertificate(); err != nil {
		f.bad("%w", err)
	}
	if f.clientCA == "" {
		return
	}
	pool, err := readCA(f.clientCA)
	if err != nil {
		f.bad("-tls-client-ca: %w", err)
	}
	f.net.TLS.ClientCAs, f.net.TLS.ClientAuth = pool, tls.RequireAndVerifyClientCert
}

// loadCertificate reads the certificate that new connections get.
func (f *serveFlags) loadCertificate() error {
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("-tls-cert, -tls-key: %w", err)
	}
	f.certificate.Store(&pair)
	return nil
}

// logger writes to stderr what the level lets through.
func (f *serveFlags) logger(stderr io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: f.level}
	switch {
	case f.silent:
		return slog.New(slog.DiscardHandler)
	case f.jsonLog:
		return slog.New(slog.NewJSONHandler(stderr, o))
	default:
		return slog.New(slog.NewTextHandler(stderr, o))
	}
}
