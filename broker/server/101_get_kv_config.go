package server

import "github.com/sluicemq/sluice/broker/remoting"

// getKVConfig serves GET_KV_CONFIG (101) of name servers.
func getKVConfig(s *Server, _ *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("get a value", req.Fields)
	space, key := d.Text("namespace"), d.Text("key")
	if err := d.Err(); err != nil {
		return err
	}
	value, ok := s.names.kv.get(space, key)
	if !ok {
		return refuse(remoting.ResQueryNotFound, "No config item, Namespace: %s Key: %s", space, key)
	}
	resp.Fields.Add("value", value)
	return nil
}
