package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
	"github.com/sluicemq/sluice/broker/server"
)

// raw connects to the server by TCP.
func (k *remoteKit) raw() net.Conn {
	k.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(k.t.Context(), "tcp", k.addr)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// served runs "sluice serve" in this process until the test ends.
func served(t *testing.T, args ...string) *remoteKit {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan int, 1)
	log := &logText{more: make(chan struct{})}
	go func() {
		ended <- run(ctx, append([]string{"serve", "-listen", "127.0.0.1:0"}, args...), writer, log)
		_ = writer.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != exitFine {
			t.Errorf("exit code %d, told\n%s", code, log)
		}
	})
	line := make([]byte, 256)
	n, err := reader.Read(line)
	addr, ok := strings.CutPrefix(strings.TrimSpace(string(line[:n])), "sluice serve: ready at ")
	if err != nil || !ok {
		t.Fatalf("printed %q, told\n%s", line[:n], log)
	}
	return &remoteKit{t: t, addr: addr}
}

func TestServe_WrongUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	trusting := filepath.Join(dir, "trusting.yml")
	if err := os.WriteFile(trusting, []byte("globalWhiteRemoteAddresses: ['0.0.0.0/1', '128.0.0.0/1']\naccounts: [{accessKey: operators, secretKey: operators-secret}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"now"}, []string{`serve: it takes no arguments, not ["now"]; see sluice help serve`}},
		{
			[]string{
				"-listen", "9876", "-sync", "sometimes", "-retention-age", "-1h", "-retention-bytes", "0", "-on-corruption", "ignore", "-check-after", "0",
				"-check-every", "x", "-check-max", "0", "-limit", "queues=7", "-limit", "topics=0", "-tls-mode", "off", "-auto-create=perhaps", "-delay-levels", "1s 0s", "-log", "loud", "-log-format", "xml",
				"-cluster", "a/b", "-broker", "a.b", "-advertise", "mq", "-diir", "x", "-acl", "missing.yml",
			},
			[]string{
				"-listen takes host:port, such as 127.0.0.1:9876, not \"9876\"\n", "-sync takes always, never or a duration above 0, such as 1s, not \"sometimes\"\n",
				"-retention-age takes a duration above 0, such as 72h, or forever, not \"-1h\"\n", "-retention-bytes takes a size above 0, such as 10GiB",
				"-on-corruption takes refuse or quarantine, not \"ignore\"\n", "-check-after takes a duration", "-check-every takes a duration", "-check-max takes 1 and more",
				"-limit takes NAME=N, with a name of connections,", `a number from 1 to 1048576, not "queues=7"`, `not "topics=0"`,
				"-tls-mode takes required or permissive", "-auto-create takes true or false, not \"perhaps\"\n", "-delay-levels takes durations above 0 with blanks between",
				"-log takes debug, info, warn, error or off", "-log-format takes text or json", "-cluster takes 1 to 127 characters of a-z A-Z 0-9 _ - % |, not \"a/b\"\n", "-broker takes 1 to 127 characters",
				"-advertise takes host:port that clients can dial", "flag provided but not defined: -diir (did you mean dir?)\n", "-acl: read access control: open missing.yml",
				"see sluice help serve\n",
			},
		},
		{[]string{"-tls-cert", "c.pem"}, []string{"-tls-cert and -tls-key take each other"}},
		{[]string{"-tls-cert", "c.pem", "-tls-key", "k.pem", "-tls-client-ca", "ca.pem"}, []string{"-tls-cert, -tls-key: open c.pem", "-tls-client-ca: open ca.pem"}},
		{[]string{"-tls-client-ca", "ca.pem", "-tls-mode", "permissive"}, []string{"-tls-client-ca takes -tls-cert and -tls-key, too", "-tls-mode takes -tls-cert"}},
		{[]string{"-listen", ":0", "-insecure-listen"}, []string{"serve: -listen :0 takes -advertise HOST:PORT, too"}},
		{[]string{"-listen", "0.0.0.0:0", "-advertise", "127.0.0.1:1"}, []string{
			"-listen 0.0.0.0:0 can be reached from other machines: it takes -tls-cert F -tls-key F and -acl F, or -insecure-listen",
		}},
		{[]string{"-listen", "0.0.0.0:0", "-advertise", "127.0.0.1:1", "-acl", trusting}, []string{"it takes -tls-cert F -tls-key F and -tls-client-ca F, because ", " lets in strangers without a signature"}},
		{[]string{"-listen", "0.0.0.0:0"}, []string{"takes -advertise HOST:PORT, too", "it takes -tls-cert F -tls-key F and -acl F, or"}},
		{[]string{"-listen", "127.0.0.1:99999"}, []string{`serve: -listen 127.0.0.1:99999: the port is a number from 0 to 65535, not "99999"; see`}},
		{[]string{"-listen", ":-1"}, []string{`serve: -listen :-1: the port is a number from 0 to 65535, not "-1"; see`}},
		{[]string{"-listen", "foo.invalid:0"}, []string{"serve: -listen foo.invalid:0: lookup foo.invalid"}},
		{[]string{"-advertise", "foo.invalid:9876"}, []string{"serve: -advertise foo.invalid:9876: lookup foo.invalid", "; it takes a name that this machine can look up, or an address; see"}},
		{[]string{"-advertise", "0.0.0.0:9876"}, []string{"serve: -advertise takes host:port that clients can dial, such as mq.example:9876, not \"0.0.0.0:9876\"; see"}},
		{[]string{"-advertise", ":9876"}, []string{"serve: -advertise takes host:port that clients can dial"}},
		{[]string{"-advertise", "127.0.0.1:0"}, []string{"serve: -advertise takes host:port that clients can dial"}},
		{[]string{"-advertise", ""}, []string{"serve: -advertise takes host:port that clients can dial"}},
		{[]string{"-auto-create", "false"}, []string{"serve: -auto-create takes its value behind =, as in -auto-create=false; see"}},
		{[]string{"-broker", "a b"}, []string{`serve: -broker takes 1 to 127 characters of a-z A-Z 0-9 _ - % |, not "a b"; see`}},
		// An empty one is a variable of the shell that is not set.
		{[]string{"-acl", ""}, []string{`serve: -acl takes a file, not ""; see`}},
		{[]string{"-acl", "good.yml", "-acl", ""}, []string{`-acl takes a file, not ""`}},
		{[]string{"-acl", "", "-listen", "0.0.0.0:0", "-advertise", "127.0.0.1:1"}, []string{`-acl takes a file, not ""`, "it takes -tls-cert F -tls-key F, or"}},
		{[]string{"-tls-cert", "", "-tls-key", ""}, []string{`-tls-cert takes a file, not ""`, `-tls-key takes a file, not ""`}},
		{[]string{"-tls-client-ca", ""}, []string{`-tls-client-ca takes a file, not ""`}},
		{[]string{"-cluster", "", "-broker", ""}, []string{`-cluster takes 1 to 127 characters of a-z A-Z 0-9 _ - % |, not ""`, `-broker takes 1 to 127`}},
		{[]string{"-limit", "topics=7", "-limit", "groups=7", "-limit", "topics=8"}, []string{"serve: -limit takes topics once, not 7 and 8; see"}},
		{[]string{"-limit", "per-address=1025"}, []string{"serve: -limit per-address takes 1 to 1024, as many as connections, not 1025; see"}},
		{[]string{"-limit", "per-address=7", "-limit", "connections=6"}, []string{"serve: -limit per-address takes 1 to 6, as many as connections, not 7; see"}},
		{[]string{"-cluster", "x", "-broker", "x"}, []string{`serve: -cluster and -broker take different names, not both "x"; see`}},
		{[]string{"-cluster", "broker-a"}, []string{`serve: -cluster and -broker take different names, not both "broker-a"; see`}},
		{[]string{"-listen", ""}, []string{`serve: -listen takes host:port, such as 127.0.0.1:9876, not ""`}},
	} {
		r := call(t.Context(), append([]string{"serve", "-dir", store}, c.args...)...)
		if r.code != exitFailed || r.out != "" {
			t.Errorf("serve %q: exit code %d, printed %q", c.args, r.code, r.out)
		}
		for _, want := range c.want {
			if !strings.Contains(r.err, want) {
				t.Errorf("serve %q told\n%s\nwant %q", c.args, r.err, want)
			}
		}
	}
	long := strings.Repeat("x", 5000)
	r := call(t.Context(), "serve", "-listen", long, "-advertise", long+":1", "-sync", long, "-broker", long, "-"+long, long, "--", long)
	if r.code != exitFailed || len(r.err) > 2000 {
		t.Errorf("exit code %d, told %d bytes", r.code, len(r.err))
	}
	if _, err := os.Stat(store); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a server that does not start has made its store: %v", err)
	}
}

