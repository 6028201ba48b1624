package server

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

const (
	// noncesMost is how many signatures of an account one generation holds.
	// Two of them are kept, about 20 MiB for an account that signs as fast as
	// it can; 50 s at ten thousand a second, while clocks seldom differ by one.
	noncesMost = 1 << 19
	// nonceLongest is more than a UUID takes.
	nonceLongest = 64
)

var (
	errReplayed = errors.New("the signature was used before")
	errNonce    = errors.New("the field SignNonce takes 1 to 64 characters")
)

// nonces remembers the signatures of one account, so that none counts twice. It
// forgets by generations: a signature is remembered until its time is outside
// of the window. An account that signs more than fit has its window made
// shorter instead: what is older than what was forgotten is refused.
type nonces struct {
	seed      maphash.Seed
	mu        sync.Mutex
	now, last generation
	floor     time.Time // signatures up to this time may have been forgotten
}

type generation struct {
	seen   map[uint64]struct{} // hashes: a collision refuses one request
	newest time.Time           // of the signatures in it
	opened time.Time
}

// take accepts a nonce once. The time of the signature is within the window.
func (n *nonces) take(nonce string, signed, now time.Time) error {
	if nonce == "" || len(nonce) > nonceLongest {
		return errNonce
	}
	h := maphash.String(n.seed, nonce)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !signed.After(n.floor) {
		return errReplayed
	}
	if _, ok := n.now.seen[h]; ok {
		return errReplayed
	}
	if _, ok := n.last.seen[h]; ok {
		return errReplayed
	}
	// A signature from ahead of our clock is good for twice the window.
	if n.now.seen == nil || len(n.now.seen) >= noncesMost || now.Sub(n.now.opened) > 2*remoting.SignWindow {
		if n.last.newest.After(n.floor) {
			n.floor = n.last.newest
		}
		n.last = n.now
		n.now = generation{seen: map[uint64]struct{}{}, opened: now}
	}
	n.now.seen[h] = struct{}{}
	if signed.After(n.now.newest) {
		n.now.newest = signed
	}
	return nil
}

// noncesOf are those of an account; they outlive a new list of accounts.
func (s *Server) noncesOf(accessKey string) *nonces {
	s.noncesMu.Lock()
	defer s.noncesMu.Unlock()
	n := s.nonces[accessKey]
	if n == nil {
		n = &nonces{seed: maphash.MakeSeed()}
		s.nonces[accessKey] = n
	}
	return n
}
