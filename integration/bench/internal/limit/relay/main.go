// Command relay is the server of the limit of the same name in a process of its
// own, with its log in the folder that is its argument. It says where it
// listens, and ends when it is killed.
package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/sluicemq/sluice/integration/bench/internal/limit"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "relay: the argument is a folder")
		os.Exit(2)
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err == nil {
		_, err = limit.ServeRelay(l, os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
	fmt.Println(limit.RelayReady + l.Addr().String())
	select {}
}
