package server

import "github.com/sluicemq/sluice/broker/remoting"

// cleanUnusedTopic serves CLEAN_UNUSED_TOPIC (316). The queues of a topic go
// with the topic, so there is never anything to clean.
func cleanUnusedTopic(*Server, *conn, *remoting.Command, *remoting.Command) error { return nil }
