package server

import "github.com/sluicemq/sluice/broker/remoting"

// putKVConfig serves PUT_KV_CONFIG (100) of name servers. Values last until the
// next start; with a name server of RocketMQ they are in its folder.
func putKVConfig(s *Server, _ *conn, req, _ *remoting.Command) error {
	d := remoting.ReadFields("put a value", req.Fields)
	space, key, value := d.Text("namespace"), d.Text("key"), d.Text("value")
	if err := d.Err(); err != nil {
		return err
	}
	return s.names.kv.put(space, key, value)
}
