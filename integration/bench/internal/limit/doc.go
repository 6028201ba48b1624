// Package limit measures what the machine allows, with the least code that
// could do the work of a broker: records of a header, a checksum and a body,
// appended under one lock. Nothing of it survives a crash in a form that could
// be read again; that is why it is a limit and not a peer.
package limit

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	// header is about what a broker stores besides the body: lengths, times,
	// ids, properties.
	header = 96
	// RecordSize is the size of one record in bytes.
	RecordSize = header + measure.BodySize
	// stride is how many records a call appends where the clock would cost as
	// much as one; each record takes the lock by itself.
	stride = 64
)

// castagnoli is the polynomial of the checksums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// put writes one record to dst.
func put(dst, body []byte) int {
	n := header + len(body)
	binary.LittleEndian.PutUint32(dst, uint32(n))
	copy(dst[header:n], body)
	binary.LittleEndian.PutUint32(dst[4:], crc32.Checksum(dst[8:n], castagnoli))
	return n
}
