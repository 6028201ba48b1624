package server

import "github.com/sluicemq/sluice/broker/remoting"

// refused are the codes that are known and not served, with the reason. Every
// other code that is missing from the table is answered with 3.
func refused() []handler {
	const (
		single = "this name server has its own broker in the same process and takes no others"
		fixed  = "the configuration of this server cannot be changed by clients; restart it with other flags"
	)
	var table []handler
	add := func(code, answer int, remark string, r right) {
		table = append(table, handler{code: code, right: r, serve: func(*Server, *conn, *remoting.Command, *remoting.Command) error {
			return refuse(answer, "%s", remark)
		}})
	}
	add(remoting.ReqRegisterBroker, remoting.ResSystemError, single, anyAccount())
	add(remoting.ReqUnregisterBroker, remoting.ResSystemError, single, anyAccount())
	add(remoting.ReqQueryDataVersion, remoting.ResSystemError, single, anyAccount())
	add(remoting.ReqBrokerHeartbeat, remoting.ResSystemError, single, anyAccount())
	add(remoting.ReqUpdateNameServerConfig, remoting.ResNoPermission, fixed, adminOnly())
	return table
}
