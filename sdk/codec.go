package sdk

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk/config"
)

// The content types of the built-in codecs.
const (
	ContentJSON   = "application/json"
	ContentBytes  = "application/octet-stream"
	ContentBinary = "application/x-binary"
)

// Codec turns payloads into bodies and back. It is used by many goroutines at
// once. Decode must not keep b.
type Codec interface {
	// ContentType is the media type that chooses the codec, in lower case and
	// without parameters.
	ContentType() string
	// Encode returns the body for v.
	Encode(v any) ([]byte, error)
	// Decode reads b into v, which is a non-nil pointer.
	Decode(b []byte, v any) error
}

// DecodeError says that a body could not be turned into a payload; a listener
// sends such a message to the dead letters at once.
type DecodeError struct {
	// ContentType of the message, as received.
	ContentType string
	// Type is the Go type that was asked for.
	Type string
	// Err is the cause.
	Err error
}

// Error returns "decode application/json into main.Bill: cause".
func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode %s into %s: %v", e.ContentType, e.Type, e.Err)
}

// Unwrap returns the cause.
func (e *DecodeError) Unwrap() error { return e.Err }

// ErrorType implements [ErrorTyper].
func (e *DecodeError) ErrorType() string { return "undecodable" }

// Codecs chooses a [Codec] by content type. It never changes and is safe for
// concurrent use.
type Codecs struct {
	byType map[string]Codec
}

// CodecParams are what [NewCodecs] takes from the graph.
type CodecParams struct {
	fx.In

	// Codecs added with [AsCodec].
	Codecs []Codec `group:"sluice.codecs"`
}

// NewCodecs joins the built-in codecs ([JSON], [Bytes], [Binary]) with further
// ones. A further codec replaces a built-in one of the same content type; two
// further ones with the same content type are refused.
func NewCodecs(p CodecParams) (*Codecs, error) {
	c := &Codecs{byType: map[string]Codec{}}
	var errs []error
	for _, x := range p.Codecs {
		name := x.ContentType()
		switch old, twice := c.byType[name]; {
		case name == "" || name != mediaType(name):
			errs = append(errs, fmt.Errorf("codec %T: content type %q must be a media type in lower case without parameters, such as %q", x, name, ContentJSON))
		case twice:
			errs = append(errs, fmt.Errorf("codecs %T and %T both serve the content type %s", old, x, name))
		default:
			c.byType[name] = x
		}
	}
	for _, x := range []Codec{JSON{}, Bytes{}, Binary{}} {
		if _, replaced := c.byType[x.ContentType()]; !replaced {
			c.byType[x.ContentType()] = x
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// ContentTypes lists the content types that are served, sorted.
func (c *Codecs) ContentTypes() []string { return slices.Sorted(maps.Keys(c.byType)) }

// Encode returns the body for v and its content type. A []byte is the body
// already, whatever the content type. An empty content type is
// application/octet-stream for []byte and application/json for the rest.
func (c *Codecs) Encode(v any, contentType string) (body []byte, resolved string, err error) {
	raw, isBytes := v.([]byte)
	if contentType == "" {
		contentType = ContentJSON
		if isBytes {
			contentType = ContentBytes
		}
	}
	if isBytes {
		return raw, contentType, nil
	}
	codec, err := c.find(contentType)
	if err == nil {
		body, err = codec.Encode(v)
	}
	if err != nil {
		return nil, contentType, fmt.Errorf("encode %T as %s: %w", v, contentType, err)
	}
	return body, contentType, nil
}

// Decode reads a body into v, a non-nil pointer. A *[]byte gets a copy of the
// body, whatever the content type. An empty content type is application/json.
// The error is a [*DecodeError].
func (c *Codecs) Decode(b []byte, contentType string, v any) error {
	if p, ok := v.(*[]byte); ok && p != nil {
		*p = slices.Clone(b)
		return nil
	}
	if contentType == "" {
		contentType = ContentJSON
	}
	codec, err := c.find(contentType)
	if err == nil {
		err = codec.Decode(b, v)
	}
	if err != nil {
		return &DecodeError{ContentType: contentType, Type: strings.TrimPrefix(fmt.Sprintf("%T", v), "*"), Err: err}
	}
	return nil
}

func (c *Codecs) find(contentType string) (Codec, error) {
	codec, ok := c.byType[mediaType(contentType)]
	if !ok {
		known := c.ContentTypes()
		hint := ""
		if n, near := config.Nearest(contentType, known); near {
			hint = fmt.Sprintf(" (did you mean %q?)", n)
		}
		return nil, fmt.Errorf("no codec for content type %q%s; there are %s; add one with sdk.AsCodec", contentType, hint, strings.Join(known, ", "))
	}
	return codec, nil
}

// mediaType drops parameters such as "; charset=utf-8".
func mediaType(contentType string) string {
	if t, _, err := mime.ParseMediaType(contentType); err == nil {
		return t
	}
	return contentType
}

// JSON is the codec of [ContentJSON], by encoding/json.
type JSON struct{}

// ContentType returns application/json.
func (JSON) ContentType() string { return ContentJSON }

// Encode marshals v.
func (JSON) Encode(v any) ([]byte, error) { return json.Marshal(v) }

// Decode unmarshals b; unknown fields are ignored.
func (JSON) Decode(b []byte, v any) error { return json.Unmarshal(b, v) }

// Bytes is the codec of [ContentBytes] for []byte and string.
type Bytes struct{}

// ContentType returns application/octet-stream.
func (Bytes) ContentType() string { return ContentBytes }

// Encode takes a []byte or a string.
func (Bytes) Encode(v any) ([]byte, error) {
	switch x := v.(type) {
	case []byte:
		return x, nil
	case string:
		return []byte(x), nil
	default:
		return nil, errors.New("only []byte and string are bodies by themselves")
	}
}

// Decode fills a *[]byte or a *string.
func (Bytes) Decode(b []byte, v any) error {
	switch x := v.(type) {
	case *[]byte:
		*x = slices.Clone(b)
	case *string:
		*x = string(b)
	default:
		return errors.New("only []byte and string are bodies by themselves")
	}
	return nil
}

// Binary is the codec of [ContentBinary] for types that encode themselves, by
// [encoding.BinaryMarshaler] and [encoding.BinaryUnmarshaler]. It is the way for
// generated code, such as that of Protocol Buffers, that should cost no
// dependency here: wrap the generated type, or add a [Codec] with its own
// content type by [AsCodec].
type Binary struct{}

// ContentType returns application/x-binary.
func (Binary) ContentType() string { return ContentBinary }

// Encode calls MarshalBinary.
func (Binary) Encode(v any) ([]byte, error) {
	m, ok := v.(encoding.BinaryMarshaler)
	if !ok {
		return nil, fmt.Errorf("%T has no MarshalBinary", v)
	}
	return m.MarshalBinary()
}

// Decode calls UnmarshalBinary.
func (Binary) Decode(b []byte, v any) error {
	u, ok := v.(encoding.BinaryUnmarshaler)
	if !ok {
		return fmt.Errorf("%T has no UnmarshalBinary", v)
	}
	return u.UnmarshalBinary(b)
}
