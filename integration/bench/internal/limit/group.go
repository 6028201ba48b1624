package limit

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// Group is the plainest group commit: producers copy into an open batch; one
// goroutine takes the batch, writes it, syncs it and answers everybody in it.
type Group struct {
	body  []byte
	file  *os.File
	ended chan struct{}

	mu     sync.Mutex
	filled sync.Cond
	open   *batch
	closed bool
}

// batch is what one sync makes durable.
type batch struct {
	records []byte
	synced  chan struct{} // closed when err is set
	err     error
}

func newBatch(memory []byte) *batch {
	return &batch{records: memory[:0], synced: make(chan struct{})}
}

// NewGroup is a [measure.Publisher] in dir.
func NewGroup(dir string) (*Group, error) {
	f, err := writtenLog(dir)
	if err != nil {
		return nil, err
	}
	g := &Group{body: measure.Body(), file: f, ended: make(chan struct{}), open: newBatch(nil)}
	g.filled.L = &g.mu
	go g.sync()
	return g, nil
}

// Publish stores one record and waits until it is durable.
func (g *Group) Publish(int) (int, error) {
	g.mu.Lock()
	b := g.open
	at := len(b.records)
	if at+RecordSize > cap(b.records) {
		grown := make([]byte, at, 2*at+8*RecordSize)
		copy(grown, b.records)
		b.records = grown
	}
	b.records = b.records[:at+RecordSize]
	put(b.records[at:], g.body)
	g.mu.Unlock()
	if at == 0 {
		g.filled.Signal()
	}
	<-b.synced
	return 1, b.err
}

// sync is the goroutine that writes.
func (g *Group) sync() {
	defer close(g.ended)
	var spare []byte
	at := int64(0)
	for {
		g.mu.Lock()
		for len(g.open.records) == 0 && !g.closed {
			g.filled.Wait()
		}
		b := g.open
		g.open = newBatch(spare)
		g.mu.Unlock()
		if len(b.records) == 0 {
			return
		}
		if at+int64(len(b.records)) > logSize {
			at = 0
		}
		_, err := g.file.WriteAt(b.records, at)
		b.err = errors.Join(err, unix.Fdatasync(int(g.file.Fd())))
		at += int64(len(b.records))
		spare = b.records
		close(b.synced)
	}
}

// Close ends the goroutine; nobody may publish any more.
func (g *Group) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.filled.Signal()
	<-g.ended
	return g.file.Close()
}
