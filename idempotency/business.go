package idempotency

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// business computes the business key of d. An error that is no outcome of its
// own becomes a dead letter: no retry gives a message a key.
func (c Config) business(d *sdk.Delivery) (string, error) {
	if c.KeyFunc != nil {
		key, err := c.KeyFunc(d)
		if err == nil && key == "" {
			err = listener.Reject(errors.New("idempotency: the key function returned an empty key"))
		}
		return key, err
	}
	var key string
	var err error
	switch {
	case c.Key == MessageKey, c.Key == "" && d.Key() != "":
		if key = d.Key(); key == "" {
			err = errors.New("the message has no key")
		}
	case c.Key == UniqueID, c.Key == "":
		if key = d.ID; key == "" {
			err = errors.New("the message has no unique id")
		}
	default:
		key, err = field(d.Body, c.Key)
	}
	if err != nil {
		return "", listener.Reject(fmt.Errorf("idempotency key of message %s: %w", d.ID, err))
	}
	return key, nil
}

// field reads a string or a number from a JSON object; dots lead into nested
// objects.
func field(body []byte, path string) (string, error) {
	raw := json.RawMessage(body)
	for name := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			return "", fmt.Errorf("the payload has no field %s: what should hold %q is no JSON object: %w", path, name, err)
		}
		var ok bool
		if raw, ok = object[name]; !ok {
			return "", fmt.Errorf("the payload has no field %s", path)
		}
	}
	switch c := raw[0]; {
	case c == '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return "", fmt.Errorf("field %s of the payload: %w", path, err)
		}
		if text == "" {
			return "", fmt.Errorf("field %s of the payload is empty", path)
		}
		return text, nil
	case c == '-', '0' <= c && c <= '9':
		return string(raw), nil
	default:
		return "", fmt.Errorf("field %s of the payload is neither a string nor a number", path)
	}
}
