package message

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// UniqueIDSize is the length of the longest id of [UniqueIDs].
const UniqueIDSize = offsetIDv6

// UniqueIDs makes the ids that producers give their messages, in RocketMQ's
// form: address, process id, a constant, milliseconds since the first of the
// month, a counter; 32 upper case hex digits, 56 if the host has only IPv6.
//
// The constant is random and drawn again each month, so ids of two generators,
// and of one generator a month later, differ. Ids are opaque text: neither the
// address nor the time in them may be trusted.
type UniqueIDs struct {
	addr netip.Addr
	pid  uint16

	mu      sync.Mutex
	month   time.Time // the first of the month that salt and last belong to
	next    time.Time // the first of the month after it
	salt    uint32
	last    uint32 // milliseconds; never goes back within a month
	counter uint16
}

// NewUniqueIDs makes a generator for this process. It looks for an address of
// the host once and takes a random one if there is none. A generator is safe
// for concurrent use and holds no resources.
func NewUniqueIDs() *UniqueIDs {
	return &UniqueIDs{addr: hostAddr(), pid: uint16(os.Getpid())}
}

// Next answers a new id.
func (u *UniqueIDs) Next() string {
	var b [offsetIDv6]byte
	return string(u.AppendNext(b[:0], time.Now()))
}

// AppendNext appends a new id to b; now is the time that goes into it.
func (u *UniqueIDs) AppendNext(b []byte, now time.Time) []byte {
	u.mu.Lock()
	if !now.Before(u.next) || u.month.IsZero() {
		u.turn(now)
	}
	u.last = max(u.last, uint32(max(0, now.Sub(u.month).Milliseconds())))
	ms, salt, n := u.last, u.salt, u.counter
	u.counter++
	if u.counter == 0 {
		u.last++ // 65536 ids within one millisecond borrow from the next one
	}
	u.mu.Unlock()
	return appendUniqueID(b, u.addr, u.pid, salt, ms, n)
}

// turn begins the month of now. mu is held.
func (u *UniqueIDs) turn(now time.Time) {
	if m := monthStart(now); m.After(u.month) {
		// A clock that goes back over the end of a month keeps the salt: last
		// stands still until the time has caught up, the counter does not.
		u.month, u.last, u.salt = m, 0, randomUint32()
		u.next = m.AddDate(0, 1, 0)
	}
}

// UniqueIDTime answers when the id was made, as far as the id can tell: it
// holds the time within a month, of which the latest one not after now is
// taken. ok is false for texts that are no unique id.
func UniqueIDTime(id string, now time.Time) (at time.Time, ok bool) {
	if len(id) != offsetIDv4 && len(id) != offsetIDv6 {
		return time.Time{}, false
	}
	b, err := hex.DecodeString(id)
	if err != nil {
		return time.Time{}, false
	}
	ms := time.Duration(binary.BigEndian.Uint32(b[len(b)-6:])) * time.Millisecond
	if ms > 31*24*time.Hour+time.Hour {
		return time.Time{}, false
	}
	month := monthStart(now)
	for at = month.Add(ms); at.After(now); at = month.Add(ms) { // a short month may be too short for ms
		month = monthStart(month.AddDate(0, 0, -1))
	}
	return at, true
}

func formatUniqueID(addr netip.Addr, pid uint16, salt, ms uint32, counter uint16) string {
	var b [offsetIDv6]byte
	return string(appendUniqueID(b[:0], addr, pid, salt, ms, counter))
}

func appendUniqueID(b []byte, addr netip.Addr, pid uint16, salt, ms uint32, counter uint16) []byte {
	var raw [offsetIDv6 / 2]byte
	r := raw[:0]
	if addr.Is4() {
		ip := addr.As4()
		r = append(r, ip[:]...)
	} else {
		ip := addr.As16()
		r = append(r, ip[:]...)
	}
	r = binary.BigEndian.AppendUint16(r, pid)
	r = binary.BigEndian.AppendUint32(r, salt)
	r = binary.BigEndian.AppendUint32(r, ms)
	r = binary.BigEndian.AppendUint16(r, counter)
	return appendUpperHex(b, r)
}

func monthStart(t time.Time) time.Time {
	y, m, _ := t.Date()
	return time.Date(y, m, 1, 0, 0, 0, 0, t.Location())
}

func randomUint32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return binary.BigEndian.Uint32(b[:])
}

// hostAddr prefers IPv4, which gives the shorter id; loopback addresses tell
// nothing and are not taken.
func hostAddr() netip.Addr {
	var v6 netip.Addr
	addrs, _ := net.InterfaceAddrs() // no address is an answer too
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ok && ip.Is4() {
			return ip
		}
		if ok && !v6.IsValid() {
			v6 = ip
		}
	}
	if v6.IsValid() {
		return v6
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], randomUint32())
	return netip.AddrFrom4(b)
}
