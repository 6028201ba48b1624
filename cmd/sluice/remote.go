package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

// remoteUsage are the flags of every command that talks to a server.
const remoteUsage = `
  -addr HOST:PORT    the name server, or several with commas between; sluice serve is its own. Without it
                     $SLUICE_ADDR, without that 127.0.0.1:9876
  -json              an object of JSON for each line, with names that stay; times are in UTC and have always
                     the form 2026-01-31T18:00:00.000Z
  -timeout 5s        how long an answer may take
  -tls               talk TLS; with -tls-ca FILE to a server with a certificate of that authority,
                     with -tls-cert FILE -tls-key FILE as a client with a certificate,
                     with -tls-name NAME to a server whose certificate has another name than its address,
                     with -tls-skip-verify to whoever answers
  -access-key KEY    sign requests, as with $SLUICE_ACCESS_KEY; the secret is in $SLUICE_SECRET_KEY, or in the
                     file -secret-file FILE

exit codes: 0 all is well, 1 not found or refused, 2 wrong usage, or nobody answers, 130 interrupted
`

// defaultAddr is where sluice serve listens, and RocketMQ's name server.
const defaultAddr = "127.0.0.1:9876"

// remote is one call of a command that talks to a server.
type remote struct {
	*flagSet
	stdout, stderr io.Writer
	args           []string

	addr, accessKey, secretFile string
	timeout                     time.Duration
	json                        bool
	tls, skipVerify             bool
	ca, cert, key, serverName   string
}

// newRemote declares the flags that all of them have.
func newRemote(name, usage string, stdout, stderr io.Writer) *remote {
	r := &remote{flagSet: newFlags(name, remoteHelp(name, usage)), stdout: stdout, stderr: stderr, timeout: 5 * time.Second}
	r.text("addr", "host:port, such as "+defaultAddr, &r.addr)
	r.BoolVar(&r.json, "json", false, "")
	r.value("timeout", "a duration above 0, such as 5s", positive(&r.timeout))
	r.BoolVar(&r.tls, "tls", false, "")
	r.BoolVar(&r.skipVerify, "tls-skip-verify", false, "")
	r.text("tls-ca", "a file", &r.ca)
	r.text("tls-cert", "a file", &r.cert)
	r.text("tls-key", "a file", &r.key)
	r.text("tls-name", "the name in a certificate", &r.serverName)
	r.text("access-key", "the key of an account", &r.accessKey)
	r.text("secret-file", "a file", &r.secretFile)
	return r
}

// positive reads a duration above zero.
func positive(to *time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return errForm
		}
		*to = d
		return nil
	}
}

// do parses the command line, whose arguments are named by form, such as
// "TOPIC" or "[GROUP]", with the flags that it must have behind them, as in
// "TOPIC -key KEY", and what else is to be said about them behind a colon. It
// lets check look at the rest of it, and runs work.
func (r *remote) do(ctx context.Context, args []string, form string, check func(), work func(ctx context.Context, c *cluster.Cluster) error) int {
	rest, done := r.parse(args, r.stdout)
	if done {
		return exitFine
	}
	r.args = rest
	r.arity(form)
	if check != nil {
		check()
	}
	cfg := r.config()
	if code, ok := r.report(r.stderr); !ok {
		return code
	}
	c := cluster.New(cfg)
	defer c.Close()
	return r.exit(ctx, work(ctx, c))
}

// arity checks how many arguments there are, and that no flag is left out which
// must be there. What is missing is one problem, however much it is.
func (r *remote) arity(form string) {
	takes, more, _ := strings.Cut(form, ": ")
	names, flags, _ := strings.Cut(takes, "-")
	words := strings.Fields(names)
	least := 0
	for i, w := range words {
		if !strings.HasPrefix(w, "[") {
			least++
		}
		if w != "[BODY]" && i < len(r.args) && r.args[i] == "" {
			r.bad("%s is empty", strings.Trim(w, "[]"))
		}
	}
	if more != "" {
		more = ": " + more
	}
	flag, _, _ := strings.Cut(flags, " ")
	switch {
	case len(r.args) < least, flag != "" && !r.given(flag):
		r.bad("it takes %s%s", takes, more)
	case len(r.args) > len(words) && len(words) == 0:
		r.bad("it takes no arguments, not %s", short(strings.Join(r.args, " ")))
	case len(r.args) > len(words):
		r.bad("it takes %s, not %s", takes, short(strings.Join(r.args, " ")))
	}
}

// arg is an argument, "" if it was left out.
func (r *remote) arg(i int) string {
	if i < len(r.args) {
		return r.args[i]
	}
	return ""
}

// config is how to talk to the cluster.
func (r *remote) config() cluster.Config {
	addr, from := r.addr, "-addr"
	if addr == "" {
		addr, from = os.Getenv("SLUICE_ADDR"), "$SLUICE_ADDR"
	}
	if addr == "" {
		addr = defaultAddr
	}
	cfg := cluster.Config{Timeout: r.timeout}
	for one := range strings.FieldsFuncSeq(addr, func(c rune) bool { return c == ',' || c == ';' || c == ' ' }) {
		_, port, err := net.SplitHostPort(one)
		n, nerr := strconv.Atoi(port)
		switch {
		case err != nil || port == "":
			r.bad("%s takes host:port, such as %s, or several with commas between, not %q", from, defaultAddr, short(one))
		case nerr != nil || n < 1 || n > math.MaxUint16:
			r.bad("%s %s: the port is a number from 1 to 65535, not %q", from, short(one), short(port))
		}
		cfg.NameServers = append(cfg.NameServers, one)
	}
	if len(cfg.NameServers) == 0 {
		r.bad("%s takes host:port, such as %s, not %q", from, defaultAddr, short(addr))
	}
	cfg.TLS = r.tlsConfig()
	cfg.AccessKey, cfg.SecretKey = r.credentials()
	return cfg
}

