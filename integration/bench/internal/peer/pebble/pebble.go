// Package pebble drives the key-value store pebble as a log.
package pebble

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// memTable is larger than pebble's default of 4 MiB, as it advises for loads
// of writes.
const memTable = 64 << 20

// Store stores each message under an ascending key.
type Store struct {
	db    *engine.DB
	write *engine.WriteOptions
	body  []byte
	next  atomic.Uint64
}

// Open is a [measure.Publisher] in dir. With sync a write is durable when
// it returns; without, it may still lie in the memory of the process, which is
// weaker than what the broker promises.
func Open(dir string, sync bool) (*Store, error) {
	db, err := engine.Open(dir, &engine.Options{Logger: silence{}, MemTableSize: memTable})
	if err != nil {
		return nil, fmt.Errorf("open pebble: %w", err)
	}
	p := &Store{db: db, write: engine.NoSync, body: measure.Body()}
	if sync {
		p.write = engine.Sync
	}
	return p, nil
}

// Publish sets one key.
func (p *Store) Publish(int) (int, error) {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], p.next.Add(1))
	return 1, p.db.Set(key[:], p.body, p.write)
}

// Close closes the database.
func (p *Store) Close() error { return p.db.Close() }

// silence is pebble's logger.
type silence struct{}

func (silence) Infof(string, ...any)  {}
func (silence) Errorf(string, ...any) {}
func (silence) Fatalf(format string, args ...any) {
	panic("pebble: " + fmt.Sprintf(format, args...)) // it must not return
}
