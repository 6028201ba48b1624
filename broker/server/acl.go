package server

import "github.com/sluicemq/sluice/broker/remoting"

// ACL holds the accounts that a server knows, and what each may do.
type ACL struct{}

// right is what a request needs.
type right struct{}

// allow refuses what the sender of req may not do.
func (s *Server) allow(c *conn, h *handler, req *remoting.Command) error { return nil }
