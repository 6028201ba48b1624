// Package server is the TCP face of the bundled broker: stock RocketMQ clients
// talk to it unchanged, as to a name server and to a broker, on one port.
//
// # What it promises
//
// Every request that wants an answer gets one: a code that is not served is
// answered with 3, a handler that fails with 1, and a panic in a handler ends
// neither the process nor the connection. Answers leave in the order in which
// they are ready, not in which they were asked for, so a held pull keeps
// nothing else back. Frames that break the protocol close their connection.
//
// A peer costs a bounded amount of memory and time: see [Limits]. Without TLS
// and an [ACL] the server listens on loopback addresses only, unless
// [Config].InsecureListen says otherwise. With an ACL each request is checked
// before anything of it is done.
//
// # How it is built
//
// One goroutine of each connection decodes frames and runs the handlers, one
// file for each request code; it writes its answers itself once no whole frame
// is waiting any more, so that pipelined requests share system calls. A second
// goroutine writes what others have to say: answers that took longer, and
// requests to the client. One goroutine of the server looks after all
// deadlines once a second.
//
// Nothing outlives [Server.Close].
package server
