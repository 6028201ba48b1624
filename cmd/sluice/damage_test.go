package main

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

const firstLog = "00000000000000000000.log"

// wide is a store of several segments, all of them indexed.
func wide(k *storeKit) {
	k.fill("orders", 200)
	k.fill("bills", 50)
}

// tear cuts the last frame of a store short, which was closed in order, and
// makes it one that was not.
func tear(t *testing.T, dir string) {
	t.Helper()
	logs, manifests := files(t, dir, ".log"), files(t, dir, "MANIFEST-")
	last := logs[len(logs)-1]
	change(t, dir, last, func(b []byte) []byte {
		end := len(b)
		for b[end-1] == 0 {
			end--
		}
		for i := end - 40; i < end; i++ {
			b[i] = 0
		}
		return b
	})
	for _, name := range manifests { // that say nothing of what was durable
		change(t, dir, name, func(b []byte) []byte {
			binary.BigEndian.PutUint16(b[6:], 0)
			binary.BigEndian.PutUint64(b[40:], 0)
			n := len(b) - 4
			binary.BigEndian.PutUint32(b[n:], crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)))
			return b
		})
	}
}

func TestVerify_Damage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		do    func(t *testing.T, dir string)
		code  int
		lines []string
		dump  int // exit code of "log dump"
	}{
		{
			name: "a byte of a segment",
			do:   func(t *testing.T, dir string) { flip(t, dir, firstLog, 5000) },
			code: exitDamage, dump: exitDamage,
			lines: []string{"damage 1 place", "\x00" + firstLog + " 4", " 1", "the checksum of the frame does not match"},
		},
		{
			name: "the newest manifest",
			do:   func(t *testing.T, dir string) { m := files(t, dir, "MANIFEST-"); flip(t, dir, m[len(m)-1], 20) },
			code: exitDamage,
			lines: []string{
				"damage 1 place", "\x00MANIFEST-0000000000000000000", " 0 80 its checksum does not match", "closed no",
			},
		},
		{
			name: "all manifests",
			do: func(t *testing.T, dir string) {
				for _, m := range files(t, dir, "MANIFEST-") {
					flip(t, dir, m, 20)
				}
			},
			code: exitDamage,
			lines: []string{
				"damage 2 places", "store", "no manifest can be read", "messages 250,",
			},
		},
		{
			name: "CURRENT",
			do:   func(t *testing.T, dir string) { flip(t, dir, "CURRENT", 12) },
			code: exitDamage, lines: []string{"damage 1 place", "\x00CURRENT 0 0 "},
		},
		{
			name: "an entry of an index file",
			do:   func(t *testing.T, dir string) { flip(t, dir, files(t, dir, ".idx")[0], 2*4096+5) },
			code: exitDamage,
			lines: []string{
				"damage 1 place, 1 of them in derived files",
				"\x0000000000000000000000.idx 8192 4096 the checksum does not match (derived)",
			},
		},
		{
			name: "the header of an index file",
			do:   func(t *testing.T, dir string) { flip(t, dir, files(t, dir, ".idx")[1], 50) },
			code: exitDamage, lines: []string{".idx 0 4096 the checksum of the header does not match (derived)"},
		},
		{
			name: "a checkpoint",
			do:   func(t *testing.T, dir string) { flip(t, dir, files(t, dir, "STATE-")[0], 40) },
			code: exitDamage, lines: []string{"\x00STATE-0", "the checksum does not match (derived)", "1 of them in derived files"},
		},
		{
			name: "a torn tail",
			do: func(t *testing.T, dir string) {
				tear(t, dir)
				for _, name := range append(files(t, dir, ".idx"), files(t, dir, "STATE-")...) {
					remove(t, dir, name)
				}
			},
			code: exitFine, lines: []string{"damage none", "torn tail", "closed no", "index files are missing", "there is no checkpoint"},
		},
		{
			name: "files that are missing",
			do: func(t *testing.T, dir string) {
				for _, name := range append(files(t, dir, "STATE-"), "CURRENT", files(t, dir, ".idx")[0]) {
					remove(t, dir, name)
				}
			},
			code: exitFine, lines: []string{"damage none", "there is no checkpoint", "CURRENT is missing", "00.idx is missing"},
		},
		{
			name: "a segment that is missing",
			do:   func(t *testing.T, dir string) { remove(t, dir, files(t, dir, ".log")[1]) },
			code: exitDamage, dump: exitDamage, lines: []string{"damage 1 place"},
		},
		{
			name: "files of others",
			do: func(t *testing.T, dir string) {
				for _, name := range []string{"read me\n.txt", "CURRENT.tmp"} {
					if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			},
			code: exitFine, lines: []string{"damage none", `"read me\n.txt" is not a file of a store`, "CURRENT.tmp is not finished"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := makeStore(t, small(), wide)
			sluice(t, dir, "log", "verify", dir).has(t, exitFine, "damage none", "messages 250,")
			c.do(t, dir)
			sluice(t, dir, "log", "verify", dir).has(t, c.code, c.lines...)
			sluice(t, dir, "log", "dump", dir).has(t, c.dump)
		})
	}
}

// What is out of use is told, and is no new damage.
func TestVerify_Quarantined(t *testing.T) {
	t.Parallel()
	dir := makeStore(t, small(), wide)
	flip(t, dir, firstLog, 5000)
	for _, name := range append(files(t, dir, ".idx"), files(t, dir, "STATE-")...) {
		remove(t, dir, name)
	}
	cfg := small()
	cfg.OnCorruption = embedded.Quarantine
	addTo(t, dir, cfg, func(k *storeKit) { k.fill("orders", 100) })
	sluice(t, dir, "log", "verify", dir).has(t, exitFine, "quarantined "+firstLog+" 4", "damage none", "messages 349,")
	sluice(t, dir, "log", "dump", dir).has(t, exitDamage, "1 place")
}

// awaitBallast waits for what a store makes in the background when it opens: it
// is a change that nobody who reads has made.
func awaitBallast(t *testing.T, dir string) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		log, err := os.Stat(filepath.Join(dir, firstLog))
		if err != nil {
			t.Fatal(err)
		}
		if ballast, err := os.Stat(filepath.Join(dir, "BALLAST")); err == nil && ballast.Size() == log.Size() {
			return
		}
		if time.Now().After(until) {
			t.Fatal("the store has made no ballast")
		}
	}
}

// A store that a process has open is read, and it is said that it is open.
func TestLog_Open(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	b, err := embedded.Open(dir, small())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	send := driver.SendRequest{Messages: []*driver.Message{{Topic: "orders", Body: []byte("x")}}}
	if r := b.Connect("test").Send(t.Context(), send); r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	if _, err := os.Stat("/proc/locks"); err != nil {
		t.Skip("this system does not tell who holds a lock")
	}
	awaitBallast(t, dir)
	sluice(t, dir, "log", "verify", dir).has(t, exitFine, "has the store open", "read again", "messages 1,", "damage none")
	r := sluice(t, dir, "log", "dump", dir)
	r.has(t, exitFine, "message topic=orders")
	if !strings.Contains(r.err, "has the store open") {
		t.Errorf("told %q", r.err)
	}
}
