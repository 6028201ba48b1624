package offline_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// step does one thing that applications do.
func (k *kit) step(rnd *rand.Rand) {
	k.Helper()
	topic := fmt.Sprint("topic", rnd.IntN(3))
	ext := k.conn.Extensions()
	switch rnd.IntN(8) {
	case 0, 1, 2:
		k.send(topic, 1+rnd.IntN(60))
	case 3:
		m := k.message(topic)
		m.DeliverAt = time.Now().Add(time.Duration(rnd.IntN(100)) * time.Second)
		for _, r := range k.conn.Send(k.Context(), driver.SendRequest{Messages: []*driver.Message{m}}) {
			k.must(r.Err)
		}
	case 4:
		h, err := ext.Tx.Prepare(k.Context(), "senders", k.message(topic))
		k.must(err)
		if d := rnd.IntN(3); d > 0 {
			k.must(ext.Tx.Resolve(k.Context(), h, []driver.Decision{driver.Commit, driver.Rollback}[d-1]))
		}
	case 5:
		k.consume(rnd, fmt.Sprint("group", rnd.IntN(2)), topic)
	case 6:
		if rnd.IntN(4) == 0 {
			_ = ext.Topics.DeleteTopic(k.Context(), topic) // it may not exist
		}
	default:
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Second)
	}
}

// Whatever a store has gone through, nothing is called damage that is none.
func TestVerify_Life(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				k := newKit(t)
				for turn := range 8 {
					for range rnd.IntN(30) {
						k.step(rnd)
					}
					k.fine("while it is open")
					if rnd.IntN(2) == 0 {
						k.close()
						r := k.fine("closed")
						if !r.Clean || r.TornBytes > 0 || len(r.Notes) > 0 {
							t.Errorf("turn %d: after a close: clean %v, torn %d, notes %+v", turn, r.Clean, r.TornBytes, r.Notes)
						}
					} else {
						k.crash(rnd)
						k.fine("after a crash")
					}
					k.cfg.Retention.Bytes = 0
					if rnd.IntN(3) == 0 {
						k.cfg.Retention.Bytes = 200 << 10
					}
					k.cfg.Sync = []embedded.Sync{embedded.SyncAlways, embedded.SyncEvery(time.Second), embedded.SyncNever}[rnd.IntN(3)]
					k.open()
				}
				k.close()
				k.fine("at the end")
			})
		})
	}
}

// What the store has put out of use is no new damage, and nor is what follows
// from that it is missing.
func TestVerify_LifeAfterDamage(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 2))
				k := newKit(t)
				k.cfg.OnCorruption = embedded.Quarantine
				holes := 0
				for turn := range 4 {
					for range 10 + rnd.IntN(20) {
						k.step(rnd)
					}
					k.close()
					r := k.verify()
					if len(r.Damage) > 0 || len(r.Quarantined) < holes {
						t.Fatalf("turn %d: %d quarantined, damage %+v", turn, len(r.Quarantined), r.Damage)
					}
					holes = len(r.Quarantined)
					for _, name := range append(k.names(".idx"), k.names("STATE-")...) {
						k.must(k.disk.Remove(name))
					}
					logs := k.names(".log")
					name := logs[rnd.IntN(len(logs))]
					used := len(bytes.TrimRight(k.bytes(name), "\x00"))
					if used == 0 {
						k.open()
						continue
					}
					off := rnd.IntN(used)
					k.put(name, int64(off), k.bytes(name)[off]^0x55)
					k.open()
				}
				k.close()
				k.fine("at the end")
			})
		})
	}
}
