// Command bare does nothing.
package main

import "github.com/sluicemq/sluice/integration/bench/internal/start"

func main() {
	start.Main(func(string) (func() error, error) { return func() error { return nil }, nil })
}
