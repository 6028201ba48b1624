package history

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Value identifies one message of a run.
type Value struct {
	// Process is the sender; it holds no white space.
	Process string
	// Counter grows by one with every message of the process.
	Counter int
}

// String returns "process/counter".
func (v Value) String() string { return v.Process + "/" + strconv.Itoa(v.Counter) }

// Body encodes v as a message body of at least size bytes: a readable line with
// a checksum, then padding that depends on v, which the checksum covers.
func Body(v Value, size int) []byte {
	pad := size - 40 - len(v.Process)
	padding := make([]byte, max(0, pad))
	seed := crc32.ChecksumIEEE([]byte(v.String()))
	for i := range padding {
		seed = seed*1664525 + 1013904223
		padding[i] = byte(seed >> 24)
	}
	sum := checksum(v, padding)
	return append(fmt.Appendf(nil, "%s %d %08x\n", v.Process, v.Counter, sum), padding...)
}

// Parse decodes a body made by [Body]; it fails if the body was damaged.
func Parse(body []byte) (Value, error) {
	line, padding, ok := bytes.Cut(body, []byte("\n"))
	fields := bytes.Fields(line)
	if !ok || len(fields) != 3 {
		return Value{}, fmt.Errorf("body %.40q holds no value; it starts with \"process counter checksum\\n\"", body)
	}
	counter, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return Value{}, fmt.Errorf("body %.40q: counter: %w", body, err)
	}
	v := Value{Process: string(fields[0]), Counter: counter}
	if want := fmt.Sprintf("%08x", checksum(v, padding)); want != string(fields[2]) {
		return v, fmt.Errorf("body of %v is damaged: checksum %s, want %s", v, fields[2], want)
	}
	return v, nil
}

func checksum(v Value, padding []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte(v.String())), crc32.IEEETable, padding)
}
