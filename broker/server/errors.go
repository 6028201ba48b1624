package server

import (
	"errors"
	"fmt"
	"strings"
)

// ExposedError says that a server does not start because machines that nobody
// has proved to know could use it.
type ExposedError struct {
	// Address is where it was to listen.
	Address string
	// NoTLS and NoACL say what is missing. TLS counts if it is required.
	NoTLS, NoACL bool
	// TrustsAll says that the accounts let in strangers without a signature, see
	// [ACL.TrustsAll], and TLS does not ask for certificates of clients.
	TrustsAll bool
}

// Error says what to set.
func (e *ExposedError) Error() string {
	var missing []string
	if e.NoTLS {
		missing = append(missing, "required TLS (Config.TLS)")
	}
	if e.NoACL {
		missing = append(missing, "access control (Config.ACL)")
	}
	if e.TrustsAll {
		missing = append(missing, "accounts that trust fewer addresses (globalWhiteRemoteAddresses and every whiteRemoteAddress together: private ones, an IPv4 /8 and an IPv6 /24) or certificates of clients (Config.TLS.ClientAuth)")
	}
	return fmt.Sprintf("listen on %s: other machines reach this address; it takes %s, or Config.InsecureListen to allow it without, or a loopback address such as 127.0.0.1",
		e.Address, strings.Join(missing, " and "))
}

// Why a connection ends; the text goes to the log.
var (
	errShutdown     = errors.New("the server is closing")
	errFirstFrame   = errors.New("no whole request came in time")
	errRestOfFrame  = errors.New("the rest of a request did not come in time")
	errIdle         = errors.New("nothing was sent in either direction")
	errStalled      = errors.New("the peer takes nothing of what is sent to it")
	errOverflow     = errors.New("more waits to be sent to the peer than it may have waiting")
	errPlain        = errors.New("the connection is plain, TLS is required")
	errCrowded      = errors.New("others needed the place of a large request that did not come in time")
	errHoards       = errors.New("the peer takes nothing of a lot, and all peers together take too little")
	errEvicted      = errors.New("newer connections needed the place of one that had not sent an acceptable request")
	errTooMany      = errors.New("there are as many connections as are allowed")
	errTooManyHere  = errors.New("there are as many connections from this address as are allowed")
	errTooManyCalls = errors.New("too many requests to this client are unanswered")
)

// lostError says that a client could not be asked, or did not answer.
type lostError struct {
	client string
	cause  error
}

// Error names the client's address.
func (e *lostError) Error() string {
	return fmt.Sprintf("ask client %s: %v", e.client, e.cause)
}

// Unwrap answers the cause.
func (e *lostError) Unwrap() error { return e.cause }
