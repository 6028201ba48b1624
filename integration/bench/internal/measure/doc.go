// Package measure is what every case of the benchmark shares: a closed loop of
// workers, an end-to-end flow, a histogram of latencies, and the accounts of
// processor, memory and allocations. It runs on Linux and reads /proc.
package measure

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"time"
)

// BodySize is the size of every body in bytes.
const BodySize = 1 << 10

// Figures are what a case measured, by name: rates a second, times in the unit
// that the name ends with.
type Figures map[string]float64

// Join adds the figures of others, each name behind prefix, and returns f.
func (f Figures) Join(prefix string, others Figures) Figures {
	for name, v := range others {
		f[prefix+name] = v
	}
	return f
}

// Clone returns a copy.
func (f Figures) Clone() Figures { return maps.Clone(f) }

// Body returns a body that does not compress; the same one every time.
func Body() []byte {
	body := make([]byte, BodySize)
	source := rand.NewPCG(1, BodySize)
	for i := 0; i < len(body); i += 8 {
		binary.LittleEndian.PutUint64(body[i:], source.Uint64())
	}
	return body
}

// Micros is d in microseconds.
func Micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
