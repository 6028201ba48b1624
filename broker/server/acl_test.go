package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

const (
	plainKey, plainSecret = "billing-service", "billing-secret"
	adminKey, adminSecret = "operators", "operators-secret"
)

func testACL(t *testing.T) *ACL {
	t.Helper()
	acl, err := ParseACL([]byte(`
accounts:
  - accessKey: ` + plainKey + `
    secretKey: ` + plainSecret + `
    topicPerms: [written=PUB, read=SUB, both=PUB|SUB]
    groupPerms: [member=SUB, denied=DENY, publisher=PUB]
  - accessKey: ` + adminKey + `
    secretKey: ` + adminSecret + `
    admin: true
`))
	if err != nil {
		t.Fatal(err)
	}
	return acl
}

func signed(cmd *remoting.Command) *remoting.Command {
	remoting.SignCommand(plainKey, plainSecret, cmd)
	return cmd
}

func TestACL_Signatures(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{ACL: testACL(t)}, echo)
	p := s.dial(t)
	body := func(cmd *remoting.Command) *remoting.Command { cmd.Body = []byte("body"); return cmd }
	with := func(sign func(key, secret string, cmd *remoting.Command), key, secret string) *remoting.Command {
		cmd := body(request(90, "n", "1"))
		sign(key, secret, cmd)
		return cmd
	}
	sha256 := func(at time.Time) func(string, string, *remoting.Command) {
		return func(key, secret string, cmd *remoting.Command) { remoting.SignCommandSHA256(key, secret, cmd, at) }
	}
	now := time.Now()
	changed := func(cmd *remoting.Command, change func(*remoting.Command)) *remoting.Command { change(cmd); return cmd }
	for _, test := range []struct {
		name   string
		cmd    *remoting.Command
		remark string // of a refusal
	}{
		{"SHA-1", with(remoting.SignCommand, plainKey, plainSecret), ""},
		{"SHA-256", with(sha256(now), plainKey, plainSecret), ""},
		{"SHA-256 of another clock", with(sha256(now.Add(-4*time.Minute)), plainKey, plainSecret), ""},
		{"no signature", body(request(90)), "not signed"},
		{"no signature but a key", request(90, remoting.FieldAccessKey, plainKey), "signature does not match"},
		{"unknown key", with(remoting.SignCommand, "somebody", plainSecret), `account "somebody" is not known`},
		{"wrong secret", with(remoting.SignCommand, plainKey, adminSecret), "account billing-service: signature does not match"},
		{"wrong secret by SHA-256", with(sha256(now), plainKey, adminSecret), "signature does not match"},
		{"a changed body", changed(with(remoting.SignCommand, plainKey, plainSecret), func(c *remoting.Command) { c.Body = []byte("bodY") }), "signature does not match"},
		{"a changed field", changed(with(remoting.SignCommand, plainKey, plainSecret), func(c *remoting.Command) { c.Fields.Set("n", "2") }), "signature does not match"},
		{"a code that SHA-256 covers", changed(with(sha256(now), plainKey, plainSecret), func(c *remoting.Command) { c.Code = remoting.ReqGetAllTopicList }), "signature does not match"},
		{"an old signature", with(sha256(now.Add(-6*time.Minute)), plainKey, plainSecret), "outside its time"},
		{"a signature of the future", with(sha256(now.Add(6*time.Minute)), plainKey, plainSecret), "outside its time"},
	} {
		a := p.ask(test.cmd)
		switch {
		case test.remark == "" && (a.Code != 0 || string(a.Body) != "body"):
			t.Errorf("%s: refused by %d %q", test.name, a.Code, a.Remark)
		case test.remark != "" && (a.Code != remoting.ResNoPermission || !strings.Contains(a.Remark, test.remark)):
			t.Errorf("%s: answer %d %q, want 16 with %q", test.name, a.Code, a.Remark, test.remark)
		}
		if strings.Contains(a.Remark, "secret") {
			t.Errorf("%s: %q has a secret in it", test.name, a.Remark)
		}
	}
	recorded := with(sha256(now), plainKey, plainSecret)
	p.must(recorded)
	if a := p.ask(recorded); a.Code != remoting.ResNoPermission || !strings.Contains(a.Remark, "used before") {
		t.Errorf("a recorded request is served again: %d %q", a.Code, a.Remark)
	}
	old := body(request(90, remoting.UniqueKeyQuery, "true")) // clients up to 4.9 do not sign this field
	old.Version = 399
	remoting.SignCommand(plainKey, plainSecret, old)
	p.must(old)
}

