package server

import (
	"crypto/tls"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// verify checks the signature of a request: RocketMQ's, or our own scheme, in
// which a request that somebody has recorded counts once. TLS sees to that by
// itself. The error wraps remoting.ErrSignature, remoting.ErrSignTime or
// errReplayed.
func (s *Server) verify(who *account, c *conn, req *remoting.Command) error {
	if !remoting.SignedSHA256(req) {
		if !remoting.Verify(who.secretKey, req) {
			return remoting.ErrSignature
		}
		return nil
	}
	now := time.Now()
	if err := remoting.VerifySHA256(who.secretKey, req, now); err != nil {
		return err
	}
	if _, ok := c.nc.(*tls.Conn); ok {
		return nil
	}
	ms, err := strconv.ParseInt(req.Fields.Get(remoting.FieldSignTime), 10, 64)
	if err != nil {
		return remoting.ErrSignTime
	}
	return s.noncesOf(who.accessKey).take(req.Fields.Get(remoting.FieldSignNonce), time.UnixMilli(ms), now)
}