// What keeps it from starting is told, and leaves nothing open.
func TestServe_CannotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "store")
	k := served(t, "-dir", store)
	other := filepath.Join(dir, "other")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-dir", file}, "file"},
		{[]string{"-dir", store, "-listen", "127.0.0.1:0"}, "store"},
		{[]string{"-dir", other, "-listen", k.addr}, "listen on " + k.addr},
		{[]string{"-dir", other, "-listen", k.addr}, "; -listen HOST:PORT takes another port, 0 for a free one\n"},
		{[]string{"-dir", other, "-cluster", "x", "-broker", "x"}, "take different names"},
	} {
		r := call(t.Context(), append([]string{"serve", "-log", "off"}, c.args...)...)
		if r.code != exitFailed || r.out != "" || !strings.HasPrefix(r.err, "sluice: serve: ") || !strings.Contains(r.err, c.want) {
			t.Errorf("serve %q: exit code %d, printed %q, told %q", c.args, r.code, r.out, r.err)
		}
	}
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a server that does not start has made its store: %v", err)
	}
}

func TestServe_Flags(t *testing.T) {
	t.Parallel()
	f := newServeFlags()
	_, done := f.parse(strings.Fields("-dir D -sync 1s -retention-age forever -retention-bytes 1GiB -on-corruption quarantine -check-after 1s "+
		"-check-every 2s -check-max 3 -listen localhost:0 -advertise localhost:1 -cluster C -broker B -log warn -log-format json"), io.Discard)
	if done {
		t.Fatal("done")
	}
	f.check()
	want := embedded.Config{
		Sync: embedded.SyncEvery(time.Second), Retention: embedded.Retention{Age: -1, Bytes: 1 << 30}, OnCorruption: embedded.Quarantine,
		CheckAfter: time.Second, CheckEvery: 2 * time.Second, CheckMax: 3,
	}
	if len(f.problems) > 0 || f.store != want || f.dir != "D" || f.net.Listen != "localhost:0" || f.net.Advertise != "localhost:1" || f.net.Cluster != "C" ||
		f.net.Broker != "B" || !f.net.AutoCreate || f.level != slog.LevelWarn || !f.jsonLog {
		t.Errorf("got %+v %v", f, f.problems)
	}
	f = newServeFlags()
	f.parse([]string{"-limit", "groups=7", "-limit", "per-address=9", "-delay-levels", "1s 2m 1d", "-auto-create=false", "-sync", "never", "-retention-age", "1h"}, io.Discard)
	f.check()
	if l := f.net.DelayLevels; len(f.problems) > 0 || len(l) != 3 || l[2] != 24*time.Hour || f.net.AutoCreate || f.store.Sync != embedded.SyncNever ||
		f.net.Limits != (server.Limits{Groups: 7, PerAddress: 9}) {
		t.Errorf("got %+v %v", f, f.problems)
	}
	f = newServeFlags()
	f.parse([]string{"-listen", "0.0.0.0:0", "-advertise", "localhost:1", "-insecure-listen"}, io.Discard)
	if f.check(); len(f.problems) > 0 || f.net.AutoCreate {
		t.Errorf("got %+v %v", f, f.problems)
	}
}

