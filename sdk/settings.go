package sdk

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/sdk/config"
)

// The words of sluice.async.full.
const (
	FullBlock = "block"
	FullFail  = "fail"
	FullDrop  = "drop"
)

// Settings are the keys of the section sluice that the client reads.
//
//	key                     default       meaning
//	sluice.broker           -             scheme://address; needed when the app holds several drivers
//	sluice.client-id        host@pid@rnd  identity among the members of a group
//	sluice.connect.timeout  10s           bounds opening the connection, tries included
//	sluice.send.timeout     3s            bounds one send, all tries and waits included
//	sluice.send.attempts    3             tries of one send; 0 is as many as fit the timeout
//	sluice.send.backoff     50ms..1s      first and longest wait between tries
//	sluice.send.maybe-done  retry         retry | fail: repeat when the broker may have stored it already
//	sluice.async.buffer     1024          messages that SendAsync holds
//	sluice.async.batch      32            messages of one asynchronous send
//	sluice.async.full       block         block | fail | drop: what SendAsync does when the buffer is full
//	sluice.delay            strict        strict | emulate: refuse a delay that the broker lacks, or round it up to a level
//	sluice.stop-budget      0s            bounds the orderly stop; 0 takes what fx gives, less 500ms
//	sluice.tracing.process  parent        parent | link: how the span of a handler refers to the span of the sender
//	sluice.tracing.create   true          a span of its own for each message of a batch
type Settings struct {
	// Broker is the address, whose scheme chooses the driver. It may hold a
	// password. Defaults to none, which is enough with a single driver.
	Broker config.Secret
	// ClientID identifies this client. Defaults to host@pid@random.
	ClientID string
	// ConnectTimeout bounds opening the connection. Defaults to 10s.
	ConnectTimeout time.Duration
	// SendTimeout bounds one send with all its tries. Defaults to 3s.
	SendTimeout time.Duration
	// SendAttempts is the number of tries; 0 is as many as fit the timeout.
	// Defaults to 3.
	SendAttempts int
	// SendBackoff is the first and the longest wait between tries. Defaults to
	// 50ms..1s.
	SendBackoff config.Range
	// SendFailMaybeDone gives up instead of trying again when the broker may
	// have stored the message: at most once. Defaults to false, at least once.
	SendFailMaybeDone bool
	// AsyncBuffer is how many messages SendAsync holds. Defaults to 1024.
	AsyncBuffer int
	// AsyncBatch is how many of them go in one request. Defaults to 32.
	AsyncBatch int
	// AsyncFull is what SendAsync does when the buffer is full. Defaults to
	// [FullBlock].
	AsyncFull string
	// EmulateDelay rounds a delay up to the next level of a broker that has
	// only levels. Defaults to false: such a message is refused.
	EmulateDelay bool
	// StopBudget bounds the orderly stop. Defaults to what fx gives.
	StopBudget time.Duration
	// TracingLink makes the span of a handler the root of a trace that links to
	// the sender. Defaults to false: child of the sender's span, and a link.
	TracingLink bool
	// TracingNoCreate leaves out the span per message of a batch. Defaults to
	// false.
	TracingNoCreate bool
}

func settingKeys() []string {
	return []string{
		"sluice.broker", "sluice.client-id", "sluice.connect.timeout",
		"sluice.send.timeout", "sluice.send.attempts", "sluice.send.backoff", "sluice.send.maybe-done",
		"sluice.async.buffer", "sluice.async.batch", "sluice.async.full",
		"sluice.delay", "sluice.stop-budget", "sluice.tracing.process", "sluice.tracing.create",
	}
}

