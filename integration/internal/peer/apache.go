package peer

import (
	"fmt"
	"time"
)

// apache is a name server and a broker of Apache RocketMQ.
type apache struct {
	*Cluster
}

// StartApache starts a name server and a broker of Apache RocketMQ with its data
// in a folder and jars from the cache. It takes ten seconds and more.
func StartApache(dir, jars string) (Target, error) {
	c, err := StartCluster(dir, jars, Layout{Names: 1, Masters: 1})
	if err != nil {
		return nil, err
	}
	return apache{c}, nil
}

func (a apache) broker() *Server    { return a.Masters[0] }
func (a apache) Name() string       { return "apache" }
func (a apache) NameServer() string { return a.NameServers() }
func (a apache) Broker() string     { return a.broker().Addr() }

func (a apache) Start(guarded bool) error {
	if !guarded {
		return a.broker().Start()
	}
	return a.broker().Start("authenticationEnabled=true",
		"authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider",
		"authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider",
		fmt.Sprintf(`initAuthenticationUser={"username":%q,"password":%q}`, AdminKey, AdminSecret),
		fmt.Sprintf(`innerClientAuthenticationCredentials={"accessKey":%q,"secretKey":%q}`, AdminKey, AdminSecret),
		"authorizationEnabled=true",
		"authorizationProvider=org.apache.rocketmq.auth.authorization.provider.DefaultAuthorizationProvider",
		"authorizationMetadataProvider=org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider")
}

func (a apache) Kill() { a.broker().Kill() }

func (a apache) Terminate() (bool, time.Duration) { return a.broker().Stop() }

func (a apache) Freeze() {
	for _, s := range a.All() {
		s.Freeze()
	}
}

func (a apache) Thaw() {
	for _, s := range a.All() {
		s.Thaw()
	}
}
