package server

import (
	"math"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
)

// queryCorrectionOffset serves QUERY_CORRECTION_OFFSET (308): for each queue
// the position of the slowest group, filterGroups left out. Where compareGroup
// itself is slower it is the largest number: nothing is to be corrected.
// Positions before the oldest message count for nothing.
func queryCorrectionOffset(s *Server, _ *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("query correction offset", req.Fields)
	topic, compare, filter := d.Text("topic"), d.Text("compareGroup"), d.OptText("filterGroups")
	if err := d.Err(); err != nil {
		return err
	}
	t, err := s.known(topic)
	if err != nil {
		return err
	}
	left := map[string]bool{}
	for name := range strings.SplitSeq(filter, ",") {
		left[strings.TrimSpace(name)] = true
	}
	groups := s.store.GroupsOf(topic)
	var out remoting.CorrectionOffsets
	for n := range t.queues() {
		q, ok := s.store.Queue(topic, n)
		if !ok {
			break
		}
		slowest, found := int64(math.MaxInt64), false
		for _, g := range groups {
			if at, has := s.position(g, topic, n); has && !left[g] && at >= q.Min() {
				slowest, found = min(slowest, at), true
			}
		}
		if !found {
			continue
		}
		if s.groupExists(compare) {
			if at, has := s.position(compare, topic, n); has && at < slowest {
				slowest = math.MaxInt64
			}
		}
		out.Offsets = append(out.Offsets, remoting.NumberedOffset{Number: n, Offset: slowest})
	}
	resp.Body = out.AppendTo(nil)
	return nil
}
