package idempotency

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// Annotation is the name under which a listener carries its [Config].
const Annotation = "idempotency"

const (
	defaultLease = 30 * time.Second
	// defaultTTL covers the usual log retention of three days, after which no
	// broker brings a message back, with a margin.
	defaultTTL = 80 * time.Hour
	// Below minLease renewals have no time to fail and be repeated; above
	// maxLease a crash would keep a message waiting for too long.
	minLease = time.Second
	maxLease = time.Hour
	maxTTL   = 400 * 24 * time.Hour
)

// OnError says what happens to a message while the store does not answer.
type OnError string

const (
	// Closed: the handler does not run; the message comes again.
	Closed OnError = "closed"
	// Open: the handler runs without protection against duplicates.
	Open OnError = "open"
)

// Keys that name no field of the payload.
const (
	MessageKey = "$key" // the first business key of the message
	UniqueID   = "$id"  // its unique id, which redeliveries keep but a second send does not
)

// Config is what a listener says about its idempotency. The zero value is
// usable.
type Config struct {
	// Key is a field of the JSON payload, "bill_id" or "bill.id", or "$key"
	// or "$id". Field names are case-sensitive; the field holds a string that
	// is not empty, or a number, which counts as it is written. A message
	// without it goes to the dead letters. Defaults to "$key" for a message
	// with a key, else "$id".
	Key string
	// KeyFunc computes the key and takes the place of Key. Its error is the
	// outcome of the attempt, as if the handler had returned it. Defaults to
	// none.
	KeyFunc func(d *sdk.Delivery) (string, error)
	// Namespace keeps applications apart that share a store, a group and a
	// topic name. Defaults to "".
	Namespace string
	// Lease is how long a key stays locked after its owner has died; it is
	// renewed every third of it. 1s to 1h. Defaults to 30s.
	Lease time.Duration
	// TTL is how long it is remembered that the work was done; no shorter than
	// the retry horizon of the listener. Defaults to 80h, or more if the
	// horizon asks for it.
	TTL time.Duration
	// OnError is closed or open. Defaults to closed.
	OnError OnError
}

// By is the marker of an idempotent listener. Its keys are
//
//	key        a field of the JSON payload, or $key, or $id; see [Config]
//	lease      how long a key stays locked after its owner has died; 30s by default
//	ttl        how long it is remembered that the work was done; 80h by default
//	namespace  keeps applications apart that share a store; none by default
//	onError    closed (default): wait while the store is down; open: run unprotected
type By struct{}

// Annotate implements [listener.Annotation].
func (By) Annotate(tag reflect.StructTag, s *listener.Spec) error {
	values, err := listener.ParseTag(tag, "key", "lease", "ttl", "namespace", "onError")
	errs := []error{err}
	c := Config{Key: values["key"], Namespace: values["namespace"], OnError: OnError(values["onError"])}
	for name, into := range map[string]*time.Duration{"lease": &c.Lease, "ttl": &c.TTL} {
		text, ok := values[name]
		if !ok {
			continue
		}
		d, err := config.ParseDuration(text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		case d <= 0:
			errs = append(errs, fmt.Errorf("%s %s: it must be longer than 0", name, text))
		default:
			*into = d
		}
	}
	errs = append(errs, c.validate())
	if err := oneLine(errs); err != nil {
		return err
	}
	// A tag with a placeholder is read after the options, which still win.
	set, _ := s.Annotations[Annotation].(Config)
	s.Annotate(Annotation, set.over(c))
	return nil
}

// over is c with what it leaves open taken from below.
func (c Config) over(below Config) Config {
	if c.Key == "" && c.KeyFunc == nil {
		c.Key, c.KeyFunc = below.Key, below.KeyFunc
	}
	if c.Namespace == "" {
		c.Namespace = below.Namespace
	}
	if c.Lease == 0 {
		c.Lease = below.Lease
	}
	if c.TTL == 0 {
		c.TTL = below.TTL
	}
	if c.OnError == "" {
		c.OnError = below.OnError
	}
	return c
}

