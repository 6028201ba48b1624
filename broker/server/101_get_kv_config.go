package server

import "github.com/sluicemq/sluice/broker/remoting"

// getKVConfig serves GET_KV_CONFIG (101) of name servers.
//
// Behavior: the namespace SLUICE says what this server is, for clients that do
// better with it than with RocketMQ's.
func getKVConfig(s *Server, _ *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("get a value", req.Fields)
	space, key := d.Text("namespace"), d.Text("key")
	if err := d.Err(); err != nil {
		return err
	}
	if space == remoting.NamespaceSelf && key == remoting.KeyHalves {
		resp.Fields.Add("value", remoting.HalvesOnce)
		return nil
	}
	value, ok := s.names.kv.get(space, key)
	if !ok {
		return refuse(remoting.ResQueryNotFound, "No config item, Namespace: %s Key: %s", space, key)
	}
	resp.Fields.Add("value", value)
	return nil
}
