package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// recaller takes delayed messages back for one client.
type recaller struct{ c *conn }

// Recall takes a delayed message back; see [driver.Recaller]. RocketMQ's brokers
// know it from 5.3.2 on, and do it where recallMessageEnable is true.
func (r recaller) Recall(ctx context.Context, topic, handle string) error {
	op := "recall a message of " + topic
	c := r.c
	if err := c.use(ctx, op); err != nil {
		return err
	}
	h, err := message.ParseRecallHandle(handle)
	switch {
	case err != nil:
		return invalid(op, err)
	case h.Topic != topic:
		return invalid(op, fmt.Errorf("the handle is for a message of topic %s", h.Topic))
	}
	addr, failed := c.masterOfHandle(ctx, op, h.Broker)
	if failed != nil {
		return failed
	}
	req := &remoting.Command{Code: remoting.ReqRecallMessage}
	for _, f := range [][2]string{{"producerGroup", producerGroup}, {"topic", topic}, {"recallHandle", handle}, {"bname", h.Broker}} {
		req.Fields.Add(f[0], f[1])
	}
	if _, failed = c.call(ctx, op, addr, req, true); failed == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*RefusedError](failed); ok {
		switch {
		case refusal.Code == remoting.ResNoPermission && strings.Contains(refusal.Remark, "forbidden"): // accounts have other words
			failed.Code, failed.Err = driver.Unsupported, fmt.Errorf("broker %s recalls nothing unless its setting recallMessageEnable is true: %w", h.Broker, failed.Err)
		case refusal.Code == remoting.ResIllegalOperation:
			failed.Retryable = false
		}
	}
	return failed
}

var _ driver.Recaller = recaller{}