// TestACL_Unproven: who has not signed anything holds no connection.
func TestACL_Unproven(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{ACL: testACL(t), Limits: Limits{Unproven: 1}}, echo)
	known := s.dial(t)
	if a := known.ask(signed(request(remoting.ReqGetRoute, "topic", "elsewhere"))); a.Code != remoting.ResNoPermission {
		t.Fatalf("%+v", a) // refused, but known
	}
	stranger := s.dial(t)
	stranger.ask(request(90))
	s.dial(t)
	stranger.ended()
	known.must(signed(request(90)))
}

// attempt is a request of the account without special rights.
type attempt struct {
	cmd    *remoting.Command
	remark string // of a refusal
}

func rightsOfService() []attempt {
	hb := func(group, topic string) *remoting.Command { return beat("me", group, subTo(topic, "*", 1)) }
	check := func(group, topic string) *remoting.Command {
		cmd := request(remoting.ReqCheckClientConfig)
		cmd.Body = remoting.CheckClient{ClientID: "me", Group: group, Subscription: subTo(topic, "*", 1)}.AppendTo(nil)
		return cmd
	}
	return []attempt{
		{request(10, "topic", "written"), ""},
		{request(10, "topic", "both"), ""},
		{request(10, "topic", "read"), "no permission PUB on topic read"},
		{request(10, "topic", "unnamed"), "no permission PUB on topic unnamed"},
		{request(10, "topic", "%RETRY%member"), ""},
		{request(10, "topic", "%RETRY%denied"), "no permission SUB on group denied"},
		{request(10, "topic", "RMQ_SYS_TRACE_TOPIC"), ""},
		{request(10, "topic", "DefaultCluster_REPLY_TOPIC"), ""},
		{request(310, "b", "written"), ""},
		{request(310, "b", "read"), "no permission PUB on topic read"},
		{request(310, "b", "written", "b", "read"), "no permission PUB on topic read"}, // the last one counts, as for the handler
		{request(11, "topic", "read", "consumerGroup", "member"), ""},
		{request(11, "topic", "written", "consumerGroup", "member"), "no permission SUB on topic written"},
		{request(11, "topic", "read", "consumerGroup", "publisher"), "no permission SUB on group publisher"},
		{request(11, "topic", "%RETRY%member", "consumerGroup", "member"), ""},
		{request(11, "topic", "%DLQ%member", "consumerGroup", "member"), ""},
		{request(11, "topic", "%DLQ%denied", "consumerGroup", "member"), "no permission SUB on group denied"},
		{request(11, "topic", "RMQ_SYS_TRACE_TOPIC", "consumerGroup", "member"), "no permission SUB on topic RMQ_SYS_TRACE_TOPIC"},
		{request(15, "topic", "both", "consumerGroup", "denied"), "no permission SUB on group denied"},
		{hb("member", "read"), ""},
		{hb("member", "%RETRY%member"), ""},
		{hb("member", "written"), "no permission SUB on topic written"},
		{hb("denied", "read"), "no permission SUB on group denied"},
		{check("member", "read"), ""},
		{check("member", "written"), "no permission SUB on topic written"},
		{check("unnamed", "read"), "no permission SUB on group unnamed"},
		{request(38, "consumerGroup", "member"), ""},
		{request(38, "consumerGroup", "unnamed"), "no permission SUB on group unnamed"},
		{request(35, "clientID", "me", "consumerGroup", "denied"), "no permission SUB on group denied"},
		{request(35, "clientID", "me", "producerGroup", "any"), ""},
		{request(105, "topic", "DefaultCluster"), ""},
		{request(105, "topic", "elsewhere"), "no permission PUB or SUB on topic elsewhere"},
		{request(206), ""},
		{request(106), ""},
		{request(17, "topic", "written"), "account billing-service is no admin, which UPDATE_AND_CREATE_TOPIC takes"},
		{request(100, "namespace", "n", "key", "k", "value", "v"), "is no admin"},
		{request(205, "brokerName", "broker-a"), "is no admin"},
		{request(318), "is no admin"},
		{request(95, "of", "read"), ""},
		{request(95, "of", "%RETRY%denied"), "no permission SUB on group denied"},
		{request(95, "of", "written"), "no permission SUB on topic written"},
	}
}

