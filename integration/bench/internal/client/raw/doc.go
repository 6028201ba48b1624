// Package raw is a client of the remoting protocol written to cost next to
// nothing, so that what is measured is the server: a frame is built once and
// sent again with another number, many go out in one write, and of an answer
// only the code is looked for. Every answer is waited for and checked.
package raw

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

const (
	// firstNumber is the number of the first request. It and all that follow
	// in a run have ten digits, so that they can be overwritten in a frame.
	firstNumber = 1_000_000_000
	digits      = 10
	// patience is how long one answer may take.
	patience = 30 * time.Second
)

// request is a frame, with the place of its number.
type request struct {
	frame  []byte
	number int
}

// newRequest encodes a request.
func newRequest(code int, fields remoting.Fields, body []byte) (request, error) {
	frame, err := remoting.AppendFrame(nil, &remoting.Command{
		Code: code, Language: remoting.LanguageGo, Version: remoting.Version, Opaque: firstNumber, Fields: fields, Body: body,
	})
	if err != nil {
		return request{}, fmt.Errorf("encode request: %w", err)
	}
	const name = `"opaque":` // the fields before it have no quotes in their values
	return request{frame, bytes.Index(frame, []byte(name)) + len(name)}, nil
}

// setNumber overwrites ten digits of a frame.
func setNumber(frame []byte, at, n int) {
	for i := at + digits - 1; i >= at; i-- {
		frame[i] = byte('0' + n%10)
		n /= 10
	}
}

// answer is what a server said; it is valid until the next one is read.
type answer struct {
	code         int
	header, body []byte
}

// refused is the error of an answer that is no success.
func (a answer) refused() error { return fmt.Errorf("refused with code %d: %.300s", a.code, a.header) }

// parse looks for the code in the content of a frame. Decoding the rest of the
// header, which nobody asks for, would cost more than everything else here.
func parse(content []byte) (answer, error) {
	head := binary.BigEndian.Uint32(content)
	size := int(head & 0xffffff)
	a := answer{header: content[4 : 4+size], body: content[4+size:]}
	if head>>24 == 1 { // the binary form begins with the code
		if size < 2 {
			return a, errors.New("an answer has no code")
		}
		a.code = int(binary.BigEndian.Uint16(a.header))
		return a, nil
	}
	var err error
	a.code, err = a.field(`"code":`)
	return a, err
}

// field is a number of a header in JSON, of which it wants the name with quotes
// and colon.
func (a answer) field(name string) (n int, err error) {
	_, rest, ok := bytes.Cut(a.header, []byte(name))
	if !ok {
		return 0, fmt.Errorf("an answer has no %s %.300s", name, a.header)
	}
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n, nil
}

// opaque is the number of the request that is answered.
func (a answer) opaque() (int, error) {
	const at, size = 5, 4 // of the binary form: behind code, language and version
	if a.header[0] == '{' {
		return a.field(`"opaque":`)
	}
	if len(a.header) < at+size {
		return 0, errors.New("an answer has no number")
	}
	return int(int32(binary.BigEndian.Uint32(a.header[at:]))), nil
}

// conn is one connection; its answers are read in the order they come.
type conn struct {
	net.Conn
	frames *remoting.Reader
}

func dial(addr string) (*conn, error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to server: %w", err)
	}
	return &conn{c, remoting.NewReader(c, remoting.Limits{})}, nil
}

// next waits for an answer.
func (c *conn) next() (answer, error) {
	content, err := c.frames.Next()
	if err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	return parse(content)
}

// call sends a request and waits for a success.
func (c *conn) call(r request) (*remoting.Command, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.Write(r.frame); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	content, err := c.frames.Next()
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	var a remoting.Command
	if err := remoting.Decode(content, &a, remoting.Limits{}); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if a.Code != remoting.ResSuccess {
		return nil, fmt.Errorf("refused with code %d: %s", a.Code, a.Remark)
	}
	return &a, c.SetDeadline(time.Time{})
}

// once is a call on a connection of its own; the answer keeps its memory.
func once(addr string, code int, fields remoting.Fields, body []byte) (*remoting.Command, error) {
	r, err := newRequest(code, fields, body)
	if err != nil {
		return nil, err
	}
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return c.call(r)
}
