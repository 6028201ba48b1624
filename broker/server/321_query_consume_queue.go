package server

import (
	"encoding/json"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// What one look into a queue shows at the most.
const (
	lookMessages = 256
	lookBytes    = 1 << 20
)

// queueLook is the body of the answer to 321.
type queueLook struct {
	Max     int64       `json:"maxQueueIndex"`
	Min     int64       `json:"minQueueIndex"`
	Entries []queueItem `json:"queueData"`
}

type queueItem struct {
	Offset int64  `json:"physicOffset"`
	Size   int    `json:"physicSize"`
	Tags   int64  `json:"tagsCode"`
	Wanted bool   `json:"eval"`
	Text   string `json:"msg,omitempty"`
}

// queryConsumeQueue serves QUERY_CONSUME_QUEUE (321): where the messages of a
// queue lie from an offset on, and which of them a group would get by its tags.
func queryConsumeQueue(s *Server, c *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("query consume queue", req.Fields)
	topic, n, index, count := d.Text("topic"), d.Int32("queueId"), d.Int64("index"), d.Int32("count")
	group := d.OptText("consumerGroup")
	if err := d.Err(); err != nil {
		return err
	}
	if _, err := s.known(topic); err != nil {
		return err
	}
	q, ok := s.store.Queue(topic, int(n))
	if !ok {
		return refuse(remoting.ResInvalidParameter, "topic %s has no queue %d", topic, n)
	}
	look := queueLook{Max: q.Max(), Min: q.Min(), Entries: []queueItem{}}
	var want *subscription
	if group != "" && c.sees(groupKind, group) {
		want, _, _ = s.clients.subscription(group, topic)
	}
	records, _, err := q.Read(index, embedded.Selection{Messages: int(min(max(count, 1), lookMessages)), Bytes: lookBytes}, nil)
	if err != nil {
		return err
	}
	for len(records) > 0 {
		m, size, err := message.DecodeTrusted(records)
		if err != nil {
			return err
		}
		records = records[size:]
		code := message.TagCode(message.Property(m.Properties, message.Tags))
		item := queueItem{Offset: m.PhysicalOffset, Size: size, Tags: int64(code), Wanted: true}
		if want != nil && want.tags != nil {
			_, item.Wanted = want.tags[code]
		}
		look.Entries = append(look.Entries, item)
	}
	resp.Body, err = json.Marshal(look)
	return err
}
