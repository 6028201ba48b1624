package server

import "github.com/sluicemq/sluice/broker/remoting"

// getGroupConfig serves GET_SUBSCRIPTIONGROUP_CONFIG (352).
func getGroupConfig(s *Server, _ *conn, req, resp *remoting.Command) error {
	name, err := readName("get group config", "group", req)
	if err != nil {
		return err
	}
	if !s.groupExists(name) {
		return refuse(remoting.ResGroupNotExist, "group %.255s does not exist", name)
	}
	resp.Body = s.groups.find(name).wire().AppendTo(nil)
	return nil
}
