package server

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
)

// wantedGroup checks what an operator wants of a group. The attributes that
// come are changes of old's.
func (s *Server) wantedGroup(g remoting.SubscriptionGroupConfig) (groupConfig, error) {
	if err := validGroup(g.Name); err != nil {
		return groupConfig{}, err
	}
	if g.RetryQueues > queuesMost {
		return groupConfig{}, refuse(remoting.ResInvalidParameter, "group %s with %d retry queues, at most %d are taken", g.Name, g.RetryQueues, queuesMost)
	}
	if g.RetryPolicy != "" && !json.Valid([]byte(g.RetryPolicy)) {
		return groupConfig{}, refuse(remoting.ResInvalidParameter, "group %s has a retry policy that is not JSON", g.Name)
	}
	old := s.groups.find(g.Name)
	cfg := groupConfig{
		Name: g.Name, Consume: g.ConsumeEnable, Broadcast: g.BroadcastEnable, FromMin: g.ConsumeFromMinEnable, Orderly: g.Orderly,
		RetryQueues: int(g.RetryQueues), RetryMax: int(g.RetryMaxTimes), BrokerID: g.BrokerID, WhichBroker: g.WhichBrokerWhenSlow,
		Notify: g.NotifyIDsChanged, TimeoutMinutes: int(g.TimeoutMinutes), SysFlag: int(g.SysFlag),
		RetryPolicy: json.RawMessage(g.RetryPolicy), Forbidden: old.Forbidden, Attributes: map[string]string{},
	}
	for name, value := range old.Attributes {
		cfg.Attributes[name] = value
	}
	for _, a := range g.Attributes {
		if name, remove := strings.CutPrefix(a.Name, "-"); remove {
			delete(cfg.Attributes, name)
		} else {
			cfg.Attributes[strings.TrimPrefix(a.Name, "+")] = a.Value
		}
	}
	return cfg, nil
}

// putGroup keeps the configuration of a group, if there may be another one.
func (s *Server) putGroup(ctx context.Context, cfg groupConfig) error {
	if !s.unbounded() {
		if err := s.admitGroup(cfg.Name); err != nil {
			return err
		}
	}
	if err := s.groups.put(ctx, cfg); err != nil {
		return err
	}
	s.changed("put group", cfg.Name)
	return nil
}

// wire is the configuration as commands carry it.
func (c groupConfig) wire() remoting.SubscriptionGroupConfig {
	g := remoting.DefaultGroupConfig(c.Name)
	g.ConsumeEnable, g.BroadcastEnable, g.ConsumeFromMinEnable, g.Orderly = c.Consume, c.Broadcast, c.FromMin, c.Orderly
	g.RetryQueues, g.RetryMaxTimes, g.TimeoutMinutes = int32(c.RetryQueues), int32(c.RetryMax), int32(c.TimeoutMinutes)
	g.BrokerID, g.WhichBrokerWhenSlow, g.NotifyIDsChanged = c.BrokerID, c.WhichBroker, c.Notify
	g.SysFlag, g.Attributes = int32(c.SysFlag), sortedFields(c.Attributes)
	if len(c.RetryPolicy) > 0 {
		g.RetryPolicy = string(c.RetryPolicy)
	}
	return g
}