func TestServe_Version(t *testing.T) {
	t.Parallel()
	if r := call(t.Context(), "serve", "-version"); r.code != exitFine || !strings.HasPrefix(r.out, "sluice ") {
		t.Errorf("%+v", r)
	}
}

// What the flags say is what clients get.
func TestServe_Behaviour(t *testing.T) {
	t.Parallel()
	k := served(t, "-cluster", "C", "-broker", "B", "-delay-levels", "1s 2s", "-auto-create=false")
	topics := map[any]any{}
	for _, x := range k.objects("topic", "list", "-all") {
		topics[x["topic"]] = x["read_queues"]
	}
	if topics["SCHEDULE_TOPIC_XXXX"] != 2.0 || topics["C"] == nil || topics["B"] == nil || topics["TBW102"] != nil {
		t.Errorf("topics %v", topics)
	}
	k.prints("created topic orders: 4 queues, rw, on B\n", "topic", "create", "orders")
}

// What is refused for a limit names the flag that sets it.
func TestServe_LimitsByFlag(t *testing.T) {
	t.Parallel()
	k := served(t, "-limit", "topics=1", "-limit", "groups=1", "-auto-create=false")
	k.ok("topic", "create", "orders", "-queues", "1")
	k.refuses(exitRefused, "(-limit topics=N)", "topic", "create", "bills")
	k.refuses(exitRefused, "topic bills is not known", "topic", "show", "bills")
	k.client("one", "billing", "orders", "*")
	conn, err := rpc.Dial(t.Context(), "tcp", k.addr, rpc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, c := range []struct {
		code   int
		fields remoting.Fields
		want   string
	}{
		{remoting.ReqUpdateConsumerOffset, remoting.Fields{
			{Name: "consumerGroup", Value: "another"}, {Name: "topic", Value: "orders"}, {Name: "queueId", Value: "0"}, {Name: "commitOffset", Value: "0"},
		}, "(-limit groups=N)"},
		{remoting.ReqGetRoute, remoting.Fields{{Name: "topic", Value: "TBW102"}}, "(-auto-create)"},
	} {
		resp, err := conn.Call(t.Context(), &remoting.Command{Code: c.code, Fields: c.fields})
		if err != nil || !strings.Contains(resp.Remark, c.want) {
			t.Errorf("code %d: %v, %q, want %q", c.code, err, resp.Remark, c.want)
		}
	}
}

// Every limit that has a flag is named by it, and the others say that they have none.
func TestSettings(t *testing.T) {
	t.Parallel()
	var l server.Limits
	flags, fields := limits(&l), reflect.ValueOf(&l).Elem()
	for i := range fields.NumField() {
		field := "Limits." + fields.Type().Field(i).Name
		for name, to := range flags {
			if fields.Field(i).Addr().Interface() == any(to) && settings()[field] != "-limit "+name+"=N" {
				t.Errorf("%s is told as %q, and set by -limit %s", field, settings()[field], name)
			}
		}
	}
}

// The log goes to standard error, in the form that was asked for.
func TestServe_Log(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ format, want string }{
		{"text", `level=WARN msg="everything is kept in memory`}, {"json", `"msg":"everything is kept in memory`}, {"off", ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		args := []string{"serve", "-listen", "127.0.0.1:0", "-log-format", c.format}
		if c.format == "off" {
			args = []string{"serve", "-listen", "127.0.0.1:0", "-log", "off"}
		}
		r := call(ctx, args...)
		if !strings.Contains(r.err, c.want) || c.want == "" && r.err != "" {
			t.Errorf("format %s: told\n%s", c.format, r.err)
		}
	}
}

// A store that fails while it is served is told at once.
func TestServe_StoreFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		fs := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
			if broken.Load() && op.Kind == vfs.OpSync {
				return errors.New("the disk is gone")
			}
			return nil
		})
		b, err := embedded.Open("", embedded.Config{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		store, err := b.Store(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		log := &logText{more: make(chan struct{})}
		s := &serving{log: slog.New(slog.NewTextHandler(log, nil)), broker: b}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.watch(ctx, store, nil); close(done) }()
		time.Sleep(3 * healthPoll)
		broken.Store(true)
		r := b.Connect("test").Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "orders", Body: []byte("x")}}})
		if r[0].Err == nil {
			t.Error("a message is stored on a broken disk")
		}
		time.Sleep(3 * healthPoll)
		cancel()
		<-done
		if n := strings.Count(log.String(), "the store takes no messages"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log)
		}
		if s.close() == nil {
			t.Error("a broken store has ended in order")
		}
	})
}

