package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluicemq/sluice/broker/driver"
)

// aclFileMost is the largest file of accounts: some thousand of them.
const aclFileMost = 4 << 20

// keyLeast is the shortest access key and secret key, as in RocketMQ.
const keyLeast = 7

// aclFile is the form of RocketMQ's plain_acl.yml.
type aclFile struct {
	GlobalWhiteRemoteAddresses []string      `yaml:"globalWhiteRemoteAddresses"`
	Accounts                   []accountFile `yaml:"accounts"`
	DataVersion                any           `yaml:"dataVersion"` // RocketMQ leaves it there; it means nothing here
}

type accountFile struct {
	AccessKey          string   `yaml:"accessKey"`
	SecretKey          string   `yaml:"secretKey"`
	WhiteRemoteAddress string   `yaml:"whiteRemoteAddress"`
	Admin              bool     `yaml:"admin"`
	DefaultTopicPerm   string   `yaml:"defaultTopicPerm"`
	DefaultGroupPerm   string   `yaml:"defaultGroupPerm"`
	TopicPerms         []string `yaml:"topicPerms"`
	GroupPerms         []string `yaml:"groupPerms"`
}

// LoadACL reads accounts from a file in the form of RocketMQ's plain_acl.yml;
// see [ParseACL].
func LoadACL(path string) (*ACL, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read access control: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, aclFileMost+1))
	if err != nil {
		return nil, fmt.Errorf("read access control from %s: %w", path, err)
	}
	acl, err := ParseACL(data)
	if err != nil {
		return nil, fmt.Errorf("read access control from %s: %w", path, err)
	}
	return acl, nil
}

// ParseACL reads accounts in the form of RocketMQ's plain_acl.yml:
//
//	globalWhiteRemoteAddresses: ["10.0.0.*"]
//	accounts:
//	  - accessKey: billing-service
//	    secretKey: at-least-seven-characters
//	    whiteRemoteAddress: ""
//	    admin: false
//	    defaultTopicPerm: DENY
//	    defaultGroupPerm: SUB
//	    topicPerms: [bills=PUB|SUB, audit=PUB]
//	    groupPerms: [archive=DENY]
//
// Requests from globalWhiteRemoteAddresses need no account and may do
// everything; those from an account's whiteRemoteAddress need no signature.
// Addresses are 10.0.0.1, 10.0.0.*, 10.0.0.1-9, 10.0.0.{1,2}, 10.0.0.0/8,
// several of them with commas between, or * for all. A server that other machines
// reach does not start if they are too many, all together ([ACL.TrustsAll]).
// Permissions are DENY, PUB, SUB and PUB|SUB, and DENY where nothing is said. An
// account with admin: true may do everything.
//
// Reading is strict: what is unknown or wrong is refused, all of it at once,
// with the accepted form. No error has a secret in it.
func ParseACL(data []byte) (*ACL, error) {
	if len(data) > aclFileMost {
		return nil, fmt.Errorf("access control of %d bytes, at most %d are read", len(data), aclFileMost)
	}
	var f aclFile
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return nil, yamlError(err, wrongTypes(data))
	}
	switch err := d.Decode(new(yaml.Node)); {
	case err == nil:
		return nil, errors.New("the file has a second document behind ---, which would count for nothing; it takes one, with all accounts")
	case !errors.Is(err, io.EOF):
		return nil, yamlError(err, nil)
	}
	acl := &ACL{accounts: map[string]*account{}}
	var errs []error
	for _, text := range f.GlobalWhiteRemoteAddresses {
		patterns, err := parseAddresses(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("globalWhiteRemoteAddresses: %w", err))
		}
		acl.trusted = append(acl.trusted, patterns...)
	}
	if len(f.Accounts) == 0 {
		errs = append(errs, errors.New("accounts: there are none, so nobody could send a request"))
	}
	for i, one := range f.Accounts {
		a, err := one.account()
		if err == nil && acl.accounts[a.accessKey] != nil {
			err = errors.New("accessKey: another account has it")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("account %d (%.64q): %w", i+1, one.AccessKey, err))
			continue
		}
		acl.accounts[a.accessKey] = a
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return acl, nil
}

