package limit

import (
	"path/filepath"
	"slices"
	"sync"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const ringSize = 128 << 20

// Pipeline is the least that an end-to-end path does: append to a mapped file
// whose pages were touched before, put the message where the consumer looks,
// wake it; it takes everything there is.
type Pipeline struct {
	deliver func(bodies [][]byte)
	body    []byte
	ended   chan struct{}

	logMu sync.Mutex
	log   *segment
	at    int

	mu      sync.Mutex
	arrived sync.Cond
	waiting [][]byte
	closed  bool
}

// NewPipeline is a [measure.Pipeline] in dir that reports to f.
func NewPipeline(dir string, f *measure.Flow) (*Pipeline, error) {
	return newPipeline(dir, func(bodies [][]byte) {
		for _, body := range bodies {
			f.Handled(body)
		}
		f.Settled(len(bodies))
	})
}

// newPipeline makes one whose consumer hands over all that there is.
func newPipeline(dir string, deliver func(bodies [][]byte)) (*Pipeline, error) {
	s, err := mapSegment(filepath.Join(dir, "log"), ringSize)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{deliver: deliver, body: measure.Body(), ended: make(chan struct{}), log: s}
	p.arrived.L = &p.mu
	go p.consume()
	return p, nil
}

// Publish appends one record and hands a copy of the body over.
func (p *Pipeline) Publish(_ int, stamp int64) error {
	body := slices.Clone(p.body)
	measure.PutStamp(body, stamp)
	p.store(body)
	return nil
}

// store appends one record and hands its body over.
func (p *Pipeline) store(body []byte) {
	p.logMu.Lock()
	if p.at+RecordSize > ringSize {
		p.at = 0
	}
	p.at += put(p.log.mem[p.at:], body)
	p.logMu.Unlock()
	p.mu.Lock()
	p.waiting = append(p.waiting, body)
	p.mu.Unlock()
	p.arrived.Signal()
}

func (p *Pipeline) consume() {
	defer close(p.ended)
	var taken [][]byte
	for {
		p.mu.Lock()
		for len(p.waiting) == 0 && !p.closed {
			p.arrived.Wait()
		}
		taken, p.waiting = p.waiting, taken[:0]
		p.mu.Unlock()
		if len(taken) == 0 {
			return
		}
		p.deliver(taken)
	}
}

// Close ends the consumer.
func (p *Pipeline) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.arrived.Signal()
	<-p.ended
	return p.log.close()
}
