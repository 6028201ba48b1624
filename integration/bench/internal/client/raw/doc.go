// Package raw is a client of the remoting protocol written by hand to cost next
// to nothing, so that what is measured is the server: a frame is built once and
// sent again with another number, many go out in one write, and of an answer
// only the code is read. Every answer is waited for and checked.
package raw

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// Request and answer codes of the protocol that are used here.
const (
	codePull        = 11
	codeCreateTopic = 17
	codeMaxOffset   = 30
	codeRoute       = 105
	codeSend        = 310

	codeSuccess  = 0
	codeNotFound = 19 // a pull found nothing
)

const (
	// firstNumber is the number of the first request. It and all that follow
	// in a run have ten digits, so that they can be overwritten in a frame.
	firstNumber = 1_000_000_000
	digits      = 10
	// connBuffer is the memory for answers: more than a pull of 32 brings.
	connBuffer = 128 << 10
	// longestAnswer refuses what is no answer of this protocol.
	longestAnswer = 16 << 20
	// patience is how long one answer may take.
	patience = 30 * time.Second
)

// field is one of a request header.
type field struct{ name, value string }

// request is a frame, with the place of its number.
type request struct {
	frame  []byte
	number int
}

// newRequest encodes a request. Names and values are plain text without quotes.
func newRequest(code int, fields []field, body []byte) request {
	header := fmt.Appendf(nil, `{"code":%d,"extFields":{`, code)
	for i, f := range fields {
		if i > 0 {
			header = append(header, ',')
		}
		header = fmt.Appendf(header, `"%s":"%s"`, f.name, f.value)
	}
	header = append(header, `},"flag":0,"language":"GO","opaque":`...)
	number := 8 + len(header)
	header = append(strconv.AppendInt(header, firstNumber, 10), `,"serializeTypeCurrentRPC":"JSON","version":435}`...)
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+len(body)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header)))
	return request{append(append(frame, header...), body...), number}
}

// setNumber overwrites the number in a frame that begins at frame[0].
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

// field reads a text field of the header.
func (a answer) field(name string) (string, bool) {
	_, rest, ok := bytes.Cut(a.header, []byte(`"`+name+`":"`))
	if !ok {
		return "", false
	}
	value, _, ok := bytes.Cut(rest, []byte{'"'})
	return string(value), ok
}

// parse reads an answer without its length.
func parse(content []byte) (answer, error) {
	if len(content) < 4 {
		return answer{}, fmt.Errorf("an answer has %d bytes", len(content))
	}
	head := binary.BigEndian.Uint32(content)
	size := int(head & 0xffffff)
	if size > len(content)-4 {
		return answer{}, fmt.Errorf("an answer of %d bytes has a header of %d", len(content), size)
	}
	a := answer{header: content[4 : 4+size], body: content[4+size:]}
	if head>>24 == 1 { // the binary form begins with the code
		if size < 2 {
			return a, errors.New("an answer has no code")
		}
		a.code = int(binary.BigEndian.Uint16(a.header))
		return a, nil
	}
	_, rest, ok := bytes.Cut(a.header, []byte(`"code":`))
	if !ok {
		return a, fmt.Errorf("an answer has no code: %.300s", a.header)
	}
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		a.code = a.code*10 + int(c-'0')
	}
	return a, nil
}

// conn is one connection; its answers are read in the order they come.
type conn struct {
	net.Conn
	buffer   []byte
	from, to int // what is buffered
}

func dial(addr string) (*conn, error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to server: %w", err)
	}
	return &conn{Conn: c, buffer: make([]byte, connBuffer)}, nil
}

// whole tells the size of the next answer with its length, and whether all of
// it is buffered.
func (c *conn) whole() (size int, ok bool) {
	if c.to-c.from < 4 {
		return 4, false
	}
	size = 4 + int(binary.BigEndian.Uint32(c.buffer[c.from:]))
	return size, c.to-c.from >= size
}

// next waits for an answer.
func (c *conn) next() (answer, error) {
	for {
		size, ok := c.whole()
		if ok {
			content := c.buffer[c.from+4 : c.from+size]
			c.from += size
			return parse(content)
		}
		if size > longestAnswer {
			return answer{}, fmt.Errorf("an answer of %d bytes", size)
		}
		if err := c.read(size); err != nil {
			return answer{}, err
		}
	}
}

// read reads more of an answer of that size.
func (c *conn) read(size int) error {
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	if c.from+size > len(c.buffer) {
		memory := c.buffer
		if size > len(memory) {
			memory = make([]byte, size+connBuffer)
		}
		c.to = copy(memory, c.buffer[c.from:c.to])
		c.buffer, c.from = memory, 0
	}
	n, err := c.Read(c.buffer[c.to:])
	c.to += n
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// call sends a request and waits for a success.
func (c *conn) call(r request) (answer, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{}, err
	}
	if _, err := c.Write(r.frame); err != nil {
		return answer{}, fmt.Errorf("send request: %w", err)
	}
	a, err := c.next()
	if err == nil && a.code != codeSuccess {
		err = a.refused()
	}
	return a, err
}

// once is a call on a connection of its own; the answer keeps its memory.
func once(addr string, r request) (answer, error) {
	c, err := dial(addr)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = c.Close() }()
	return c.call(r)
}