// credentials reads the secret. It is never an argument, which everybody on the
// machine could read.
func (r *remote) credentials() (access, secret string) {
	secret = os.Getenv("SLUICE_SECRET_KEY")
	if r.accessKey == "" {
		r.accessKey = os.Getenv("SLUICE_ACCESS_KEY")
	}
	if r.secretFile != "" {
		b, err := os.ReadFile(r.secretFile)
		if err != nil {
			r.bad("-secret-file: %w", err)
		}
		secret = strings.TrimSpace(string(b))
	}
	switch {
	case r.accessKey == "" && r.secretFile != "":
		r.bad("-secret-file takes -access-key, too")
	case r.accessKey == "":
		return "", ""
	case secret == "" && len(r.problems) == 0:
		r.bad("-access-key takes a secret in $SLUICE_SECRET_KEY or in the file -secret-file FILE")
	}
	return r.accessKey, secret
}

// tlsConfig is nil without TLS.
func (r *remote) tlsConfig() *tls.Config {
	if !r.tls {
		for _, name := range []string{"tls-ca", "tls-cert", "tls-key", "tls-name", "tls-skip-verify"} {
			if r.given(name) {
				r.bad("-%s takes -tls, too", name)
			}
		}
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.serverName, InsecureSkipVerify: r.skipVerify}
	if r.ca != "" {
		pool, err := readCA(r.ca)
		if err != nil {
			r.bad("-tls-ca: %w", err)
		}
		cfg.RootCAs = pool
	}
	if r.given("tls-cert") != r.given("tls-key") {
		r.bad("-tls-cert and -tls-key take each other")
	} else if r.cert != "" && r.key != "" {
		pair, err := tls.LoadX509KeyPair(r.cert, r.key)
		if err != nil {
			r.bad("-tls-cert, -tls-key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg
}

// readCA reads the certificates of authorities.
func readCA(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", path)
	}
	return pool, nil
}

// exit tells an error, and answers the exit code.
func (r *remote) exit(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitFine
	case ctx.Err() != nil:
		return r.interrupted(err)
	}
	unreachable, nobody := errors.AsType[*cluster.UnreachableError](err)
	if nobody && unreachable.Addr == defaultAddr && r.addr == "" && os.Getenv("SLUICE_ADDR") == "" {
		err = fmt.Errorf("%w; that is the default, -addr or $SLUICE_ADDR name another", err)
	}
	told := map[string]bool{}
	for line := range strings.SplitSeq(err.Error(), "\n") { // of each broker, and once for all its queues
		if !told[line] {
			fmt.Fprintf(r.stderr, "sluice: %s\n", plain(line))
		}
		told[line] = true
	}
	if needed := r.needed(err); needed != "" {
		fmt.Fprintf(r.stderr, "sluice: %s\n", needed)
	}
	if nobody {
		return exitFailed
	}
	if _, ok := errors.AsType[*cluster.RefusedError](err); ok {
		return exitRefused
	}
	if _, ok := errors.AsType[*cluster.NotFoundError](err); ok {
		return exitRefused
	}
	if _, ok := errors.AsType[*cluster.NoQueueError](err); ok {
		return exitRefused
	}
	if errors.Is(err, errRefused) {
		return exitRefused
	}
	return exitFailed
}

// interrupted tells where Ctrl-C has ended the work, if that counts: what was
// under way may have been done.
func (r *remote) interrupted(err error) int {
	at, lines := errors.AsType[*linesError](err)
	e, asked := errors.AsType[*cluster.UnreachableError](err)
	switch {
	case lines:
		fmt.Fprintf(r.stderr, "sluice: interrupted %s\n", at.where())
	case asked && e.MaybeDone:
		fmt.Fprintf(r.stderr, "sluice: interrupted: %s at %s may have been done all the same\n", plain(e.Op), e.Addr)
	default:
		return failed(r.stderr, context.Canceled)
	}
	return exitInterrupted
}

// near adds to an error about a topic, a group or a broker that is not there which
// one was probably meant.
func (r *remote) near(ctx context.Context, c *cluster.Cluster, err error) error {
	if e, ok := errors.AsType[*cluster.NoQueueError](err); ok && e.Broker != "" {
		return fmt.Errorf("%w%s", err, meant(e.Broker, e.Brokers))
	}
	e, ok := errors.AsType[*cluster.NotFoundError](err)
	if !ok {
		return err
	}
	var names []string
	var nerr error
	switch {
	case e.Topic != "":
		names, nerr = c.TopicNames(ctx)
	case e.Group != "":
		names, nerr = c.GroupNames(ctx, true)
	}
	if nerr != nil {
		return err
	}
	if hint := meant(e.Topic+e.Group, names); hint != "" {
		return fmt.Errorf("%w%s", err, hint)
	}
	return err
}

// errRefused is joined to what this command itself does not do.
var errRefused = errors.New("refused")

// refusal is a reason of this command itself not to do something.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// Is makes it one of errRefused.
func (r *refusal) Is(target error) bool { return target == errRefused }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }
