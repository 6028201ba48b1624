package server

import "github.com/sluicemq/sluice/broker/remoting"

// cleanExpiredConsumeQueue serves CLEAN_EXPIRED_CONSUMEQUEUE (306). The index
// of a segment goes with the segment, so there is never anything to clean.
func cleanExpiredConsumeQueue(*Server, *conn, *remoting.Command, *remoting.Command) error { return nil }
