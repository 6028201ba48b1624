package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/server"
)

const serveUsage = `usage: sluice serve [-dir DIR] [-listen ADDRESS] …

Serves the bundled broker to RocketMQ clients: name server and broker in one process, on one port. When it is
ready it prints one line, sluice serve: ready at ADDRESS, and nothing else; the log goes to standard error.
SIGTERM and Ctrl-C end it in order within 5 s, a second one at once. SIGHUP reads -acl, -tls-cert and -tls-key
again.

what is kept
  -dir DIR                   the store; made if it is missing or empty. Without it everything is kept in
                             memory, and is gone at the end
  -sync always|never|D       when an answer means stable storage: always (the default), never, or at most D,
                             such as 1s, later
  -retention-age D|forever   how long messages are kept at least (default 72h)
  -retention-bytes N         the size of the log beyond which the oldest messages go, such as 10GiB (default:
                             none), by whole files of 64 MiB, in memory of 16 MiB; the newest file stays
  -on-corruption refuse|quarantine
                             what to do about damaged bytes: not to start (the default), or to serve all
                             others. Older ones are met only when they are read, and then refused or passed
                             over; sluice log verify DIR names them all

who is served
  -listen HOST:PORT          where to listen, port 0 for a free one (default 127.0.0.1:9876)
  -advertise HOST:PORT       what clients are told to dial, if it is something else; this machine has to find
                             the name, too, since ids of messages hold its address
  -tls-cert F -tls-key F     talk TLS with this certificate
  -tls-client-ca F           only to clients with a certificate of this authority; plain connections, which
                             -tls-mode permissive serves, show none
  -tls-mode required|permissive
                             close plain connections (the default), or serve both kinds on the same port; an
                             address that other machines reach takes required, or -insecure-listen
  -acl F                     accounts and what each may do, in the form of RocketMQ's plain_acl.yml. Addresses
                             that need no signature are private ones and, in all lists together, an IPv4 /8
                             and an IPv6 /24 at most, where other machines can reach the server
  -insecure-listen           listen without TLS and accounts where other machines can reach it

how it behaves
  -auto-create=BOOL          make topics by their first message (default: true on a loopback address)
  -delay-levels "1s 5s …"    the levels that messages name (default: RocketMQ's 18, from 1s to 2h)
  -check-after D             the age at which an undecided transaction is asked for (default 6s)
  -check-every D             the pause after that, which doubles (default 30s)
  -check-max N               how often it is asked for before it is parked (default 15)
  -limit NAME=N              how many there may be, once for each name: connections (1024), per-address (512,
                             of them from one address; a client has two), topics and groups (1000 each that
                             clients create; with -acl an admin may go on), delayed (1000000 messages that
                             wait for their time), halves (100000 undecided half messages)
  -cluster NAME              the cluster that clients see (default DefaultCluster)
  -broker NAME               the broker that clients see (default broker-a)

  -log LEVEL                 debug, info, warn, error or off (default info)
  -log-format text|json      (default text)
  -version                   say what this program was built from, and end

  sluice serve -dir /var/lib/sluice
  sluice serve -dir D -listen 0.0.0.0:9876 -advertise mq.example:9876 \
    -tls-cert cert.pem -tls-key key.pem -acl accounts.yml

exit codes: 0 ended in order, 1 the store did not, 2 wrong usage, or it could not start
`

// How long the parts of an orderly end may take; together they stay within the
// five seconds that are promised, and within what supervisors grant.
const (
	closeServer = 3 * time.Second
	closeBroker = 1500 * time.Millisecond
)

// runServe is "sluice serve".
func runServe(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := newServeFlags()
	rest, done := f.parse(args, stdout)
	switch {
	case done:
		return exitFine
	case f.version && len(f.problems) == 0:
		return runVersion(ctx, nil, stdout, stderr)
	case len(rest) > 0:
		f.bad("it takes no arguments, not %s", short(fmt.Sprintf("%q", rest)))
	}
	f.check()
	if code, ok := f.report(stderr); !ok {
		return code
	}
	s := &serving{flags: f, log: f.logger(stderr), stdout: stdout, stderr: stderr}
	return s.run(ctx)
}

// serving is a broker that is being served.
type serving struct {
	flags          *serveFlags
	log            *slog.Logger
	stdout, stderr io.Writer
	broker         *embedded.Broker
	server         *server.Server
}

