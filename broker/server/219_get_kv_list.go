package server

import "github.com/sluicemq/sluice/broker/remoting"

// getKVList serves GET_KVLIST_BY_NAMESPACE (219) of name servers.
func getKVList(s *Server, _ *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("list values", req.Fields)
	space := d.Text("namespace")
	if err := d.Err(); err != nil {
		return err
	}
	values, ok := s.names.kv.list(space)
	if !ok {
		return refuse(remoting.ResQueryNotFound, "No config item, Namespace: %s", space)
	}
	resp.Body = remoting.KVTable{Table: values}.AppendTo(nil)
	return nil
}
