package tcp

import (
	"time"

	"github.com/sluicemq/sluice/broker/drivertest/history"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// What becomes of a half message depends on its number alone, so that everybody
// who is ever asked says the same.
func commits(v history.Value) bool { return v.Counter%5 != 1 && v.Counter%5 != 4 }

// asked: its sender says nothing until the server asks.
func asked(v history.Value) bool { return v.Counter%5 >= 3 }

// half sends a half message and, mostly, its decision.
func (s *stream) half() bool {
	v, tx := s.value(), s.ids.Next()
	s.l.h.Prepare(v)
	h := s.header(s.r.IntN(queues), false, message.UniqKey, tx, message.TranMsg, "true", message.ProducerGroup, s.group())
	h.SysFlag = message.SysPrepared
	r, err := s.send(remoting.ReqSendMessageV2, h, s.body(v))
	if err != nil {
		return alive(s.conn)
	}
	_, pos, err := message.ParseOffsetID(r.MsgID)
	if err != nil {
		s.l.bad("the id of half message %v: %v", v, err)
		return false
	}
	s.l.prepared(v, half{pos: pos, tx: tx})
	if asked(v) {
		return true
	}
	if s.r.IntN(4) == 0 {
		s.stranger(v, pos, tx)
	}
	return s.end(s.conn, v, pos, tx, false)
}

// ending is a decision.
func (p *producer) ending(group string, pos int64, tx string, commit, checked bool) *remoting.Command {
	decision := remoting.DecisionRollback
	if commit {
		decision = remoting.DecisionCommit
	}
	return request(remoting.ReqEndTransaction, remoting.EndTransaction{
		ProducerGroup: group, CommitLogOffset: pos, Decision: decision, FromCheck: checked, MsgID: tx, TransactionID: tx, Topic: topic,
	})
}

// stranger decides a half message of somebody else, which must change nothing.
func (s *stream) stranger(v history.Value, pos int64, tx string) {
	a, err := call(s.calls, s.conn, s.ending("strangers", pos, tx, !commits(v), false))
	if err == nil && a.Code == remoting.ResSuccess {
		s.l.bad("half message %v was decided by a producer of another group", v)
	}
}

// end decides a half message. Whoever repeats it is told the same.
func (p *producer) end(conn *rpc.Conn, v history.Value, pos int64, tx string, checked bool) bool {
	l := p.l
	_, err := done(p.calls, conn, p.ending(p.group(), pos, tx, commits(v), checked))
	if err != nil {
		l.complain("decide "+v.String(), err)
		l.mu.Lock()
		if h := l.halves[v]; h != nil {
			h.tried = true
		}
		l.mu.Unlock()
		if !certainly(err) {
			l.h.Decide(v, commits(v), history.Unknown)
		}
		return alive(conn)
	}
	l.ended(v, checked)
	if v.Counter%7 != 0 {
		return true
	}
	a, err := call(p.calls, conn, p.ending(p.group(), pos, tx, !commits(v), false))
	if err != nil {
		return alive(conn)
	}
	if a.Code != remoting.ResIllegalOperation {
		l.bad("half message %v was decided otherwise before, and that was answered %d: %s", v, a.Code, a.Remark)
	}
	l.mu.Lock()
	l.opposite++
	l.mu.Unlock()
	return true
}

// decide answers the questions of the server, and repeats decisions that may not
// have arrived, until the connection or the test ends.
func (p *producer) decide(conn *rpc.Conn, life int, questions <-chan *remoting.Command) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case q := <-questions:
			p.answer(conn, life, q)
		case <-again.C:
			p.repeat(conn)
		case <-conn.Done():
			return
		case <-p.calls.Done():
			return
		}
	}
}

func (p *producer) answer(conn *rpc.Conn, life int, q *remoting.Command) {
	x, err := remoting.DecodeCheckTransaction(q.Fields)
	if err != nil {
		p.l.bad("a question: %v", err)
		return
	}
	m, _, err := message.Decode(q.Body)
	if err != nil {
		p.l.bad("the half message of a question: %v", err)
		return
	}
	v, err := history.Parse(m.Body)
	if err != nil {
		p.l.bad("the half message of a question: %v", err)
		return
	}
	p.l.asked(v, life)
	p.end(conn, v, x.CommitLogOffset, x.TransactionID, true)
}

// repeat decides again what this producer has decided without an answer.
func (p *producer) repeat(conn *rpc.Conn) {
	type job struct {
		v history.Value
		half
	}
	var jobs []job
	p.l.mu.Lock()
	for v, h := range p.l.halves {
		if h.tried && v.Process == p.name+"-half" {
			jobs = append(jobs, job{v, *h})
		}
	}
	p.l.mu.Unlock()
	for _, j := range jobs {
		if !p.end(conn, j.v, j.pos, j.tx, false) {
			return
		}
	}
}
