package server_test

import (
	"context"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
	"github.com/sluicemq/sluice/broker/server"
)

// An operator's tools and a consumer, as they talk to a server from outside:
// updateTopic, updateSubGroup, consumerConnection, consumerStatus,
// resetOffsetByTime, consumerProgress, statsAll, deleteTopic, deleteSubGroup.
func TestAdmin_FromOutside(t *testing.T) {
	t.Parallel()
	b, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(b, server.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		_ = b.Close(context.Background())
	})
	dial := func(o rpc.Options) *rpc.Conn {
		c, err := rpc.Dial(t.Context(), "tcp", s.Addr().String(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	call := func(c *rpc.Conn, want, code int, body []byte, pairs ...string) *remoting.Command {
		t.Helper()
		cmd := &remoting.Command{Code: code, Version: remoting.Version, Body: body}
		for i := 0; i < len(pairs); i += 2 {
			cmd.Fields.Add(pairs[i], pairs[i+1])
		}
		a, err := c.Call(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if a.Code != want {
			t.Fatalf("request %d: code %d %q, want %d", code, a.Code, a.Remark, want)
		}
		return a
	}
	const ok = remoting.ResSuccess
	tool := dial(rpc.Options{})
	consumer := dial(rpc.Options{Handler: func(req *remoting.Command) *remoting.Command {
		if req.Code != remoting.ReqGetConsumerRunningInfo {
			return nil
		}
		info := remoting.RunningInfo{Properties: remoting.Fields{{Name: remoting.PropConsumeType, Value: remoting.ConsumePassively}}}
		return &remoting.Command{Body: info.AppendTo(nil)}
	}})

	var topic remoting.Fields
	remoting.CreateTopic{Topic: "T", DefaultTopic: "TBW102", ReadQueues: 2, WriteQueues: 2, Perm: 6}.AppendTo(&topic)
	var pairs []string
	for _, f := range topic {
		pairs = append(pairs, f.Name, f.Value)
	}
	call(tool, ok, remoting.ReqCreateTopic, nil, pairs...)
	call(tool, ok, remoting.ReqCreateGroup, remoting.DefaultGroupConfig("G").AppendTo(nil))
	beat := remoting.Heartbeat{ClientID: "cid", Consumers: []remoting.ConsumerData{{
		Group: "G", ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering, ConsumeFromWhere: remoting.FromFirstOffset,
		Subscriptions: []remoting.SubscriptionData{{Topic: "T", SubString: "*", ExpressionType: remoting.ExpressionTag}},
	}}}
	call(consumer, ok, remoting.ReqHeartbeat, beat.AppendTo(nil))

	list, err := remoting.DecodeConnectionList(call(tool, ok, remoting.ReqGetConsumerConnections, nil, "consumerGroup", "G").Body)
	if err != nil || len(list.Connections) != 1 || list.Connections[0].ClientID != "cid" {
		t.Errorf("connections %+v, %v", list, err)
	}
	info, err := remoting.DecodeRunningInfo(call(tool, ok, remoting.ReqGetConsumerRunningInfo, nil, "consumerGroup", "G", "clientId", "cid", "jstackEnable", "false").Body)
	if err != nil || info.Properties.Get(remoting.PropConsumeType) != remoting.ConsumePassively {
		t.Errorf("running info %+v, %v", info, err)
	}
	moved, err := remoting.DecodeOffsetTable(call(tool, ok, remoting.ReqInvokeBrokerToResetOffset, nil, "topic", "T", "group", "G", "timestamp", "-1", "isForce", "true").Body)
	if err != nil || len(moved.Queues) != 2 {
		t.Errorf("moved %+v, %v", moved, err)
	}
	stats, err := remoting.DecodeConsumeStats(call(tool, ok, remoting.ReqGetConsumeStats, nil, "consumerGroup", "G").Body)
	if err != nil || len(stats.Queues) != 2 {
		t.Errorf("progress %+v, %v", stats, err)
	}
	call(tool, remoting.ResSystemError, remoting.ReqViewBrokerStats, nil, "statsName", "TOPIC_PUT_NUMS", "statsKey", "T")
	call(tool, ok, remoting.ReqGetBrokerRuntimeInfo, nil)

	call(tool, ok, remoting.ReqDeleteTopicInBroker, nil, "topic", "T")
	call(tool, ok, remoting.ReqDeleteGroup, nil, "groupName", "G", "cleanOffset", "true")
	_ = consumer.Close()
	call(tool, remoting.ResTopicNotExist, remoting.ReqGetTopicConfig, nil, "topic", "T")
}
