package remoting_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting"
)

// Vectors 7.11 of the protocol.
func TestSign_Vectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		fields remoting.Fields
		body   string
		want   string
	}{
		{nil, "", "Ou1T58RIcyZWaTIwzkhJZWn/Zvs="},
		{remoting.Fields{{Name: "topic", Value: "TopicTest"}}, "", "GeeGoP9mRvDhoVp4PD5omX0prgE="},
		{remoting.Fields{{Name: "consumerGroup", Value: "CG"}, {Name: "topic", Value: "TopicTest"}, {Name: "SecurityToken", Value: "tok"}}, "body", "/o7jVDS/vcEBf2dORgGcYrY39+8="},
	} {
		c := remoting.Command{Version: remoting.Version, Fields: v.fields, Body: []byte(v.body)}
		c.Fields.Add(remoting.FieldSignature, "stale")
		remoting.SignCommand("rocketmq2", "12345678", &c)
		if got := c.Fields.Get(remoting.FieldSignature); got != v.want {
			t.Errorf("%+v: got %s, want %s", v.fields, got, v.want)
		}
		if !remoting.Verify("12345678", &c) || remoting.Verify("12345679", &c) {
			t.Errorf("%+v: it is not verified by its secret alone", v.fields)
		}
		c.Body = append(c.Body, 'x')
		if remoting.Verify("12345678", &c) {
			t.Errorf("%+v: another body was accepted", v.fields)
		}
	}
	if remoting.Verify("", &remoting.Command{}) {
		t.Error("a command without a signature was accepted")
	}
}

// Up to 4.9 servers leave one field out of what they verify.
func TestSign_UniqueKeyQuery(t *testing.T) {
	t.Parallel()
	c := remoting.Command{Version: 399, Fields: remoting.Fields{{Name: "topic", Value: "TopicTest"}, {Name: remoting.UniqueKeyQuery, Value: "true"}}}
	remoting.SignCommand("rocketmq2", "12345678", &c)
	if got := c.Fields.Get(remoting.FieldSignature); got != "GeeGoP9mRvDhoVp4PD5omX0prgE=" {
		t.Errorf("version 399: got %s", got)
	}
	if c.Version = 400; remoting.Verify("12345678", &c) {
		t.Error("version 400 signs the field")
	}
}

func TestSignSHA256_CoversEverything(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1700000000000)
	rapid.Check(t, func(t *rapid.T) {
		c := drawCommand(t)
		for _, name := range []string{remoting.FieldAccessKey, remoting.FieldSignature, remoting.FieldSignNonce, remoting.FieldSignTime} {
			c.Fields.Delete(name)
		}
		remoting.SignCommandSHA256("key", "secret", &c, now)
		if err := remoting.VerifySHA256("secret", &c, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		// The order on the wire does not count.
		turned := c
		turned.Fields = slices.Clone(c.Fields)
		slices.Reverse(turned.Fields)
		if unique(c.Fields) && remoting.VerifySHA256("secret", &turned, now) != nil {
			t.Fatal("another order of fields was refused")
		}
		i := rapid.IntRange(0, len(c.Fields)-1).Draw(t, "field")
		change := map[string]func(x *remoting.Command){
			"code":  func(x *remoting.Command) { x.Code++ },
			"value": func(x *remoting.Command) { x.Fields[i].Value += "0" },
			"name":  func(x *remoting.Command) { x.Fields[i].Name += "0" },
			"body":  func(x *remoting.Command) { x.Body = append(slices.Clone(x.Body), 0) },
			"added": func(x *remoting.Command) { x.Fields.Add("another"+x.Fields[i].Name, "") },
			"moved": func(x *remoting.Command) { // from a name into its value: the boundary counts
				f := &x.Fields[i]
				f.Name, f.Value = f.Name+"x", f.Value+"y"
			},
		}
		if unique(c.Fields) {
			for what, f := range change {
				x := c
				x.Fields = slices.Clone(c.Fields)
				if f(&x); !errors.Is(remoting.VerifySHA256("secret", &x, now), remoting.ErrSignature) {
					t.Fatalf("another %s was accepted", what)
				}
			}
		}
		if err := remoting.VerifySHA256("Secret", &c, now); !errors.Is(err, remoting.ErrSignature) {
			t.Fatalf("another secret: got %v", err)
		}
		for _, off := range []time.Duration{remoting.SignWindow + time.Millisecond, -remoting.SignWindow - time.Millisecond} {
			if err := remoting.VerifySHA256("secret", &c, now.Add(off)); !errors.Is(err, remoting.ErrSignTime) {
				t.Fatalf("off by %v: got %v", off, err)
			}
			if err := remoting.VerifySHA256("secret", &c, now.Add(off/2)); err != nil {
				t.Fatalf("off by %v: got %v", off/2, err)
			}
		}
	})
}

func unique(f remoting.Fields) bool {
	seen := map[string]bool{}
	for _, x := range f {
		if seen[x.Name] {
			return false
		}
		seen[x.Name] = true
	}
	return true
}

// Times that no clock shows are refused, without an overflow.
func TestVerifySHA256_WildTimes(t *testing.T) {
	t.Parallel()
	for _, ms := range []string{"9223372036854775807", "-9223372036854775808", "", "now"} {
		c := remoting.Command{Fields: remoting.Fields{{Name: remoting.FieldSignTime, Value: ms}, {Name: remoting.FieldSignNonce, Value: "n"}}}
		c.Fields.Set(remoting.FieldSignature, remoting.SignSHA256("secret", &c))
		if err := remoting.VerifySHA256("secret", &c, time.UnixMilli(1700000000000)); !errors.Is(err, remoting.ErrSignTime) {
			t.Errorf("%q: got %v", ms, err)
		}
	}
	c := remoting.Command{}
	if err := remoting.VerifySHA256("secret", &c, time.Now()); !errors.Is(err, remoting.ErrSignature) || remoting.SignedSHA256(&c) {
		t.Errorf("not signed: got %v", err)
	}
}
