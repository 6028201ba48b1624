package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// versionName is the release whose behaviour is reproduced, see
// [remoting.Version].
const versionName = "V5_3_3"

// getBrokerRuntimeInfo serves GET_BROKER_RUNTIME_INFO (28): the figures that
// tools show. Those of parts that do not exist here are zero.
func getBrokerRuntimeInfo(s *Server, _ *conn, _, resp *remoting.Command) error {
	var t remoting.KVTable
	s.identity(&t.Table)
	s.rates(&t.Table)
	s.storage(&t.Table)
	for _, pool := range []string{"send", "pull", "query"} {
		// There are no pools: each connection serves its own requests.
		t.Table.AddInt(pool+"ThreadPoolQueueSize", 0)
		t.Table.AddInt(pool+"ThreadPoolQueueCapacity", 0)
		t.Table.AddInt(pool+"ThreadPoolQueueHeadWaitTimeMills", 0)
	}
	for _, name := range []string{
		"pageCacheLockTimeMills", "dispatchBehindBytes", "remainTransientStoreBufferNumbs", "putMessageEntireTimeMax",
		"getMessageEntireTimeMax", "putMessageDistributeTime", "timerReadBehind", "timerOffsetBehind", "timerEnqueueTps", "timerDequeueTps",
	} {
		t.Table.AddInt(name, 0)
	}
	resp.Body = t.AppendTo(nil)
	return nil
}

// identity says who the broker is, and since when.
func (s *Server) identity(f *remoting.Fields) {
	since := s.clock.started
	f.Add("brokerVersionDesc", versionName)
	f.AddInt("brokerVersion", remoting.Version)
	f.AddBool("brokerActive", s.store.Health() == nil)
	f.AddInt("bootTimestamp", since.UnixMilli())
	f.AddInt("startAcceptSendRequestTimeStamp", since.UnixMilli())
	up := time.Since(since)
	day := 24 * time.Hour
	f.Add("runtime", fmt.Sprintf("[ %d days, %d hours, %d minutes, %d seconds ]",
		up/day, up%day/time.Hour, up%time.Hour/time.Minute, up%time.Minute/time.Second))
	f.AddInt("connections", int64(s.Stats().Connections))
}

// rates are those of the broker.
func (s *Server) rates(f *remoting.Fields) {
	st := s.counts
	messages := func(a amounts) int64 { return a.messages }
	calls := func(a amounts) int64 { return a.calls }
	got := st.averages(messages, &st.got)
	f.Add("putTps", st.averages(messages, &st.put))
	f.Add("getTransferredTps", got) // as 5.x spells it
	f.Add("getTransferedTps", got)  // as 4.9 does
	f.Add("getFoundTps", st.averages(calls, &st.got))
	f.Add("getMissTps", st.averages(calls, &st.missed))
	f.Add("getTotalTps", st.averages(calls, &st.got, &st.missed))
	put, taken := st.put.now(), st.got.now()
	d := st.today()
	f.AddInt("msgPutTotalTodayNow", put.messages)
	f.AddInt("msgPutTotalTodayMorning", d.putToday)
	f.AddInt("msgPutTotalYesterdayMorning", d.putBefore)
	f.AddInt("msgGetTotalTodayNow", taken.messages)
	f.AddInt("msgGetTotalTodayMorning", d.getToday)
	f.AddInt("msgGetTotalYesterdayMorning", d.getBefore)
	f.AddInt("putMessageTimesTotal", put.calls)
	f.AddInt("putMessageSizeTotal", put.bytes)
	average := 0.0
	if put.messages > 0 {
		average = float64(put.bytes) / float64(put.messages)
	}
	f.Add("putMessageAverageSize", strconv.FormatFloat(average, 'f', -1, 64))
}

// storage is about the log.
func (s *Server) storage(f *remoting.Fields) {
	st := s.store.Stats()
	f.AddInt("commitLogMinOffset", st.Start)
	f.AddInt("commitLogMaxOffset", st.End)
	f.Add("remainHowManyDataToFlush", strconv.FormatInt(max(st.End-st.Durable, 0), 10)+" B")
	f.AddInt("earliestMessageTimeStamp", s.earliestMs())
	f.AddInt("timerCongestNum", int64(st.Delayed))
	f.AddInt("halfMessages", int64(st.Halves))
	f.AddInt("commitLogSegments", int64(st.Segments))
	// The store does not tell which disk it is on.
	f.AddInt("commitLogDiskRatio", 0)
	f.AddInt("consumeQueueDiskRatio", 0)
	f.Add("commitLogDirCapacity", "")
}

// earliestMs is when the oldest message in any queue was stored, -1 if there is
// none.
func (s *Server) earliestMs() int64 {
	earliest := int64(-1)
	for _, t := range s.store.Topics() {
		for n := range t.Queues {
			q, ok := s.store.Queue(t.Name, n)
			if !ok {
				break
			}
			if ms, ok := q.StoredMs(q.Min()); ok && (earliest < 0 || ms < earliest) {
				earliest = ms
			}
		}
	}
	return earliest
}

// averages are the rates over ten seconds, a minute and ten minutes of the sum
// of some tallies, as one text.
func (st *statistics) averages(pick func(amounts) int64, tallies ...*tally) string {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sample()
	var texts []string
	for _, d := range []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute} {
		rate := 0.0
		for _, t := range tallies {
			sum, span := st.over(t, brokerAxis, d)
			rate += float64(pick(sum)) / span.Seconds()
		}
		texts = append(texts, strconv.FormatFloat(rate, 'f', 2, 64))
	}
	return strings.Join(texts, " ")
}

// today answers the totals of the mornings.
func (st *statistics) today() mornings {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sample()
	return st.days
}
