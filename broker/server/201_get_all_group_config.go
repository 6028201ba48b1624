package server

import "github.com/sluicemq/sluice/broker/remoting"

// getAllGroupConfig serves GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201): every group
// that has settings, a position or a member. The answer is whole, so it has no
// totalGroupNum.
func getAllGroupConfig(s *Server, c *conn, _, resp *remoting.Command) error {
	table := remoting.GroupTable{Version: s.version()}
	for _, g := range s.groups.all(s.clients.groupNames()) {
		if c.sees(groupKind, g.Name) {
			table.Groups = append(table.Groups, g.wire())
		}
	}
	resp.Body = table.AppendTo(nil)
	return nil
}
