// Package rocketmq is the driver for clusters of Apache RocketMQ, and for the
// bundled broker of another process. An application changes from the bundled
// broker to a cluster by one line:
//
//	fx.New(rocketmq.Module, …) // and sluice.broker = rocketmq://host:9876
//
// # What it promises
//
// A client has one connection to each server, which everything shares. It asks
// one name server at a time and the next one when that does not answer; routes
// are renewed every 30 s and after errors, so new queues and brokers are found
// without a restart. Reads go to a slave while the master is away.
//
// A send with one message is a request of its own unless two with single
// messages for its queue, or for any queue of its topic, are on their way; what
// is sent until one of them is answered goes together in one request, which
// costs a broker a fraction. It waits for nobody unless Config.Linger says how
// long; Config.NoGathering turns it off. What goes in one request has one time
// of birth, that of its first message; messages whose births are more than a
// second apart do not go together.
//
// Sends are answered with what the broker said: stored, stored and not flushed
// in time, stored and not replicated in time. The driver sends once; what failed
// is for the framework to send again, and a broker that failed or was slow is
// left out meanwhile. [driver.Error.MaybeDone] is false only if the broker
// cannot have seen the request. Brokers before RocketMQ 5 delay by levels only,
// which [driver.Capabilities] tells.
//
// A request is known to whoever consumes it by Apache's clients, too, and
// so is its reply to whoever has asked: [driver.Extensions].Requests. Every
// broker learns where replies go before the first request. Recall needs brokers
// from RocketMQ 5.3.2 on, with recallMessageEnable; it is nil for the bundled
// broker and for those that delay by levels.
//
// A member of a group heartbeats, shares the queues by the [Strategy] of the
// group, and stores the lowest position that is not settled. It begins on a
// queue when the member before it has settled its work there, which members
// that are Sluice's tell each other by locks at the broker; members that are
// Apache's clients know no such locks outside of ordered groups, and a queue
// that changes its owner may then be delivered twice. Redeliveries and dead
// letters are copies in the retry topic and the dead letter topic of the group,
// as other clients expect them.
//
// All members of a group should subscribe to the same topics, as RocketMQ
// wants it. Members that do not are told apart, but the redeliveries of a group
// come by one topic: one that is for a topic to which its member does not
// subscribe waits.
//
// After Close no goroutine, connection or membership is left.
package rocketmq
