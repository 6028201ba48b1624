// Command jetstream makes a JetStream store and stores one durable message.
package main

import (
	"github.com/sluicemq/sluice/integration/bench/internal/peer/jetstream"
	"github.com/sluicemq/sluice/integration/bench/internal/start"
)

func main() {
	start.Main(func(dir string) (func() error, error) {
		p, err := jetstream.NewWait(dir, jetstream.Config{SyncAlways: true})
		if err != nil {
			return nil, err
		}
		_, err = p.Publish(0)
		return p.Close, err
	})
}
