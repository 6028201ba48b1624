package server

import (
	"math"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// queryMost is how many messages a query answers: what RocketMQ answers by
// default, and twice of what its clients ask for.
const queryMost = 64

// Code 12 (QUERY_MESSAGE): find messages of a topic by a business key or by
// their unique id, the newest first. Clients compare keys once more. If one that may
// match is damaged, the remark says so.
func handleQueryMessage(s *Server, _ *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeQueryMessage(req.Fields)
	if err != nil {
		return err
	}
	q := embedded.Query{
		Topic: h.Topic, Key: h.Key, Unique: h.UniqueKey, FromMs: h.Begin, ToMs: h.End, Limit: min(max(int(h.MaxNum), 1), queryMost),
	}
	if h.End <= 0 {
		q.ToMs = math.MaxInt64
	}
	body, n, err := s.store.Find(q, nil)
	if err != nil && n == 0 {
		return failed(err)
	}
	if n == 0 {
		none := &refusal{code: remoting.ResQueryNotFound, remark: "can not find message, maybe time range not correct"}
		remoting.QueryResult{}.AppendTo(&none.fields)
		return none
	}
	st := s.store.Stats()
	x := remoting.QueryResult{LastUpdate: s.store.NowMs(), LastUpdateOffset: st.End}
	x.AppendTo(&resp.Fields)
	resp.Body = body
	if err != nil { // a message that may match is damaged
		resp.Remark = err.Error()
	}
	return nil
}