// Use makes a listener idempotent, or changes what its marker says: a field of
// c that is not zero takes the place of that of the marker.
func Use(c Config) listener.Option {
	return func(s *listener.Spec) error {
		if err := c.validate(); err != nil {
			return fmt.Errorf("idempotency: %w", err)
		}
		set, _ := s.Annotations[Annotation].(Config)
		s.Annotate(Annotation, c.over(set))
		return nil
	}
}

// KeyFunc makes a listener idempotent by a computed key; see [Config].KeyFunc.
func KeyFunc(f func(d *sdk.Delivery) (string, error)) listener.Option {
	if f == nil {
		return func(*listener.Spec) error { return errors.New("idempotency.KeyFunc: the function is nil") }
	}
	return Use(Config{KeyFunc: f})
}

// validate reports everything that is wrong with c by itself.
func (c Config) validate() error {
	var errs []error
	if c.KeyFunc != nil && c.Key != "" {
		errs = append(errs, fmt.Errorf("key %q and a key function exclude each other; keep one", c.Key))
	}
	errs = append(errs, checkKey(c.Key))
	if c.Lease != 0 && (c.Lease < minLease || c.Lease > maxLease) {
		errs = append(errs, fmt.Errorf("lease %v: it takes %v to %v", c.Lease, minLease, maxLease))
	}
	if c.TTL < 0 || c.TTL > maxTTL {
		errs = append(errs, fmt.Errorf("ttl %v: it takes up to %v", c.TTL, maxTTL))
	}
	switch c.OnError {
	case "", Closed, Open:
	default:
		errs = append(errs, fmt.Errorf("onError %q%s", c.OnError, suggestion(string(c.OnError), string(Closed), string(Open))))
	}
	return oneLine(errs)
}

func checkKey(key string) error {
	switch {
	case key == "", key == MessageKey, key == UniqueID:
		return nil
	case strings.HasPrefix(key, "$"):
		return fmt.Errorf("key %q%s", key, suggestion(key, MessageKey, UniqueID))
	}
	for field := range strings.SplitSeq(key, ".") {
		if field == "" || field != strings.TrimSpace(field) {
			return fmt.Errorf("key %q: it takes a field of the payload such as bill_id or bill.id, or %s, or %s", key, MessageKey, UniqueID)
		}
	}
	return nil
}

func suggestion(word string, among ...string) string {
	if n, ok := config.Nearest(word, among); ok {
		return fmt.Sprintf(" is unknown (did you mean %q?)", n)
	}
	return " is unknown; it takes " + strings.Join(among, " or ")
}

// resolve gives c its defaults for a listener and checks it against the
// listener's retries.
func (c Config) resolve(info sdk.ListenerInfo) (Config, error) {
	errs := []error{c.validate()}
	if info.Broadcast {
		errs = append(errs, errors.New("a broadcast listener cannot be idempotent: its group has one key for a message, and all but one member would skip it"))
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	if c.OnError == "" {
		c.OnError = Closed
	}
	if c.TTL == 0 {
		c.TTL = min(max(defaultTTL, info.RetryHorizon+info.RetryHorizon/10+time.Hour), maxTTL)
	}
	if c.TTL < info.RetryHorizon {
		errs = append(errs, fmt.Errorf("ttl %v is shorter than the retry horizon of the listener, %v: a retry could come after its done mark is forgotten; set a ttl of at least that, or fewer attempts", c.TTL, info.RetryHorizon))
	}
	if c.TTL < c.Lease {
		errs = append(errs, fmt.Errorf("ttl %v is shorter than the lease %v", c.TTL, c.Lease))
	}
	return c, oneLine(errs)
}

// oneLine is [errors.Join] with "; " in place of line ends, because fx shows the
// text behind a name.
func oneLine(errs []error) error {
	var texts []string
	for _, err := range errs {
		if err != nil {
			texts = append(texts, err.Error())
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}
