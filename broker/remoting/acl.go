package remoting

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Fields of signed commands.
const (
	// FieldAccessKey names who signs.
	FieldAccessKey = "AccessKey"
	// FieldSignature holds the signature; it is the one field that is not signed.
	FieldSignature = "Signature"
	// FieldSecurityToken may accompany temporary keys.
	FieldSecurityToken = "SecurityToken"
	// FieldSignTime holds the time of our own scheme, in milliseconds.
	FieldSignTime = "SignTime"
	// FieldSignNonce holds a text that no other command of that key and time has.
	FieldSignNonce = "SignNonce"
)

// SignWindow is how far the clocks of the two ends may be apart. A server that
// remembers nonces for twice as long accepts no command again.
const SignWindow = 5 * time.Minute

// Errors of verification.
var (
	// ErrSignature: the signature is not that of the command.
	ErrSignature = errors.New("signature does not match")
	// ErrSignTime: the command was signed too long ago or in the future.
	ErrSignTime = errors.New("signature is outside its time")
)

// Sign answers the signature of c as Apache's clients make it: HMAC-SHA1 over
// the values of the fields in the order of their names, and the body. Neither
// the code nor the names are covered, and a recorded command can be sent again:
// it is for compatibility. [UniqueKeyQuery] is left out for versions up to 399,
// as Apache's servers do.
func Sign(secret string, c *Command) string {
	h := hmac.New(sha1.New, []byte(secret))
	for _, f := range signed(c) {
		if f.Name != UniqueKeyQuery || c.Version > 399 {
			h.Write([]byte(f.Value))
		}
	}
	h.Write(c.Body)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// SignCommand gives c the fields of the key and its [Sign]. It must come last:
// every other field is signed.
func SignCommand(accessKey, secret string, c *Command) {
	c.Fields.Set(FieldAccessKey, accessKey)
	c.Fields.Set(FieldSignature, Sign(secret, c))
}

// Verify reports whether the signature in c is [Sign], in a time that does not
// depend on where it is not.
func Verify(secret string, c *Command) bool {
	return hmac.Equal([]byte(c.Fields.Get(FieldSignature)), []byte(Sign(secret, c)))
}

// SignSHA256 answers the signature of c in our own scheme: HMAC-SHA256 over
// the code, the names and values of the fields with their lengths, and the body.
// The fields include a time and a nonce; see [SignCommandSHA256].
func SignSHA256(secret string, c *Command) string {
	h := hmac.New(sha256.New, []byte(secret))
	var size [8]byte
	number := func(n int) {
		binary.BigEndian.PutUint64(size[:], uint64(n))
		h.Write(size[:])
	}
	text := func(s string) {
		number(len(s))
		h.Write([]byte(s))
	}
	text("sluice sign 1")
	number(c.Code)
	fields := signed(c)
	number(len(fields))
	for _, f := range fields {
		text(f.Name)
		text(f.Value)
	}
	number(len(c.Body))
	h.Write(c.Body)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// SignCommandSHA256 gives c the fields of the key, the time, a nonce and its
// [SignSHA256]. It must come last: every other field is signed.
func SignCommandSHA256(accessKey, secret string, c *Command, now time.Time) {
	c.Fields.Set(FieldAccessKey, accessKey)
	c.Fields.Set(FieldSignTime, strconv.FormatInt(now.UnixMilli(), 10))
	c.Fields.Set(FieldSignNonce, rand.Text())
	c.Fields.Set(FieldSignature, SignSHA256(secret, c))
}

// SignedSHA256 reports whether c claims to be signed in our own scheme.
func SignedSHA256(c *Command) bool {
	_, timed := c.Fields.Lookup(FieldSignTime)
	return timed && c.Fields.Get(FieldSignNonce) != ""
}

// VerifySHA256 checks the signature in c and its time against now, give or
// take [SignWindow]. The error wraps [ErrSignature] or [ErrSignTime]. That the
// nonce is new is for the caller to know.
func VerifySHA256(secret string, c *Command, now time.Time) error {
	if !SignedSHA256(c) || !hmac.Equal([]byte(c.Fields.Get(FieldSignature)), []byte(SignSHA256(secret, c))) {
		return fmt.Errorf("verify command %d: %w", c.Code, ErrSignature)
	}
	ms, ok := parseInt(c.Fields.Get(FieldSignTime))
	if !ok {
		return fmt.Errorf("verify command %d: %w: no time", c.Code, ErrSignTime)
	}
	// Bounds of both sides in milliseconds: a duration would overflow.
	if at, window := now.UnixMilli(), SignWindow.Milliseconds(); ms < at-window || ms > at+window {
		return fmt.Errorf("verify command %d: %w: it is off by more than %v", c.Code, ErrSignTime, SignWindow)
	}
	return nil
}

// signed are the fields of c that a signature covers, in the order of their
// names, each name once.
func signed(c *Command) Fields {
	fields := slices.Clone(c.Fields)
	fields.Delete(FieldSignature)
	slices.SortStableFunc(fields, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
	out := fields[:0]
	for i, f := range fields {
		if i+1 == len(fields) || fields[i+1].Name != f.Name {
			out = append(out, f)
		}
	}
	return out
}