// secrets are the files of a server that is safe to reach.
type secrets struct {
	t                              *testing.T
	ca, cert, key, other, otherKey string
	acl, secret, wrong             string
}

func (s *secrets) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *secrets) read(path string) string {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// newSecrets makes an authority, a certificate for 127.0.0.1 and one of a
// client, and accounts.
func newSecrets(t *testing.T) *secrets {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	s := &secrets{
		t: t, ca: in("ca.pem"), cert: in("cert.pem"), key: in("key.pem"), other: in("client.pem"), otherKey: in("client-key.pem"),
		acl: in("acl.yml"), secret: in("secret"), wrong: in("wrong"),
	}
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	s.issue(root, root, authority, authority, s.ca, "")
	for i, pair := range [][2]string{{s.cert, s.key}, {s.other, s.otherKey}} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(2 + i)), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		s.issue(leaf, root, key, authority, pair[0], pair[1])
	}
	s.write(s.acl, `accounts:
  - {accessKey: operator-key, secretKey: operator-secret, admin: true}
  - {accessKey: reader-key, secretKey: reader-secret, defaultTopicPerm: SUB, defaultGroupPerm: SUB}
`)
	s.write(s.secret, "operator-secret\n")
	s.write(s.wrong, "operator-sekret\n")
	return s
}