// yamlError keeps the values of the file, which may be secrets, out of what
// the parser says. What it says of types is left out if it is in wrong, too.
func yamlError(err error, wrong []string) error {
	typed, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		if errors.Is(err, io.EOF) {
			return errors.New("the file is empty; it takes a list accounts with accessKey and secretKey")
		}
		return errors.New("the file is no YAML: " + withoutValues(err.Error()))
	}
	lines := wrong
	for _, line := range typed.Errors {
		if len(wrong) == 0 || !strings.Contains(line, ": cannot unmarshal ") {
			lines = append(lines, withoutValues(line))
		}
	}
	if len(wrong) > 0 && len(lines) == len(wrong) {
		return errors.New(strings.Join(lines, "; "))
	}
	return fmt.Errorf("%s; known are globalWhiteRemoteAddresses and accounts, and in an account accessKey, secretKey, whiteRemoteAddress, admin (true or false), "+
		"defaultTopicPerm, defaultGroupPerm, and the lists topicPerms and groupPerms", strings.Join(lines, "; "))
}

// withoutValues drops what the parser quotes, by backticks, and the names of
// our types.
func withoutValues(text string) string {
	if from, to := strings.IndexByte(text, '`'), strings.LastIndexByte(text, '`'); from < to {
		text = text[:from] + "…" + text[to+1:]
	}
	text = strings.ReplaceAll(text, " in type server.accountFile", " in an account")
	return strings.ReplaceAll(text, " in type server.aclFile", "")
}

// account checks and reads one account.
func (f accountFile) account() (*account, error) {
	a := &account{accessKey: f.AccessKey, secretKey: f.SecretKey, admin: f.Admin}
	var errs []error
	if len(f.AccessKey) < keyLeast {
		errs = append(errs, fmt.Errorf("accessKey has %d characters, it takes %d and more", len(f.AccessKey), keyLeast))
	}
	if len(f.SecretKey) < keyLeast {
		errs = append(errs, fmt.Errorf("secretKey has %d characters, it takes %d and more", len(f.SecretKey), keyLeast))
	}
	var err error
	if f.WhiteRemoteAddress != "" {
		if a.from, err = parseAddresses(f.WhiteRemoteAddress); err != nil {
			errs = append(errs, fmt.Errorf("whiteRemoteAddress: %w", err))
		}
	}
	if a.topics, err = permissionsOf("topic", f.DefaultTopicPerm, f.TopicPerms, driver.ValidTopic); err != nil {
		errs = append(errs, err)
	}
	if a.groups, err = permissionsOf("group", f.DefaultGroupPerm, f.GroupPerms, driver.ValidGroup); err != nil {
		errs = append(errs, err)
	}
	return a, errors.Join(errs...)
}

func permissionsOf(what, otherwise string, list []string, valid func(string) error) (permissions, error) {
	p := permissions{named: map[string]perm{}}
	var errs []error
	if otherwise != "" {
		got, err := parsePerm(otherwise)
		if err != nil {
			errs = append(errs, fmt.Errorf("default%s%sPerm: %w", strings.ToUpper(what[:1]), what[1:], err))
		}
		p.otherwise = got
	}
	for _, item := range list {
		name, text, ok := strings.Cut(item, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("%sPerms: %.64q is not name=permission, such as orders=PUB|SUB", what, item))
			continue
		}
		name = strings.TrimSpace(name)
		got, err := parsePerm(text)
		err = errors.Join(valid(name), err)
		if _, twice := p.named[name]; twice {
			err = errors.Join(err, errors.New("it is named twice"))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%sPerms: %.64q: %w", what, name, err))
			continue
		}
		p.named[name] = got
	}
	return p, errors.Join(errs...)
}

func parsePerm(text string) (perm, error) {
	switch strings.TrimSpace(text) {
	case "DENY":
		return deny, nil
	case "PUB":
		return pub, nil
	case "SUB":
		return sub, nil
	case "PUB|SUB", "SUB|PUB":
		return pub | sub, nil
	default:
		return deny, fmt.Errorf("permission %.64q is not DENY, PUB, SUB or PUB|SUB", text)
	}
}
