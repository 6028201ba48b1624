package sdk_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/sdk"
)

type shout struct{ kind string }

func (s shout) ContentType() string { return s.kind }

func (shout) Encode(v any) ([]byte, error) { return []byte(strings.ToUpper(v.(string))), nil }

func (shout) Decode(b []byte, v any) error { *v.(*string) = strings.ToLower(string(b)); return nil }

func codecs(t testing.TB, extra ...sdk.Codec) *sdk.Codecs {
	t.Helper()
	c, err := sdk.NewCodecs(sdk.CodecParams{Codecs: extra})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCodecsRoundTrip(t *testing.T) {
	t.Parallel()
	c := codecs(t, shout{"text/shout"})
	check := func(t *testing.T, contentType, body string, in any, out any, same func() bool) {
		t.Helper()
		b, kind, err := c.Encode(in, contentType)
		if err != nil || string(b) != body {
			t.Fatalf("Encode = %q as %q, %v; want %q", b, kind, err, body)
		}
		if err := c.Decode(b, kind, out); err != nil || !same() {
			t.Errorf("Decode: %v, %v", out, err)
		}
	}
	var bl bill
	check(t, "", `{"bill_id":"7"}`, bill{"7"}, &bl, func() bool { return bl.ID == "7" })
	var s string
	check(t, "text/shout", "HEY", "hey", &s, func() bool { return s == "hey" })
	check(t, sdk.ContentBytes, "raw", "raw", &s, func() bool { return s == "raw" })
	var b []byte
	check(t, "", "raw", []byte("raw"), &b, func() bool { return string(b) == "raw" })
	var a netip.Addr
	check(t, sdk.ContentBinary, "\x0a\x00\x00\x01", netip.MustParseAddr("10.0.0.1"), &a, func() bool { return a.String() == "10.0.0.1" })
	check(t, "Application/JSON; charset=utf-8", `"x"`, "x", &s, func() bool { return s == "x" })
	if want := []string{sdk.ContentJSON, sdk.ContentBytes, sdk.ContentBinary, "text/shout"}; !slices.Equal(c.ContentTypes(), want) {
		t.Errorf("content types %q, want %q", c.ContentTypes(), want)
	}
	body := []byte("mine")
	if err := c.Decode(body, "", &b); err != nil || &b[0] == &body[0] {
		t.Error("a decoded []byte is shared with the body")
	}
	if err := (sdk.Bytes{}).Decode(body, &b); err != nil || &b[0] == &body[0] {
		t.Error("the codec shares the body")
	}
	if x, err := (sdk.Bytes{}).Encode(body); err != nil || string(x) != "mine" {
		t.Errorf("%q, %v", x, err)
	}
	replaced := codecs(t, shout{sdk.ContentJSON})
	if x, _, _ := replaced.Encode("hey", ""); string(x) != "HEY" {
		t.Errorf("a built-in codec was not replaced: %q", x)
	}
}

func TestCodecErrors(t *testing.T) {
	t.Parallel()
	c := codecs(t)
	for contentType, want := range map[string]string{
		sdk.ContentBytes:  "encode sdk_test.bill as application/octet-stream: only []byte and string are bodies by themselves",
		sdk.ContentBinary: "encode sdk_test.bill as application/x-binary: sdk_test.bill has no MarshalBinary",
	} {
		_, _, err := c.Encode(bill{}, contentType)
		wantError(t, err, want)
	}
	for contentType, want := range map[string]string{
		"":                "decode application/json into sdk_test.bill: invalid character 'x' looking for beginning of value",
		sdk.ContentBytes:  "decode application/octet-stream into sdk_test.bill: only []byte and string are bodies by themselves",
		sdk.ContentBinary: "decode application/x-binary into sdk_test.bill: *sdk_test.bill has no UnmarshalBinary",
		"text/csv":        `decode text/csv into sdk_test.bill: no codec for content type "text/csv"; there are`,
	} {
		err := c.Decode([]byte("x"), contentType, &bill{})
		wantError(t, err, want)
		if e, ok := errors.AsType[*sdk.DecodeError](err); !ok || e.ErrorType() != "undecodable" || e.Unwrap() == nil {
			t.Errorf("%v is no DecodeError", err)
		}
	}
	_, err := sdk.NewCodecs(sdk.CodecParams{Codecs: []sdk.Codec{shout{"a/b"}, shout{"a/b"}, shout{"A/C"}, shout{""}}})
	wantError(t, err, "codecs sdk_test.shout and sdk_test.shout both serve the content type a/b",
		`codec sdk_test.shout: content type "A/C" must be a media type in lower case without parameters, such as "application/json"`,
		`content type "" must be`)
}

func TestJSONRoundTripProperty(t *testing.T) {
	t.Parallel()
	c := codecs(t)
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.MapOf(rapid.StringMatching(`[a-z]{1,5}`), rapid.Int()).Draw(t, "payload")
		b, kind, err := c.Encode(in, "")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]int{}
		if err := c.Decode(b, kind, &out); err != nil || len(in) != len(out) {
			t.Fatalf("%v, %v", out, err)
		}
		for k, v := range in {
			if out[k] != v {
				t.Fatalf("%s = %d, want %d", k, out[k], v)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"bill_id":"1"}`), "application/json")
	f.Add([]byte("\xff"), "text/plain; =")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		var b bill
		err := codecs(t).Decode(body, contentType, &b)
		if _, ok := errors.AsType[*sdk.DecodeError](err); err != nil && !ok {
			t.Errorf("error %T", err)
		}
	})
}
