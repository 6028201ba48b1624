package server

import (
	"strconv"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// parkedMost is how many parked half messages can be read.
const parkedMost = 100_000

// pullParked answers a pull from the topic in which RocketMQ puts half messages
// that nobody decided. Here it is a view of those that are parked now, the
// oldest first: it has one queue, its offsets begin at 0, and what is decided
// leaves it. A record carries the half message as it would become visible, when
// it was parked, the number of check-backs, and as prepared transaction offset
// the position by which code 37 can still decide it.
func pullParked(s *Server, h *remoting.PullMessage, resp *remoting.Command) error {
	if h.QueueID != 0 {
		return refuse(remoting.ResInvalidParameter, "queueId[%d] is illegal, topic:[%s] has one queue", h.QueueID, h.Topic)
	}
	parked, err := s.store.Parked(parkedMost)
	if err != nil {
		return refuse(remoting.ResSystemError, "%v", err)
	}
	end := int64(len(parked))
	from := min(max(h.QueueOffset, 0), end)
	to := min(from+int64(min(max(h.MaxMessages, 1), pullMessages)), end)
	x := remoting.PullResult{NextBeginOffset: to, MaxOffset: end}
	for i, k := range parked[from:to] {
		m, _, err := message.DecodeTrusted(k.Record)
		if err != nil {
			return refuse(remoting.ResSystemError, "%v", err)
		}
		m.Properties = message.SetProperty(m.Properties, message.RealTopic, m.Topic)
		m.Properties = message.SetProperty(m.Properties, message.RealQueueID, strconv.Itoa(int(m.QueueID)))
		m.Properties = message.SetProperty(m.Properties, message.TransactionCheckTimes, strconv.Itoa(k.Number))
		m.Topic, m.QueueID, m.QueueOffset = message.CheckMaxTimeTopic, 0, from+int64(i)
		m.StoreTimestamp, m.PreparedTransactionOffset = k.ParkedMs, k.Pos
		if resp.Body, err = m.AppendTo(resp.Body); err != nil {
			return refuse(remoting.ResSystemError, "%v", err)
		}
		if len(resp.Body) >= pullBytes {
			x.NextBeginOffset = from + int64(i) + 1
			break
		}
	}
	resp.Code, resp.Remark = remoting.ResSuccess, "FOUND"
	if from == end {
		resp.Code, resp.Remark = remoting.ResPullNotFound, "OFFSET_OVERFLOW_ONE"
	}
	x.AppendTo(&resp.Fields)
	return nil
}