// TestACL_Rights goes through who may do what.
func TestACL_Rights(t *testing.T) {
	t.Parallel()
	allowed := func(code int, r right) handler {
		return handler{code: code, right: r, serve: func(*Server, *conn, *remoting.Command, *remoting.Command) error { return nil }}
	}
	var log syncBuffer
	s := serveOn(t, Config{ACL: testACL(t), Logger: slog.New(slog.NewTextHandler(&log, nil))},
		allowed(remoting.ReqSendMessage, needs(onTopic("topic", pub))),
		allowed(remoting.ReqSendMessageV2, needs(onTopic("b", pub))),
		allowed(remoting.ReqPullMessage, needs(onTopic("topic", sub), onGroup("consumerGroup"))),
		allowed(remoting.ReqUpdateConsumerOffset, needs(onTopic("topic", sub), onGroup("consumerGroup"))),
		allowed(remoting.ReqCreateTopic, adminOnly()),
		handler{code: 95, serve: func(_ *Server, c *conn, req, _ *remoting.Command) error {
			return c.permit(topicKind, req.Fields.Get("of"), sub)
		}},
	)
	p := s.dial(t)
	for _, test := range rightsOfService() {
		a := p.ask(signed(test.cmd))
		switch {
		case test.remark == "" && a.Code != 0:
			t.Errorf("%d %v: refused by %d %q", test.cmd.Code, test.cmd.Fields, a.Code, a.Remark)
		case test.remark != "" && (a.Code != remoting.ResNoPermission || !strings.Contains(a.Remark, test.remark)):
			t.Errorf("%d %v: answer %d %q, want 16 with %q", test.cmd.Code, test.cmd.Fields, a.Code, a.Remark, test.remark)
		}
	}
	for _, cmd := range []*remoting.Command{
		request(17, "topic", "anything"), request(10, "topic", "anything"), beat("me", "anyone", subTo("anything", "*", 1)), request(95, "of", "anything"),
	} {
		remoting.SignCommand(adminKey, adminSecret, cmd)
		if a := p.ask(cmd); a.Code != 0 {
			t.Errorf("an admin is refused %d: %d %q", cmd.Code, a.Code, a.Remark)
		}
	}
	lines := log.String()
	for _, want := range []string{
		`level=WARN msg="admin request" code=17 request=UPDATE_AND_CREATE_TOPIC access_key=billing-service address=` + p.LocalAddr().String() + ` target="topic=written" allowed=false answer=16 remark="account billing-service is no admin, which UPDATE_AND_CREATE_TOPIC takes"`,
		`access_key=operators address=` + p.LocalAddr().String() + ` target="topic=anything" allowed=true answer=0 remark=""`,
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("the log has no line %q:\n%s", want, lines)
		}
	}
	if strings.Contains(lines, "-secret") {
		t.Error("the log has a secret in it")
	}
}

func TestACL_TrustedAddresses(t *testing.T) {
	t.Parallel()
	acl, err := ParseACL([]byte("globalWhiteRemoteAddresses: [127.0.0.1]\naccounts: [{accessKey: operators, secretKey: operators-secret}]"))
	if err != nil {
		t.Fatal(err)
	}
	p := serveOn(t, Config{ACL: acl}).dial(t)
	p.must(request(100, "namespace", "n", "key", "k", "value", "v")) // as in RocketMQ, admin requests too
	acl, err = ParseACL([]byte("accounts: [{accessKey: operators, secretKey: operators-secret, whiteRemoteAddress: 127.0.0.*, defaultTopicPerm: SUB}]"))
	if err != nil {
		t.Fatal(err)
	}
	s := serveOn(t, Config{ACL: acl})
	p = s.dial(t)
	if a := p.ask(request(206)); a.Code != remoting.ResNoPermission {
		t.Errorf("without an account: %d %q", a.Code, a.Remark)
	}
	p.must(request(206, remoting.FieldAccessKey, adminKey))
	if a := p.ask(request(100, remoting.FieldAccessKey, adminKey)); a.Code != remoting.ResNoPermission {
		t.Errorf("an address stands for a signature, not for rights: %d %q", a.Code, a.Remark)
	}
}

