package server

import (
	"fmt"
	"net"

	"github.com/sluicemq/sluice/broker/remoting"
)

// getNamesrvConfig serves GET_NAMESRV_CONFIG (319): the properties of a name
// server that mean something here. They cannot be changed; see 318.
func getNamesrvConfig(s *Server, _ *conn, _, resp *remoting.Command) error {
	_, port, err := net.SplitHostPort(s.advertise)
	if err != nil {
		return fmt.Errorf("read the port of %s: %w", s.advertise, err)
	}
	resp.Body = fmt.Appendf(nil, "deleteTopicWithBrokerRegistration=false\nlistenPort=%s\norderMessageEnable=false\nreturnOrderTopicConfigToBroker=true\nsupportActingMaster=false\n", port)
	return nil
}
