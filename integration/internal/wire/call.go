package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"time"
)

// Request is what is asked; Fields are the ext fields.
type Request struct {
	Code   int
	Fields map[string]string
	Body   []byte
}

// Answer is what came back.
type Answer struct {
	Code   int
	Remark string
	Fields map[string]string
	Body   []byte
}

// header has the members of a JSON header in both directions.
type header struct {
	Code      int               `json:"code"`
	Language  any               `json:"language"`
	Version   int               `json:"version"`
	Opaque    int               `json:"opaque"`
	Flag      int               `json:"flag"`
	Remark    string            `json:"remark,omitempty"`
	ExtFields map[string]string `json:"extFields,omitempty"`
}

// version is that of RocketMQ 5.3.3: the newest form of every answer is wanted.
const version = 479

// Call sends one request over a connection of its own and waits for the answer,
// patience at the most.
func Call(addr string, r Request, patience time.Duration) (Answer, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return Answer{}, fmt.Errorf("connect for request %d: %w", r.Code, err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return Answer{}, fmt.Errorf("prepare request %d: %w", r.Code, err)
	}
	frame, err := encode(r)
	if err != nil {
		return Answer{}, err
	}
	if _, err := c.Write(frame); err != nil {
		return Answer{}, fmt.Errorf("send request %d: %w", r.Code, err)
	}
	return read(c, r.Code)
}

func encode(r Request) ([]byte, error) {
	h, err := json.Marshal(header{Code: r.Code, Language: "JAVA", Version: version, Opaque: 1, ExtFields: maps.Clone(r.Fields)})
	if err != nil {
		return nil, fmt.Errorf("encode request %d: %w", r.Code, err)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(h)+len(r.Body)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(h)))
	return append(append(frame, h...), r.Body...), nil
}

func read(c io.Reader, code int) (Answer, error) {
	var size [8]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return Answer{}, fmt.Errorf("read the answer to request %d: %w", code, err)
	}
	total, head := binary.BigEndian.Uint32(size[:]), binary.BigEndian.Uint32(size[4:])&0xffffff
	if total > 64<<20 || head+4 > total {
		return Answer{}, fmt.Errorf("read the answer to request %d: lengths %d and %d make no sense", code, total, head)
	}
	content := make([]byte, total-4)
	if _, err := io.ReadFull(c, content); err != nil {
		return Answer{}, fmt.Errorf("read the answer to request %d: %w", code, err)
	}
	var h header
	if err := json.Unmarshal(content[:head], &h); err != nil {
		return Answer{}, fmt.Errorf("read the header of the answer to request %d: %w: %s", code, err, content[:head])
	}
	return Answer{Code: h.Code, Remark: h.Remark, Fields: h.ExtFields, Body: content[head:]}, nil
}
