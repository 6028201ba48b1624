package server

import "github.com/sluicemq/sluice/broker/remoting"

// deleteKVConfig serves DELETE_KV_CONFIG (102) of name servers; what is not
// there is deleted.
func deleteKVConfig(s *Server, _ *conn, req, _ *remoting.Command) error {
	d := remoting.ReadFields("delete a value", req.Fields)
	space, key := d.Text("namespace"), d.Text("key")
	if err := d.Err(); err != nil {
		return err
	}
	s.names.kv.delete(space, key)
	return nil
}