// run serves until ctx ends. It answers the exit code.
func (s *serving) run(ctx context.Context) int {
	// Before anything is open, so that no signal finds the default action.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	if err := s.open(); err != nil {
		return s.failed(err)
	}
	store, err := s.broker.Store(context.WithoutCancel(ctx)) // a signal during the start ends it in order
	if err == nil {
		_, err = fmt.Fprintf(s.stdout, "sluice serve: ready at %s\n", s.server.Addr())
	}
	if err != nil {
		return s.failed(errors.Join(err, s.close()))
	}
	s.watch(ctx, store, hangup)
	signal.Reset(os.Interrupt, syscall.SIGTERM) // another one ends the process at once
	s.log.Info("ending, because of a signal")
	if err := s.close(); err != nil {
		s.log.Error("the store has not ended in order", slog.Any("error", err))
		return exitUnclean
	}
	s.log.Info("ended in order")
	return exitFine
}

// open opens the store, then the port: who connects while a store is being
// recovered is refused, and can turn to another broker, instead of kept waiting.
// That the port can be had is found out before, so that a server that cannot
// start makes no store.
func (s *serving) open() error {
	f := s.flags
	if f.dir == "" {
		s.log.Warn("everything is kept in memory and is gone at the end; -dir DIR keeps it")
	}
	port := f.net
	port.Logger, port.Settings = s.log, settings()
	switch err := server.Try(port); {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; -listen HOST:PORT takes another port, 0 for a free one", err)
	case err != nil:
		return err
	}
	cfg := f.store
	cfg.Logger = s.log
	b, err := embedded.Open(f.dir, cfg)
	if err != nil {
		return err
	}
	srv, err := server.Open(b, port)
	if err != nil {
		s.broker = b
		return errors.Join(err, s.close())
	}
	s.broker, s.server = b, srv
	s.log.Info("serving", slog.String("address", srv.Addr().String()), slog.String("store", f.dir), slog.String("sync", cfg.Sync.String()),
		slog.Bool("tls", port.TLS != nil), slog.Bool("acl", port.ACL != nil), slog.Bool("auto_create", port.AutoCreate))
	if port.InsecureListen && !f.loopback() {
		s.log.Warn("other machines can reach this address, and -insecure-listen lets them", slog.String("address", srv.Addr().String()))
	}
	return nil
}

// failed tells why it does not start.
func (s *serving) failed(err error) int {
	fmt.Fprintf(s.stderr, "sluice: serve: %v\n", err)
	return exitFailed
}

// healthPoll is how often the store is asked whether it still takes messages.
const healthPoll = time.Second

// watch waits for the end. Meanwhile it says when the store fails, and reads
// files again when it is told to.
func (s *serving) watch(ctx context.Context, store *embedded.Store, hangup <-chan os.Signal) {
	t := time.NewTicker(healthPoll)
	defer t.Stop()
	healthy := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			s.reload()
		case <-t.C:
			err := store.Health()
			if err != nil && healthy {
				s.log.Error("the store takes no messages", slog.Any("error", err))
			}
			if err == nil && !healthy {
				s.log.Info("the store takes messages again")
			}
			healthy = err == nil
		}
	}
}

// reload reads accounts and certificate again. What cannot be read leaves what
// was there.
func (s *serving) reload() {
	f := s.flags
	if f.acl != "" {
		acl, err := server.LoadACL(f.acl)
		if err == nil {
			err = f.exposed(acl) // as at the start
		}
		if err == nil {
			err = s.server.SetACL(acl)
		}
		if err != nil {
			s.log.Error("the accounts stay as they were", slog.Any("error", err))
		}
	}
	if f.cert == "" {
		return
	}
	if err := f.loadCertificate(); err != nil {
		s.log.Error("the certificate stays as it was", slog.Any("error", err))
		return
	}
	s.log.Info("the certificate was read again")
}

// close ends the server, then the broker. Peers that do not take their answers
// are cut off, which is no failure: nothing that is stored depends on them.
func (s *serving) close() error {
	if s.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeServer)
		if err := s.server.Close(ctx); err != nil {
			s.log.Warn("connections were cut off", slog.Any("reason", err))
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeBroker)
	defer cancel()
	return s.broker.Close(ctx)
}
