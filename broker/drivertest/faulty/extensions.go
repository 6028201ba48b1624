package faulty

import (
	"context"

	"github.com/sluicemq/sluice/broker/driver"
)

// call carries out do, which answers a value, under the faults of c.
func call[T any](ctx context.Context, c *conn, op Op, name string, do func() (T, error)) (T, error) {
	var v, zero T
	err := c.faults.around(ctx, c.dead, op, name, func() (err error) {
		v, err = do()
		return err
	})
	if err != nil {
		return zero, err
	}
	return v, nil
}

type transactor struct {
	c     *conn
	inner driver.Transactor
}

func (t transactor) Prepare(ctx context.Context, group string, m *driver.Message) (driver.Half, error) {
	return call(ctx, t.c, Prepare, group, func() (driver.Half, error) { return t.inner.Prepare(ctx, group, m) })
}

func (t transactor) Resolve(ctx context.Context, h driver.Half, d driver.Decision) error {
	return t.c.faults.around(ctx, t.c.dead, Resolve, h.Group, func() error { return t.inner.Resolve(ctx, h, d) })
}

func (t transactor) Checks(ctx context.Context, group string, parallel int, f driver.CheckFunc) error {
	return t.c.faults.around(ctx, t.c.dead, Checks, group, func() error { return t.inner.Checks(ctx, group, parallel, f) })
}

func (t transactor) Parked(ctx context.Context, limit int) ([]driver.ParkedHalf, error) {
	return call(ctx, t.c, Parked, "", func() ([]driver.ParkedHalf, error) { return t.inner.Parked(ctx, limit) })
}

type topicAdmin struct {
	c     *conn
	inner driver.TopicAdmin
}

func (a topicAdmin) CreateTopic(ctx context.Context, t driver.TopicInfo) error {
	return a.c.faults.around(ctx, a.c.dead, CreateTopic, t.Name, func() error { return a.inner.CreateTopic(ctx, t) })
}

func (a topicAdmin) DeleteTopic(ctx context.Context, name string) error {
	return a.c.faults.around(ctx, a.c.dead, DeleteTopic, name, func() error { return a.inner.DeleteTopic(ctx, name) })
}

func (a topicAdmin) Topics(ctx context.Context) ([]driver.TopicInfo, error) {
	return call(ctx, a.c, Topics, "", func() ([]driver.TopicInfo, error) { return a.inner.Topics(ctx) })
}

type groupAdmin struct {
	c     *conn
	inner driver.GroupAdmin
}

func (a groupAdmin) Groups(ctx context.Context) ([]driver.GroupInfo, error) {
	return call(ctx, a.c, Groups, "", func() ([]driver.GroupInfo, error) { return a.inner.Groups(ctx) })
}

func (a groupAdmin) Lag(ctx context.Context, group string) ([]driver.LaneLag, error) {
	return call(ctx, a.c, Lag, group, func() ([]driver.LaneLag, error) { return a.inner.Lag(ctx, group) })
}

func (a groupAdmin) ResetOffsets(ctx context.Context, group, topic string, p driver.Position) error {
	return a.c.faults.around(ctx, a.c.dead, ResetOffsets, group, func() error { return a.inner.ResetOffsets(ctx, group, topic, p) })
}

type messageQuery struct {
	c     *conn
	inner driver.MessageQuery
}

func (q messageQuery) ByID(ctx context.Context, topic, id string) (*driver.Delivery, error) {
	return call(ctx, q.c, ByID, topic, func() (*driver.Delivery, error) { return q.inner.ByID(ctx, topic, id) })
}

func (q messageQuery) ByKey(ctx context.Context, topic, key string, r driver.TimeRange, limit int) ([]*driver.Delivery, error) {
	return call(ctx, q.c, ByKey, topic, func() ([]*driver.Delivery, error) { return q.inner.ByKey(ctx, topic, key, r, limit) })
}

func (q messageQuery) Browse(ctx context.Context, topic string, queue int, offset int64, limit int) ([]*driver.Delivery, error) {
	return call(ctx, q.c, Browse, topic, func() ([]*driver.Delivery, error) {
		return q.inner.Browse(ctx, topic, queue, offset, limit)
	})
}

type requester struct {
	c     *conn
	inner driver.Requester
}

func (r requester) Request(ctx context.Context, m *driver.Message) (*driver.Message, error) {
	return call(ctx, r.c, Request, topicOf(m), func() (*driver.Message, error) { return r.inner.Request(ctx, m) })
}

func (r requester) Reply(ctx context.Context, request *driver.Delivery, m *driver.Message) error {
	var topic string
	if request != nil {
		topic = request.Topic
	}
	return r.c.faults.around(ctx, r.c.dead, Reply, topic, func() error { return r.inner.Reply(ctx, request, m) })
}

func topicOf(m *driver.Message) string {
	if m == nil {
		return ""
	}
	return m.Topic
}

type recaller struct {
	c     *conn
	inner driver.Recaller
}

func (r recaller) Recall(ctx context.Context, topic, handle string) error {
	return r.c.faults.around(ctx, r.c.dead, Recall, topic, func() error { return r.inner.Recall(ctx, topic, handle) })
}
