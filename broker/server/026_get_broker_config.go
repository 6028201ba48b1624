package server

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// getBrokerConfig serves GET_BROKER_CONFIG (26): what there is of RocketMQ's
// configuration, as the text of a properties file. It cannot be changed.
func getBrokerConfig(s *Server, _ *conn, _, resp *remoting.Command) error {
	host, port, err := net.SplitHostPort(s.advertise)
	if err != nil {
		return fmt.Errorf("read the address of the broker: %w", err)
	}
	levels := make([]string, 0, len(s.cfg.DelayLevels))
	for _, d := range s.cfg.DelayLevels {
		levels = append(levels, shortDuration(d))
	}
	flush := "ASYNC_FLUSH"
	if s.store.Durable() {
		flush = "SYNC_FLUSH"
	}
	var b strings.Builder
	for _, p := range [][2]string{
		{"aclEnable", strconv.FormatBool(s.acl.Load() != nil)},
		{"autoCreateSubscriptionGroup", "true"},
		{"autoCreateTopicEnable", strconv.FormatBool(s.cfg.AutoCreate)},
		{"brokerClusterName", s.cfg.Cluster},
		{"brokerIP1", host},
		{"brokerId", "0"},
		{"brokerName", s.cfg.Broker},
		{"brokerPermission", strconv.Itoa(permReadWrite)},
		{"brokerRole", "ASYNC_MASTER"},
		{"enablePropertyFilter", "true"},
		{"flushDiskType", flush},
		{"listenPort", port},
		{"maxMessageSize", strconv.Itoa(s.store.MaxBody())},
		{"messageDelayLevel", strings.Join(levels, " ")},
		{"namesrvAddr", s.advertise},
		{"traceTopicEnable", "true"},
		{"useServerSideResetOffset", "true"},
	} {
		b.WriteString(p[0] + "=" + p[1] + "\n")
	}
	resp.Body = []byte(b.String())
	resp.Fields.Add("version", string(remoting.DataVersion{Timestamp: s.clock.started.UnixMilli()}.AppendTo(nil)))
	return nil
}

// shortDuration is d in its largest unit without a fraction, as delay levels
// are written: 30s, 2m, 1h.
func shortDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	return d.String()
}
