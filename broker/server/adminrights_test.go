package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
)

// changing are the commands of operators that change what others see, or take
// part in their work.
var changing = []int{
	remoting.ReqCreateTopic, remoting.ReqCreateTopics, remoting.ReqDeleteTopicInBroker, remoting.ReqCreateGroup, remoting.ReqCreateGroups,
	remoting.ReqDeleteGroup, remoting.ReqGroupForbidden, remoting.ReqInvokeBrokerToResetOffset, remoting.ReqCloneGroupOffset,
	remoting.ReqConsumeMessageDirectly, remoting.ReqUpdateBrokerConfig, remoting.ReqUpdateNameServerConfig, remoting.ReqResumeCheckHalfMessage,
	remoting.ReqCleanExpiredConsumeQueue, remoting.ReqCleanUnusedTopic, remoting.ReqDeleteExpiredCommitLog,
}

func TestAdminRights_ChangesTakeAnAdmin(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	b := serveOn(t, Config{ACL: testACL(t), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p := b.dial(t)
	for _, code := range changing {
		cmd := request(code, "topic", "both", "group", "member", "groupName", "member", "consumerGroup", "member")
		a := p.wantCode(remoting.ResNoPermission, signed(cmd))
		if !strings.Contains(a.Remark, "is no admin") {
			t.Errorf("code %d: remark %q", code, a.Remark)
		}
		if want := fmt.Sprintf("code=%d ", code); !strings.Contains(log.String(), want) {
			t.Errorf("code %d leaves no line with %s", code, want)
		}
	}
	if got := b.store.Topics(); len(got) > 0 {
		t.Errorf("refused requests made %+v", got)
	}
	admin := createTopicRequest("both", 1, 1)
	remoting.SignCommand(adminKey, adminSecret, admin)
	p.wantCode(remoting.ResSuccess, admin)
	if out := log.String(); !strings.Contains(out, `access_key=operators`) || !strings.Contains(out, `msg="an operator's change is done" change="put topic" name=both`) ||
		strings.Contains(out, adminSecret) {
		t.Errorf("log:\n%s", out)
	}
}

// What an account may see of one topic or group it may ask for, and lists show
// it no more.
func TestAdminRights_AccountsSeeTheirOwn(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{ACL: testACL(t)})
	p := b.dial(t)
	admin := func(cmd *remoting.Command) *remoting.Command {
		remoting.SignCommand(adminKey, adminSecret, cmd)
		return cmd
	}
	for _, topic := range []string{"both", "foreign"} {
		p.wantCode(remoting.ResSuccess, admin(createTopicRequest(topic, 1, 1, "topicSysFlag", "3")))
		for _, group := range []string{"member", "stranger"} {
			b.commit(t, group, topic, 0, 0)
		}
	}
	b.countPut("both", 1, 1)
	b.countPut("foreign", 1, 1)
	b.countGet("member", "both", 1, 1)
	b.countGet("stranger", "both", 1, 1)
	for _, test := range []struct {
		code  int
		pairs []string
		shown []string // of both, foreign, member and stranger
		admin []string // what an admin is shown besides
	}{
		{remoting.ReqGetAllTopicConfig, nil, []string{"both"}, []string{"foreign"}},
		{remoting.ReqGetAllTopicList, nil, []string{"both"}, []string{"foreign"}},
		{remoting.ReqGetTopicsByCluster, []string{"cluster", "DefaultCluster"}, []string{"both"}, []string{"foreign"}},
		{remoting.ReqGetUnitTopicList, nil, []string{"both"}, []string{"foreign"}},
		{remoting.ReqGetHasUnitSubTopicList, nil, []string{"both"}, []string{"foreign"}},
		{remoting.ReqGetAllGroupConfig, nil, []string{"member"}, []string{"stranger"}},
		{remoting.ReqGetAllConsumerOffset, nil, []string{"both", "foreign", "member"}, []string{"stranger"}},
		{remoting.ReqQueryTopicConsumeByWho, []string{"topic", "both"}, []string{"member"}, []string{"stranger"}},
		{remoting.ReqGetConsumeStats, []string{"consumerGroup", "member"}, []string{"both"}, []string{"foreign"}},
		{remoting.ReqGetBrokerConsumeStats, []string{"isOrder", "false"}, []string{"both", "foreign", "member"}, []string{"stranger"}},
	} {
		show := func(who string, a *remoting.Command, shown []string) {
			for _, name := range []string{"both", "foreign", "member", "stranger"} {
				if want := slices.Contains(shown, name); bytes.Contains(a.Body, []byte(name)) != want {
					t.Errorf("code %d: shows %s to %s: %v, want %v: %s", test.code, name, who, !want, want, a.Body)
				}
			}
		}
		show("the account", p.wantCode(remoting.ResSuccess, signed(request(test.code, test.pairs...))), test.shown)
		show("an admin", p.wantCode(remoting.ResSuccess, admin(request(test.code, test.pairs...))), append(test.shown, test.admin...))
	}
	for _, test := range []struct {
		want int
		cmd  *remoting.Command
	}{
		{remoting.ResSuccess, request(remoting.ReqGetTopicStats, "topic", "both")},
		{remoting.ResNoPermission, request(remoting.ReqGetTopicStats, "topic", "foreign")},
		{remoting.ResNoPermission, request(remoting.ReqGetTopicConfig, "topic", "foreign")},
		{remoting.ResNoPermission, request(remoting.ReqGetGroupConfig, "group", "stranger")},
		{remoting.ResNoPermission, request(remoting.ReqGetConsumeStats, "consumerGroup", "stranger")},
		{remoting.ResNoPermission, request(remoting.ReqGetConsumerConnections, "consumerGroup", "stranger")},
		{remoting.ResNoPermission, request(remoting.ReqGetConsumerRunningInfo, "consumerGroup", "stranger", "clientId", "cid")},
		{remoting.ResNoPermission, withBody(remoting.ReqQueryAssignment, `{"consumerGroup":"stranger","topic":"both"}`)},
		{remoting.ResSuccess, request(remoting.ReqViewBrokerStats, "statsName", "TOPIC_PUT_NUMS", "statsKey", "both")},
		{remoting.ResSystemError, request(remoting.ReqViewBrokerStats, "statsName", "TOPIC_PUT_NUMS", "statsKey", "foreign")},
		{remoting.ResSuccess, request(remoting.ReqViewBrokerStats, "statsName", "GROUP_GET_NUMS", "statsKey", "both@member")},
		{remoting.ResSystemError, request(remoting.ReqViewBrokerStats, "statsName", "GROUP_GET_NUMS", "statsKey", "both@stranger")},
	} {
		p.wantCode(test.want, signed(test.cmd))
	}
}
