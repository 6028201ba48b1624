package rocketmq_test

import (
	"context"

	"github.com/sluicemq/sluice/broker/driver"
)

// sendOne sends one message.
func sendOne(ctx context.Context, conn driver.Conn, m *driver.Message) driver.SendResult {
	return conn.Send(ctx, driver.SendRequest{Messages: []*driver.Message{m}})[0]
}
