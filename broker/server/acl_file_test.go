package server

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const plainACL = `
globalWhiteRemoteAddresses:
  - 10.10.103.*
  - 192.168.0.*
accounts:
  - accessKey: RocketMQ
    secretKey: 12345678
    whiteRemoteAddress:
    admin: false
    defaultTopicPerm: DENY
    defaultGroupPerm: SUB
    topicPerms:
      - topicA=DENY
      - topicB=PUB|SUB
      - topicC=SUB
    groupPerms:
      # the group should convert to retry topic
      - groupA=DENY
      - groupB=PUB|SUB
  - accessKey: rocketmq2
    secretKey: 00045678
    whiteRemoteAddress: 192.168.1.*
    # if it is admin, it could access all resources
    admin: true
dataVersion:
  - {timestamp: 1700000000000, counter: 3}
`

func TestParseACL_FormOfRocketMQ(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plain_acl.yml")
	if err := os.WriteFile(path, []byte(plainACL), 0o600); err != nil {
		t.Fatal(err)
	}
	acl, err := LoadACL(path)
	if err != nil {
		t.Fatal(err)
	}
	one, two := acl.accounts["RocketMQ"], acl.accounts["rocketmq2"]
	if one == nil || two == nil || one.admin || !two.admin {
		t.Fatalf("accounts %+v", acl.accounts)
	}
	if one.secretKey != "12345678" || two.secretKey != "00045678" {
		t.Error("a secret that looks like a number has changed")
	}
	for name, want := range map[string]perm{"topicA": deny, "topicB": pub | sub, "topicC": sub, "topicD": deny} {
		if got := one.topics.of(name); got != want {
			t.Errorf("topic %s: %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]perm{"groupA": deny, "groupB": pub | sub, "groupC": sub} {
		if got := one.groups.of(name); got != want {
			t.Errorf("group %s: %v, want %v", name, got, want)
		}
	}
	if !acl.trusts(netip.MustParseAddr("192.168.0.77")) || acl.trusts(netip.MustParseAddr("192.168.1.77")) {
		t.Error("trusted addresses")
	}
	if text := acl.String(); strings.Contains(text, "5678") || !strings.Contains(text, "2 accounts") {
		t.Errorf("String is %q", text)
	}
}

func TestParseACL_Refusals(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-hunter2"
	account := func(lines ...string) string {
		return "accounts:\n  - accessKey: service\n    secretKey: " + secret + "\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "the file is empty"},
		{"no accounts", "accounts: []", "there are none"},
		{"no YAML", "accounts: [", "the file is no YAML"},
		{"a text", secret, "line 1: the file takes a map with accounts and globalWhiteRemoteAddresses, each with a colon and a list behind it"},
		{"a list", "# of accounts\n- accessKey: service\n  secretKey: " + secret, "line 2: the file takes a map with accounts and"},
		{"unknown member", "users: []\n" + account(), "field users not found"},
		{"unknown member of an account", account("adminn: true"), "field adminn not found in an account"},
		{"admin is no truth value", account("admin: perhaps"), `line 4: account 1 ("service"): admin takes true or false`},
		{"a secret where a list should be", account("topicPerms: " + secret), `line 4: account 1 ("service"): topicPerms takes a list, such as [orders=PUB|SUB, audit=PUB]`},
		{"a mapping in a list", account("groupPerms: [{" + secret + ": SUB}]"), `line 4: account 1 ("service"): groupPerms takes a list, such as [billing=SUB, archive=DENY]`},
		{"a list as a text", account("whiteRemoteAddress: ['10.0.0.1', '" + secret + "']"), `line 4: account 1 ("service"): whiteRemoteAddress takes a text of addresses`},
		{"a list as a permission", account("defaultTopicPerm: [PUB, SUB]"), `line 4: account 1 ("service"): defaultTopicPerm takes DENY, PUB, SUB or PUB|SUB`},
		{"a list as a group permission", account("defaultGroupPerm: [SUB]"), `line 4: account 1 ("service"): defaultGroupPerm takes DENY`},
		{"a list as a secret", "accounts:\n  - accessKey: service\n    secretKey: [" + secret + "]", `line 3: account 1 ("service"): secretKey takes a text`},
		{"a mapping as a key", account() + "  - accessKey: {a: " + secret + "}\n    secretKey: " + secret, "line 5: account 2: accessKey takes a text"},
		{"a text as an account", account() + "  - " + secret, "line 5: account 2 takes members such as accessKey and secretKey"},
		{"one account without a list", "accounts: {accessKey: service, secretKey: " + secret + "}", "line 1: accounts takes a list of accounts"},
		{"addresses without a list", "globalWhiteRemoteAddresses: 10.0.0.1\n" + account(), "line 1: globalWhiteRemoteAddresses takes a list of addresses"},
		{"an alias", account("topicPerms: &all [a=SUB]", "defaultTopicPerm: *all"), `account 1 ("service"): defaultTopicPerm takes DENY`},
		{"types and names", account("admin: [true]", "adminn: true"), `line 4: account 1 ("service"): admin takes true or false; line 5: field adminn not found in an account; known are`},
		{"short keys", "accounts:\n  - accessKey: abc\n    secretKey: defghi", "accessKey has 3 characters, it takes 7 and more\nsecretKey has 6 characters"},
		{"twice", account() + "  - accessKey: service\n    secretKey: " + secret, "another account has it"},
		{"permission", account("defaultTopicPerm: ALL"), `defaultTopicPerm: permission "ALL" is not DENY, PUB, SUB or PUB|SUB`},
		{"group permission", account("defaultGroupPerm: READ"), "defaultGroupPerm"},
		{"no permission", account("topicPerms: [orders]"), "orders=PUB|SUB"},
		{"no such permission", account("groupPerms: [g=READ]"), `groupPerms: "g": permission "READ"`},
		{"a path", account("topicPerms: [../x=SUB]"), "topicPerms"},
		{"named twice", account("topicPerms: [a=SUB, a=PUB]"), "named twice"},
		{"a second document", account() + "---\n" + account("admin: true"), "a second document behind ---"},
		{"nothing behind ---", account() + "---\n", "a second document behind ---"},
		{"no YAML behind ---", account() + "---\nhunter2: [", "the file is no YAML"},
		{"address", "globalWhiteRemoteAddresses: [10.0.0]\n" + account(), "10.0.0.{1,2}"},
		{"a network of IPv4 as one of IPv6", "globalWhiteRemoteAddresses: ['::ffff:7f00:1/104']\n" + account(), `globalWhiteRemoteAddresses: address "::ffff:7f00:1/104" is a network of IPv4; write it as 127.0.0.0/8`},
		{"all of IPv4 as a network of IPv6", account("whiteRemoteAddress: '::ffff:0:0/96'"), "write it as 0.0.0.0/0"},
		{"more than IPv4", account("whiteRemoteAddress: '::ffff:0:0/80'"), "write networks of IPv4 as such, as in 10.0.0.0/8"},
		{"address of an account", account("whiteRemoteAddress: everywhere"), "whiteRemoteAddress: address"},
		{"all at once", account("defaultTopicPerm: X", "defaultGroupPerm: Y"), "\n"},
	} {
		_, err := ParseACL([]byte(test.text))
		if err == nil {
			t.Errorf("%s: accepted", test.name)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %q does not say %q", test.name, err, test.want)
		}
		for _, hidden := range []string{"hunter2", "server."} {
			if strings.Contains(err.Error(), hidden) {
				t.Errorf("%s: %q has %q in it", test.name, err, hidden)
			}
		}
	}
	if _, err := LoadACL(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there is accepted")
	}
	if _, err := ParseACL(make([]byte, aclFileMost+1)); err == nil {
		t.Error("a file of any size is accepted")
	}
}

func TestAddressPatterns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern string
		in, out []string
	}{
		{"10.0.0.1", []string{"10.0.0.1"}, []string{"10.0.0.2", "::1"}},
		{"10.0.0.*", []string{"10.0.0.0", "10.0.0.255"}, []string{"10.0.1.0", "2001:db8::1"}},
		{"10.*.*.*", []string{"10.1.2.3"}, []string{"11.1.2.3"}},
		{"10.0.0.5-9", []string{"10.0.0.5", "10.0.0.9"}, []string{"10.0.0.4", "10.0.0.10"}},
		{"10.0.{1,2}.{3,4}", []string{"10.0.1.3", "10.0.2.4"}, []string{"10.0.3.3", "10.0.1.5"}},
		{"10.0.0.1, 10.0.0.{3,4},fe80::1", []string{"10.0.0.1", "10.0.0.4", "fe80::1"}, []string{"10.0.0.2", "fe80::2"}},
		{"::ffff:10.0.0.1", []string{"10.0.0.1"}, []string{"10.0.0.2"}},
		{"10.0.0.0/8", []string{"10.9.9.9"}, []string{"11.0.0.0"}},
		{"2001:db8::/32", []string{"2001:db8:1::1"}, []string{"2001:db9::1", "10.0.0.1"}},
		{"*", []string{"10.0.0.1", "::1"}, nil},
		{"*.*.*.*", []string{"10.0.0.1"}, []string{"::1"}},
	} {
		patterns, err := parseAddresses(test.pattern)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		for _, a := range test.in {
			if !matchAddress(patterns, netip.MustParseAddr(a)) {
				t.Errorf("%s does not match %s", test.pattern, a)
			}
		}
		for _, a := range test.out {
			if matchAddress(patterns, netip.MustParseAddr(a)) {
				t.Errorf("%s matches %s", test.pattern, a)
			}
		}
		if all := test.pattern == "*"; matchAddress(patterns, netip.Addr{}) != all {
			t.Errorf("%s and a connection without an address", test.pattern)
		}
	}
	for _, bad := range []string{"", "10.0.0", "10.0.0.256", "10.0.0.9-5", "10.0.0.{1", "10.0.0.{1,x}", "host", "10.0.0.1/33", "10.0.0.1,", "10.0.0.-1"} {
		if _, err := parseAddresses(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