// LoadSettings reads the section sluice, fills in the defaults and reports all
// problems together, unknown keys included; known are the keys that other
// modules declared. A nil c gives the defaults.
func LoadSettings(c *config.Config, known ...config.Known) (Settings, error) {
	var s Settings
	if c == nil {
		var err error
		if c, err = config.New(); err != nil {
			return s, err
		}
	}
	r := settingReader{c: c}
	s.Broker = config.Secret(r.text("sluice.broker"))
	s.ClientID = r.text("sluice.client-id")
	s.ConnectTimeout = r.duration("sluice.connect.timeout", 10*time.Second)
	s.SendTimeout = r.duration("sluice.send.timeout", 3*time.Second)
	s.SendAttempts = r.number("sluice.send.attempts", 3)
	s.SendBackoff = r.span("sluice.send.backoff", config.Range{From: 50 * time.Millisecond, To: time.Second})
	s.SendFailMaybeDone = r.word("sluice.send.maybe-done", "retry", "fail") == "fail"
	s.AsyncBuffer = r.number("sluice.async.buffer", 1024)
	s.AsyncBatch = r.number("sluice.async.batch", 32)
	s.AsyncFull = r.word("sluice.async.full", FullBlock, FullFail, FullDrop)
	s.EmulateDelay = r.word("sluice.delay", "strict", "emulate") == "emulate"
	s.StopBudget = r.duration("sluice.stop-budget", 0)
	s.TracingLink = r.word("sluice.tracing.process", "parent", "link") == "link"
	s.TracingNoCreate = !r.yes("sluice.tracing.create", true)
	if len(r.errs) == 0 {
		r.errs = append(r.errs, s.validate())
	}
	all := config.Known{Keys: settingKeys()}
	for _, k := range known {
		all.Keys = append(all.Keys, k.Keys...)
	}
	r.errs = append(r.errs, c.CheckKnown("sluice", all.Match, all.Keys))
	return s, errors.Join(r.errs...)
}

// validate reports all values that cannot work.
func (s Settings) validate() error {
	var errs []error
	positive := func(key string, d time.Duration) {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("%s is %v; it must be longer than 0", key, d))
		}
	}
	positive("sluice.connect.timeout", s.ConnectTimeout)
	positive("sluice.send.timeout", s.SendTimeout)
	positive("sluice.send.backoff", s.SendBackoff.From)
	if s.SendBackoff.To < s.SendBackoff.From {
		errs = append(errs, fmt.Errorf("sluice.send.backoff is %v; the shorter wait comes first", s.SendBackoff))
	}
	if s.SendAttempts < 0 {
		errs = append(errs, fmt.Errorf("sluice.send.attempts is %d; it takes 1 or more, or 0 for as many as fit the timeout", s.SendAttempts))
	}
	if s.AsyncBuffer < 1 {
		errs = append(errs, fmt.Errorf("sluice.async.buffer is %d; it takes 1 or more messages", s.AsyncBuffer))
	}
	if s.AsyncBatch < 1 {
		errs = append(errs, fmt.Errorf("sluice.async.batch is %d; it takes 1 or more messages", s.AsyncBatch))
	}
	if s.StopBudget < 0 {
		errs = append(errs, fmt.Errorf("sluice.stop-budget is %v; it takes 0 for all that fx gives, or more", s.StopBudget))
	}
	return errors.Join(errs...)
}

// settingReader collects the problems of all keys.
type settingReader struct {
	c    *config.Config
	errs []error
}

func gather[T any](r *settingReader, v T, err error) T {
	if err != nil {
		r.errs = append(r.errs, err)
	}
	return v
}

func (r *settingReader) text(key string) string {
	v, err := r.c.Text(key, "")
	return gather(r, v, err)
}

func (r *settingReader) duration(key string, def time.Duration) time.Duration {
	v, err := r.c.Duration(key, def)
	return gather(r, v, err)
}

func (r *settingReader) number(key string, def int) int {
	v, err := r.c.Int(key, def)
	return gather(r, v, err)
}

func (r *settingReader) span(key string, def config.Range) config.Range {
	v, err := r.c.Range(key, def)
	return gather(r, v, err)
}

func (r *settingReader) yes(key string, def bool) bool {
	v, err := r.c.Bool(key, def)
	return gather(r, v, err)
}

// word takes the default first.
func (r *settingReader) word(key string, words ...string) string {
	v, err := r.c.OneOf(key, words[0], words...)
	return gather(r, v, err)
}
