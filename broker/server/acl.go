package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// ACL holds the accounts that a server knows, and what each may do. It does
// not change; [Server.SetACL] replaces it. Its secrets are in no text that it
// answers.
type ACL struct {
	trusted  []addressPattern // addresses that need no account
	accounts map[string]*account
}

// account is who sends requests.
type account struct {
	accessKey, secretKey string
	from                 []addressPattern // addresses that need no signature
	admin                bool
	topics, groups       permissions
}

// permissions are those of one account on topics, or on groups.
type permissions struct {
	otherwise perm
	named     map[string]perm
}

func (p permissions) of(name string) perm {
	if own, ok := p.named[name]; ok {
		return own
	}
	return p.otherwise
}

// perm is what may be done with a topic or a group.
type perm uint8

const (
	deny perm = 0
	pub  perm = 1
	sub  perm = 2
)

// String returns the spelling of the file.
func (p perm) String() string {
	switch p {
	case pub:
		return "PUB"
	case sub:
		return "SUB"
	case pub | sub:
		return "PUB|SUB"
	default:
		return "DENY"
	}
}

// String counts the accounts.
func (a *ACL) String() string {
	if a == nil {
		return "no access control"
	}
	return fmt.Sprintf("access control with %d accounts and %d trusted addresses", len(a.accounts), len(a.trusted))
}

// TrustsAll reports whether strangers are answered without a signature. All that
// globalWhiteRemoteAddresses and the whiteRemoteAddress of every account name
// counts together: beside private, link-local and loopback addresses it may be as
// many as one IPv4 network of 8 bits and one IPv6 network of 24 bits have. Who
// could come from more than that is not known to anybody, however it is written:
// *, 0.0.0.0/1 with 128.0.0.0/1, or 1-223.*.*.*.
func (a *ACL) TrustsAll() bool {
	all := slices.Clone(a.trusted)
	for _, who := range a.accounts {
		all = append(all, who.from...)
	}
	return strangers(all)
}

// SetACL replaces the accounts from the next request on, such as after the
// file has changed. nil is refused: it would open the server. So are accounts
// that [Open] would refuse, by an [*ExposedError].
func (s *Server) SetACL(a *ACL) error {
	if a == nil || s.acl.Load() == nil {
		return errors.New("replace access control: it cannot be switched on or off while the server runs")
	}
	if err := s.exposed(a); err != nil {
		return fmt.Errorf("replace access control: %w", err)
	}
	s.acl.Store(a)
	s.log.Warn("access control was replaced", slog.Int("accounts", len(a.accounts)))
	return nil
}

// trusts reports whether an address needs no account.
func (a *ACL) trusts(addr netip.Addr) bool { return matchAddress(a.trusted, addr) }

// allow refuses what the sender of req may not do.
func (s *Server) allow(c *conn, h *handler, req *remoting.Command) error {
	c.who = nil
	acl := s.acl.Load()
	if acl == nil || acl.trusts(c.addr) {
		s.prove(c)
		return nil
	}
	who, err := s.authenticate(acl, c, req)
	if err != nil {
		return refuse(remoting.ResNoPermission, "%v", err)
	}
	s.prove(c)
	c.who = who
	if who.admin {
		return nil
	}
	if h.right.admin {
		return refuse(remoting.ResNoPermission, "account %s is no admin, which %s takes", who.accessKey, remoting.RequestName(req.Code))
	}
	return h.right.claims(s, req, who.has)
}

// authenticate finds the account that signed req.
func (s *Server) authenticate(acl *ACL, c *conn, req *remoting.Command) (*account, error) {
	key := req.Fields.Get(remoting.FieldAccessKey)
	if key == "" {
		return nil, errors.New("the request is not signed; it takes the fields AccessKey and Signature")
	}
	who := acl.accounts[key]
	if who == nil {
		return nil, fmt.Errorf("account %.64q is not known", key)
	}
	if matchAddress(who.from, c.addr) {
		return who, nil
	}
	if err := s.verify(who, c, req); err != nil {
		return nil, fmt.Errorf("account %s: %w", key, err)
	}
	return who, nil
}

// has refuses a claim that the account has no permission for. either is
// enough for one of PUB and SUB.
func (a *account) has(k kind, name string, need perm, either bool) error {
	p := a.topics
	if k == groupKind {
		p = a.groups
	}
	got := p.of(name)
	if got&need == need || either && got&need != 0 {
		return nil
	}
	word := "and"
	if either {
		word = "or"
	}
	wanted := need.String()
	if need == pub|sub {
		wanted = "PUB " + word + " SUB"
	}
	return refuse(remoting.ResNoPermission, "account %s has no permission %s on %s %s", a.accessKey, wanted, k, name)
}

// permit refuses what the sender of the request that is being served may not
// do, for claims that are known only when the work has begun. It is for
// handlers that do not run apart.
func (c *conn) permit(k kind, name string, need perm) error {
	if c.who == nil || c.who.admin {
		return nil
	}
	return claimName(c.srv, k, name, need, false, c.who.has)
}

// auditRemark is how much of a remark the log gets, in bytes: it may have in it
// what was sent.
const auditRemark = 512

// audit says who asked for something that only operators may, whether that was
// allowed, and what the answer is, before it is given. nobody: no account has
// asked and it was refused, which is told at a level that cannot be used to fill a
// disk.
func (s *Server) audit(c *conn, h *handler, req, resp *remoting.Command, allowed, nobody bool) {
	if !h.right.admin {
		return
	}
	level := slog.LevelWarn
	if nobody {
		level = slog.LevelDebug
	}
	target := ""
	for _, name := range []string{"topic", "group", "groupName", "consumerGroup", "brokerName", "key"} {
		if v, ok := req.Fields.Lookup(name); ok {
			target = name + "=" + v[:min(len(v), driver.MaxInternalName)]
			break
		}
	}
	s.log.LogAttrs(s.root, level, "admin request",
		slog.Int("code", req.Code), slog.String("request", remoting.RequestName(req.Code)),
		slog.String("access_key", req.Fields.Get(remoting.FieldAccessKey)), slog.String("address", c.remote),
		slog.String("target", target), slog.Bool("allowed", allowed),
		slog.Int("answer", resp.Code), slog.String("remark", resp.Remark[:min(len(resp.Remark), auditRemark)]))
}