func (s *secrets) issue(c, parent *x509.Certificate, key, signer *ecdsa.PrivateKey, certFile, keyFile string) {
	s.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	if keyFile == "" {
		return
	}
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})))
}

// With TLS and accounts a server may listen anywhere, and lets in whom it
// knows.
func TestServe_Safe(t *testing.T) {
	t.Parallel()
	f := newSecrets(t)
	k := served(t, "-acl", f.acl, "-tls-cert", f.cert, "-tls-key", f.key, "-tls-client-ca", f.ca)
	client := []string{"-tls", "-tls-ca", f.ca, "-tls-cert", f.other, "-tls-key", f.otherKey}
	operator := append([]string{"-access-key", "operator-key", "-secret-file", f.secret}, client...)
	with := func(flags []string, args ...string) []string { return append(args, flags...) }
	k.ok(with(operator, "topic", "create", "orders", "-queues", "1")...)
	k.ok(with(operator, "message", "send", "orders", "body")...)

	f.write(f.secret+"2", "reader-secret")
	reader := append([]string{"-access-key", "reader-key", "-secret-file", f.secret + "2"}, client...)
	k.ok(with(reader, "message", "browse", "orders")...)
	k.refuses(exitRefused, "code 16", with(reader, "message", "send", "orders", "body")...)
	k.refuses(exitRefused, "code 16", with(reader, "topic", "create", "bills")...)
	k.refuses(exitRefused, "code 16", with(client, "topic", "list")...)
	k.refuses(exitRefused, "code 16", with(append([]string{"-access-key", "operator-key", "-secret-file", f.wrong}, client...), "topic", "list")...)
	k.refuses(exitFailed, "", "topic", "list", "-timeout", "30s")                                      // plain
	k.refuses(exitFailed, "", "topic", "list", "-tls", "-tls-ca", f.ca)                                // without a certificate of the client
	k.refuses(exitFailed, "certificate", with([]string{"-tls"}, "topic", "list")...)                   // of an unknown authority
	k.refuses(exitFailed, "certificate", with(append(operator, "-tls-name", "x"), "topic", "list")...) // of another name
	k.ok(with(append(operator, "-tls-name", "x", "-tls-skip-verify"), "topic", "list")...)
}
