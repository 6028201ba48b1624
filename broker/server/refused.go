package server

import "github.com/sluicemq/sluice/broker/remoting"

// refused are the codes that are known and not served, with the reason for
// people who read the answer. Every other code that is missing from the table
// is answered with 3.
func refused() []handler {
	const (
		single   = "this name server has its own broker in the same process and takes no others"
		fixed    = "the configuration of this server cannot be changed by clients; restart it with other flags"
		accounts = "accounts are kept in a file of the server and cannot be changed or read by clients"
		pop      = "POP is not served; consumers pull"
		mode     = "the mode is always PULL; POP is not served"
		recall   = "a delayed message cannot be recalled"
		parked   = "a half message that stayed undecided is not asked for again; an operator decides it at the server"
		replica  = "there are no replicas; delayed messages are kept in the log and have no offsets by level"
	)
	var table []handler
	add := func(answer int, r right, remark string, codes ...int) {
		for _, code := range codes {
			table = append(table, handler{code: code, right: r, serve: func(*Server, *conn, *remoting.Command, *remoting.Command) error {
				return refuse(answer, "%s", remark)
			}})
		}
	}
	add(remoting.ResSystemError, anyAccount(), single,
		remoting.ReqRegisterBroker, remoting.ReqUnregisterBroker, remoting.ReqQueryDataVersion, remoting.ReqBrokerHeartbeat)
	// By these two, control of RocketMQ was taken (CVE-2023-33246, CVE-2023-37582).
	add(remoting.ResNoPermission, adminOnly(), fixed, remoting.ReqUpdateBrokerConfig, remoting.ReqUpdateNameServerConfig)
	add(remoting.ResSystemError, adminOnly(), parked, remoting.ReqResumeCheckHalfMessage)
	add(remoting.ResUnsupported, anyAccount(), replica, remoting.ReqGetAllDelayOffset)
	add(remoting.ResUnsupported, adminOnly(), accounts,
		remoting.ReqUpdateAndCreateACLConfig, remoting.ReqDeleteACLConfig, remoting.ReqGetBrokerClusterACLInfo,
		remoting.ReqUpdateGlobalWhiteAddrsConfig, remoting.ReqGetBrokerClusterACLConfig,
		remoting.ReqAuthCreateUser, remoting.ReqAuthUpdateUser, remoting.ReqAuthDeleteUser, remoting.ReqAuthGetUser, remoting.ReqAuthListUser,
		remoting.ReqAuthCreateACL, remoting.ReqAuthUpdateACL, remoting.ReqAuthDeleteACL, remoting.ReqAuthGetACL, remoting.ReqAuthListACL)
	add(remoting.ResUnsupported, anyAccount(), mode, remoting.ReqSetMessageRequestMode, remoting.ReqGetAllMessageRequestMode)
	add(remoting.ResUnsupported, anyAccount(), recall, remoting.ReqRecallMessage)
	add(remoting.ResUnsupported, anyAccount(), pop,
		remoting.ReqPopMessage, remoting.ReqAckMessage, remoting.ReqPeekMessage, remoting.ReqChangeMessageInvisibleTime,
		remoting.ReqNotification, remoting.ReqPollingInfo, remoting.ReqPopRollback, remoting.ReqBatchAckMessage)
	return table
}