func TestSetACL(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{ACL: testACL(t)})
	p := s.dial(t)
	p.must(signed(request(206)))
	next, err := ParseACL([]byte("accounts: [{accessKey: operators, secretKey: operators-secret}]"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetACL(next); err != nil {
		t.Fatal(err)
	}
	if a := p.ask(signed(request(206))); a.Code != remoting.ResNoPermission {
		t.Errorf("an account that is gone: %d %q", a.Code, a.Remark)
	}
	if s.SetACL(nil) == nil {
		t.Error("access control can be switched off")
	}
	if serveOn(t, Config{}).SetACL(next) == nil {
		t.Error("access control can be switched on while somebody may be connected")
	}
}

func TestSetACL_Exposed(t *testing.T) {
	t.Parallel()
	b, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(context.Background()) }()
	s, err := Open(b, Config{Listen: "0.0.0.0:0", Advertise: "127.0.0.1:9876", TLS: testTLS(t).server, ACL: testACL(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	const accounts = "accounts: [{accessKey: operators, secretKey: operators-secret}]"
	for global, fine := range map[string]bool{"'*'": false, "10.0.0.*": true} {
		next, err := ParseACL([]byte("globalWhiteRemoteAddresses: [" + global + "]\n" + accounts))
		if err != nil {
			t.Fatal(err)
		}
		err = s.SetACL(next)
		if e, refused := errors.AsType[*ExposedError](err); refused == fine || refused && !e.TrustsAll {
			t.Errorf("%s: %v", global, err)
		}
	}
}

func TestNonces(t *testing.T) {
	t.Parallel()
	s := newServer(nil, Config{}.withDefaults())
	defer s.cancel()
	n := s.noncesOf("k")
	now := time.Now()
	if err := n.take("a", now, now); err != nil {
		t.Fatal(err)
	}
	if s.noncesOf("k").take("a", now, now) == nil {
		t.Error("a nonce counts twice")
	}
	if err := s.noncesOf("other").take("a", now, now); err != nil {
		t.Errorf("accounts share nonces: %v", err)
	}
	for _, bad := range []string{"", strings.Repeat("n", 65)} {
		if n.take(bad, now, now) == nil {
			t.Errorf("nonce %q is accepted", bad)
		}
	}
	// Signed ahead of our clock it is good for ten minutes.
	if err := n.take("ahead", now.Add(5*time.Minute), now); err != nil {
		t.Fatal(err)
	}
	for at := time.Duration(0); at <= 10*time.Minute; at += time.Second {
		if n.take("ahead", now.Add(5*time.Minute), now.Add(at)) == nil {
			t.Fatalf("a nonce is forgotten after %v", at)
		}
		_ = n.take(at.String(), now.Add(at), now.Add(at))
	}
	// More than fit make the window shorter, never open.
	later := now.Add(time.Hour)
	if err := n.take("first", later, later); err != nil {
		t.Fatal(err)
	}
	for i := range 2*noncesMost + 10 {
		at := later.Add(time.Duration(i) * 10 * time.Microsecond)
		if err := n.take(strconv.Itoa(i), at, at); err != nil {
			t.Fatalf("signature %d: %v", i, err)
		}
	}
	if n.take("first", later, later.Add(11*time.Second)) == nil {
		t.Error("a signature that was forgotten counts again")
	}
	if got := len(n.now.seen) + len(n.last.seen); got > 2*noncesMost {
		t.Errorf("%d nonces are kept", got)
	}
}

// syncBuffer is a buffer for a log.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
