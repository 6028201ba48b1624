package rocketmq

import (
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// What servers of RocketMQ 4.9 say in another way than those of 5. Delays, which
// they know by levels only, are in delay_test.go.

// A key or a right that is wrong has no code of its own.
func TestRelease4_AccessRefused(t *testing.T) {
	for remark, want := range map[string]driver.Code{
		"org.apache.rocketmq.acl.common.AclException: No acl config for key, org.apache.rocketmq.acl.plain.PlainPermissionManager.validate(PlainPermissionManager.java:664)":                    driver.PermissionDenied,
		"org.apache.rocketmq.acl.common.AclException: Check signature failed for accessKey=key, org.apache.rocketmq.acl.plain.PlainPermissionManager.validate(PlainPermissionManager.java:679)": driver.PermissionDenied,
		"java.lang.NullPointerException: null, org.apache.rocketmq.broker.processor.SendMessageProcessor.processRequest(SendMessageProcessor.java:110)":                                         driver.Unavailable,
	} {
		err := refused("send", "10.0.0.1:10911", &remoting.Command{Code: remoting.ResSystemError, Remark: remark})
		if err.Code != want || err.Retryable != (want == driver.Unavailable) || !strings.Contains(err.Error(), remark) {
			t.Errorf("%v has the code %v; want %v", err, err.Code, want)
		}
	}
}

// Numbers that are keys stand without quotes in the routes of name servers before
// 4.9.4, and of later ones for clients that are older.
func TestRelease4_Route(t *testing.T) {
	raw, err := remoting.DecodeRoute([]byte(`{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"brokerName":"a","cluster":"C"}],` +
		`"filterServerTable":{},"queueDatas":[{"brokerName":"a","perm":6,"readQueueNums":2,"topicSynFlag":0,"writeQueueNums":1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if r := newRoute("t", raw); len(r.read) != 2 || len(r.write) != 1 || len(raw.Brokers[0].Addrs) != 2 || raw.Brokers[0].Addrs[1].ID != 1 {
		t.Errorf("read as %+v from %+v", r, raw)
	}
}
