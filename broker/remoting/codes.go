package remoting

import "strconv"

// Request codes. A server answers those it does not serve with
// [ResUnsupported].
const (
	ReqSendMessage                      int = 10
	ReqPullMessage                      int = 11
	ReqQueryMessage                     int = 12
	ReqQueryConsumerOffset              int = 14
	ReqUpdateConsumerOffset             int = 15
	ReqCreateTopic                      int = 17
	ReqCreateTopics                     int = 18
	ReqGetAllTopicConfig                int = 21
	ReqUpdateBrokerConfig               int = 25
	ReqGetBrokerConfig                  int = 26
	ReqGetBrokerRuntimeInfo             int = 28
	ReqSearchOffsetByTimestamp          int = 29
	ReqGetMaxOffset                     int = 30
	ReqGetMinOffset                     int = 31
	ReqGetEarliestStoreTime             int = 32
	ReqViewMessageByID                  int = 33
	ReqHeartbeat                        int = 34
	ReqUnregisterClient                 int = 35
	ReqSendBack                         int = 36
	ReqEndTransaction                   int = 37
	ReqGetConsumerListByGroup           int = 38
	ReqCheckTransactionState            int = 39
	ReqNotifyConsumerIDsChanged         int = 40
	ReqLockBatch                        int = 41
	ReqUnlockBatch                      int = 42
	ReqGetAllConsumerOffset             int = 43
	ReqGetAllDelayOffset                int = 45
	ReqCheckClientConfig                int = 46
	ReqGetClientConfig                  int = 47
	ReqUpdateAndCreateACLConfig         int = 50
	ReqDeleteACLConfig                  int = 51
	ReqGetBrokerClusterACLInfo          int = 52
	ReqUpdateGlobalWhiteAddrsConfig     int = 53
	ReqGetBrokerClusterACLConfig        int = 54
	ReqGetTimerCheckPoint               int = 60
	ReqGetTimerMetrics                  int = 61
	ReqPutKVConfig                      int = 100
	ReqGetKVConfig                      int = 101
	ReqDeleteKVConfig                   int = 102
	ReqRegisterBroker                   int = 103
	ReqUnregisterBroker                 int = 104
	ReqGetRoute                         int = 105
	ReqGetClusterInfo                   int = 106
	ReqCreateGroup                      int = 200
	ReqGetAllGroupConfig                int = 201
	ReqGetTopicStats                    int = 202
	ReqGetConsumerConnections           int = 203
	ReqGetProducerConnections           int = 204
	ReqWipeWritePerm                    int = 205
	ReqGetAllTopicList                  int = 206
	ReqDeleteGroup                      int = 207
	ReqGetConsumeStats                  int = 208
	ReqDeleteTopicInBroker              int = 215
	ReqDeleteTopicInNameServer          int = 216
	ReqRegisterTopicInNameServer        int = 217
	ReqGetKVList                        int = 219
	ReqResetConsumerClientOffset        int = 220
	ReqGetConsumerStatusFromClient      int = 221
	ReqInvokeBrokerToResetOffset        int = 222
	ReqInvokeBrokerToGetConsumerStatus  int = 223
	ReqGetTopicsByCluster               int = 224
	ReqCreateGroups                     int = 225
	ReqQueryTopicConsumeByWho           int = 300
	ReqQueryConsumeTimeSpan             int = 303
	ReqGetSystemTopicListFromNameServer int = 304
	ReqGetSystemTopicListFromBroker     int = 305
	ReqCleanExpiredConsumeQueue         int = 306
	ReqGetConsumerRunningInfo           int = 307
	ReqQueryCorrectionOffset            int = 308
	ReqConsumeMessageDirectly           int = 309
	ReqSendMessageV2                    int = 310
	ReqGetUnitTopicList                 int = 311
	ReqGetHasUnitSubTopicList           int = 312
	ReqGetHasUnitSubNoUnitTopicList     int = 313
	ReqCloneGroupOffset                 int = 314
	ReqViewBrokerStats                  int = 315
	ReqCleanUnusedTopic                 int = 316
	ReqGetBrokerConsumeStats            int = 317
	ReqUpdateNameServerConfig           int = 318
	ReqGetNameServerConfig              int = 319
	ReqSendBatch                        int = 320
	ReqQueryConsumeQueue                int = 321
	ReqQueryDataVersion                 int = 322
	ReqResumeCheckHalfMessage           int = 323
	ReqSendReply                        int = 324
	ReqSendReplyV2                      int = 325
	ReqPushReply                        int = 326
	ReqAddWritePerm                     int = 327
	ReqGetAllProducerInfo               int = 328
	ReqDeleteExpiredCommitLog           int = 329
	ReqQueryTopicsByConsumer            int = 343
	ReqQuerySubscriptionByConsumer      int = 345
	ReqGetTopicConfig                   int = 351
	ReqGetGroupConfig                   int = 352
	ReqGroupForbidden                   int = 353
	ReqCheckRocksDBCQWriteProgress      int = 354
	ReqExportRocksDBConfigToJSON        int = 355
	ReqLitePullMessage                  int = 361
	ReqRecallMessage                    int = 370
	ReqQueryAssignment                  int = 400
	ReqSetMessageRequestMode            int = 401
	ReqGetAllMessageRequestMode         int = 402
	ReqCreateStaticTopic                int = 513
	ReqGetBrokerMemberGroup             int = 901
	ReqBrokerHeartbeat                  int = 904
	ReqNotifyMinBrokerIDChange          int = 905
	ReqExchangeBrokerHAInfo             int = 906
	ReqGetBrokerHAStatus                int = 907
	ReqResetMasterFlushOffset           int = 908
	ReqAuthCreateUser                   int = 3001
	ReqAuthUpdateUser                   int = 3002
	ReqAuthDeleteUser                   int = 3003
	ReqAuthGetUser                      int = 3004
	ReqAuthListUser                     int = 3005
	ReqAuthCreateACL                    int = 3006
	ReqAuthUpdateACL                    int = 3007
	ReqAuthDeleteACL                    int = 3008
	ReqAuthGetACL                       int = 3009
	ReqAuthListACL                      int = 3010
	ReqPopMessage                       int = 200050
	ReqAckMessage                       int = 200051
	ReqPeekMessage                      int = 200052
	ReqChangeMessageInvisibleTime       int = 200053
	ReqNotification                     int = 200054
	ReqPollingInfo                      int = 200055
	ReqPopRollback                      int = 200056
	ReqBatchAckMessage                  int = 200151
)

// Response codes. Whether a command failed is told by them alone.
const (
	ResSuccess                 int = 0    // the command was done
	ResSystemError             int = 1    // any failure without a code of its own
	ResSystemBusy              int = 2    // flow control; clients send again
	ResUnsupported             int = 3    // the request code is unknown
	ResTransactionFailed       int = 4    // not used by Apache's brokers
	ResFlushDiskTimeout        int = 10   // the message is stored, and not known to be on disk
	ResSlaveNotAvailable       int = 11   // the message is stored, without a replica
	ResFlushSlaveTimeout       int = 12   // the message is stored, and not known to be replicated
	ResMessageIllegal          int = 13   // the message breaks a limit
	ResServiceNotAvailable     int = 14   // no writes now: disk full, shutting down
	ResVersionNotSupported     int = 15   // not used by Apache's brokers
	ResNoPermission            int = 16   // the topic, group or credentials do not allow it
	ResTopicNotExist           int = 17   // no such topic
	ResTopicExistAlready       int = 18   // not used by Apache's brokers
	ResPullNotFound            int = 19   // no new message
	ResPullRetryImmediately    int = 20   // nothing matched; go on at the next offset
	ResPullOffsetMoved         int = 21   // the offset is outside the queue; go on at the next offset
	ResQueryNotFound           int = 22   // no such offset, message or value
	ResSubscriptionParseFailed int = 23   // the filter expression does not parse
	ResSubscriptionNotExist    int = 24   // the group or its subscription is not registered
	ResSubscriptionNotLatest   int = 25   // the registered subscription is older than the pull's
	ResGroupNotExist           int = 26   // no such consumer group
	ResFilterDataNotExist      int = 27   // no compiled filter for the subscription
	ResFilterDataNotLatest     int = 28   // the compiled filter is older than the subscription
	ResInvalidParameter        int = 29   // a field of the request is wrong
	ResConsumerNotOnline       int = 206  // no consumer of the group is connected
	ResConsumeMessageTimeout   int = 207  // the client did not answer in time
	ResNoMessage               int = 208  // the acknowledged message is not there
	ResPollingFull             int = 209  // too many held requests
	ResPollingTimeout          int = 210  // nothing came in time
	ResBrokerNotExist          int = 211  // no such broker
	ResBroadcastConsumption    int = 213  // the group is broadcasting and has no position
	ResFlowControl             int = 215  // the pull is to be tried again soon
	ResNotLeaderForQueue       int = 501  // the queue moved
	ResIllegalOperation        int = 604  // the operation is not allowed in this state
	ResGoAway                  int = 1500 // the server ends; reconnect and send again
	ResUserNotExist            int = 3001 // no such user
	ResPolicyNotExist          int = 3002 // no such policy
)

// requestNames also has the codes that no release of RocketMQ serves, so that
// a log can name them.
var requestNames = map[int]string{
	ReqSendMessage:                      "SEND_MESSAGE",
	ReqPullMessage:                      "PULL_MESSAGE",
	ReqQueryMessage:                     "QUERY_MESSAGE",
	ReqQueryConsumerOffset:              "QUERY_CONSUMER_OFFSET",
	ReqUpdateConsumerOffset:             "UPDATE_CONSUMER_OFFSET",
	ReqCreateTopic:                      "UPDATE_AND_CREATE_TOPIC",
	ReqCreateTopics:                     "UPDATE_AND_CREATE_TOPIC_LIST",
	ReqGetAllTopicConfig:                "GET_ALL_TOPIC_CONFIG",
	ReqUpdateBrokerConfig:               "UPDATE_BROKER_CONFIG",
	ReqGetBrokerConfig:                  "GET_BROKER_CONFIG",
	ReqGetBrokerRuntimeInfo:             "GET_BROKER_RUNTIME_INFO",
	ReqSearchOffsetByTimestamp:          "SEARCH_OFFSET_BY_TIMESTAMP",
	ReqGetMaxOffset:                     "GET_MAX_OFFSET",
	ReqGetMinOffset:                     "GET_MIN_OFFSET",
	ReqGetEarliestStoreTime:             "GET_EARLIEST_MSG_STORETIME",
	ReqViewMessageByID:                  "VIEW_MESSAGE_BY_ID",
	ReqHeartbeat:                        "HEART_BEAT",
	ReqUnregisterClient:                 "UNREGISTER_CLIENT",
	ReqSendBack:                         "CONSUMER_SEND_MSG_BACK",
	ReqEndTransaction:                   "END_TRANSACTION",
	ReqGetConsumerListByGroup:           "GET_CONSUMER_LIST_BY_GROUP",
	ReqCheckTransactionState:            "CHECK_TRANSACTION_STATE",
	ReqNotifyConsumerIDsChanged:         "NOTIFY_CONSUMER_IDS_CHANGED",
	ReqLockBatch:                        "LOCK_BATCH_MQ",
	ReqUnlockBatch:                      "UNLOCK_BATCH_MQ",
	ReqGetAllConsumerOffset:             "GET_ALL_CONSUMER_OFFSET",
	ReqGetAllDelayOffset:                "GET_ALL_DELAY_OFFSET",
	ReqCheckClientConfig:                "CHECK_CLIENT_CONFIG",
	ReqGetClientConfig:                  "GET_CLIENT_CONFIG",
	ReqUpdateAndCreateACLConfig:         "UPDATE_AND_CREATE_ACL_CONFIG",
	ReqDeleteACLConfig:                  "DELETE_ACL_CONFIG",
	ReqGetBrokerClusterACLInfo:          "GET_BROKER_CLUSTER_ACL_INFO",
	ReqUpdateGlobalWhiteAddrsConfig:     "UPDATE_GLOBAL_WHITE_ADDRS_CONFIG",
	ReqGetBrokerClusterACLConfig:        "GET_BROKER_CLUSTER_ACL_CONFIG",
	ReqGetTimerCheckPoint:               "GET_TIMER_CHECK_POINT",
	ReqGetTimerMetrics:                  "GET_TIMER_METRICS",
	ReqPutKVConfig:                      "PUT_KV_CONFIG",
	ReqGetKVConfig:                      "GET_KV_CONFIG",
	ReqDeleteKVConfig:                   "DELETE_KV_CONFIG",
	ReqRegisterBroker:                   "REGISTER_BROKER",
	ReqUnregisterBroker:                 "UNREGISTER_BROKER",
	ReqGetRoute:                         "GET_ROUTEINFO_BY_TOPIC",
	ReqGetClusterInfo:                   "GET_BROKER_CLUSTER_INFO",
	ReqCreateGroup:                      "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP",
	ReqGetAllGroupConfig:                "GET_ALL_SUBSCRIPTIONGROUP_CONFIG",
	ReqGetTopicStats:                    "GET_TOPIC_STATS_INFO",
	ReqGetConsumerConnections:           "GET_CONSUMER_CONNECTION_LIST",
	ReqGetProducerConnections:           "GET_PRODUCER_CONNECTION_LIST",
	ReqWipeWritePerm:                    "WIPE_WRITE_PERM_OF_BROKER",
	ReqGetAllTopicList:                  "GET_ALL_TOPIC_LIST_FROM_NAMESERVER",
	ReqDeleteGroup:                      "DELETE_SUBSCRIPTIONGROUP",
	ReqGetConsumeStats:                  "GET_CONSUME_STATS",
	ReqDeleteTopicInBroker:              "DELETE_TOPIC_IN_BROKER",
	ReqDeleteTopicInNameServer:          "DELETE_TOPIC_IN_NAMESRV",
	ReqRegisterTopicInNameServer:        "REGISTER_TOPIC_IN_NAMESRV",
	ReqGetKVList:                        "GET_KVLIST_BY_NAMESPACE",
	ReqResetConsumerClientOffset:        "RESET_CONSUMER_CLIENT_OFFSET",
	ReqGetConsumerStatusFromClient:      "GET_CONSUMER_STATUS_FROM_CLIENT",
	ReqInvokeBrokerToResetOffset:        "INVOKE_BROKER_TO_RESET_OFFSET",
	ReqInvokeBrokerToGetConsumerStatus:  "INVOKE_BROKER_TO_GET_CONSUMER_STATUS",
	ReqGetTopicsByCluster:               "GET_TOPICS_BY_CLUSTER",
	ReqCreateGroups:                     "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST",
	ReqQueryTopicConsumeByWho:           "QUERY_TOPIC_CONSUME_BY_WHO",
	ReqQueryConsumeTimeSpan:             "QUERY_CONSUME_TIME_SPAN",
	ReqGetSystemTopicListFromNameServer: "GET_SYSTEM_TOPIC_LIST_FROM_NS",
	ReqGetSystemTopicListFromBroker:     "GET_SYSTEM_TOPIC_LIST_FROM_BROKER",
	ReqCleanExpiredConsumeQueue:         "CLEAN_EXPIRED_CONSUMEQUEUE",
	ReqGetConsumerRunningInfo:           "GET_CONSUMER_RUNNING_INFO",
	ReqQueryCorrectionOffset:            "QUERY_CORRECTION_OFFSET",
	ReqConsumeMessageDirectly:           "CONSUME_MESSAGE_DIRECTLY",
	ReqSendMessageV2:                    "SEND_MESSAGE_V2",
	ReqGetUnitTopicList:                 "GET_UNIT_TOPIC_LIST",
	ReqGetHasUnitSubTopicList:           "GET_HAS_UNIT_SUB_TOPIC_LIST",
	ReqGetHasUnitSubNoUnitTopicList:     "GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST",
	ReqCloneGroupOffset:                 "CLONE_GROUP_OFFSET",
	ReqViewBrokerStats:                  "VIEW_BROKER_STATS_DATA",
	ReqCleanUnusedTopic:                 "CLEAN_UNUSED_TOPIC",
	ReqGetBrokerConsumeStats:            "GET_BROKER_CONSUME_STATS",
	ReqUpdateNameServerConfig:           "UPDATE_NAMESRV_CONFIG",
	ReqGetNameServerConfig:              "GET_NAMESRV_CONFIG",
	ReqSendBatch:                        "SEND_BATCH_MESSAGE",
	ReqQueryConsumeQueue:                "QUERY_CONSUME_QUEUE",
	ReqQueryDataVersion:                 "QUERY_DATA_VERSION",
	ReqResumeCheckHalfMessage:           "RESUME_CHECK_HALF_MESSAGE",
	ReqSendReply:                        "SEND_REPLY_MESSAGE",
	ReqSendReplyV2:                      "SEND_REPLY_MESSAGE_V2",
	ReqPushReply:                        "PUSH_REPLY_MESSAGE_TO_CLIENT",
	ReqAddWritePerm:                     "ADD_WRITE_PERM_OF_BROKER",
	ReqGetAllProducerInfo:               "GET_ALL_PRODUCER_INFO",
	ReqDeleteExpiredCommitLog:           "DELETE_EXPIRED_COMMITLOG",
	ReqQueryTopicsByConsumer:            "QUERY_TOPICS_BY_CONSUMER",
	ReqQuerySubscriptionByConsumer:      "QUERY_SUBSCRIPTION_BY_CONSUMER",
	ReqGetTopicConfig:                   "GET_TOPIC_CONFIG",
	ReqGetGroupConfig:                   "GET_SUBSCRIPTIONGROUP_CONFIG",
	ReqGroupForbidden:                   "UPDATE_AND_GET_GROUP_FORBIDDEN",
	ReqCheckRocksDBCQWriteProgress:      "CHECK_ROCKSDB_CQ_WRITE_PROGRESS",
	ReqExportRocksDBConfigToJSON:        "EXPORT_ROCKSDB_CONFIG_TO_JSON",
	ReqLitePullMessage:                  "LITE_PULL_MESSAGE",
	ReqRecallMessage:                    "RECALL_MESSAGE",
	ReqQueryAssignment:                  "QUERY_ASSIGNMENT",
	ReqSetMessageRequestMode:            "SET_MESSAGE_REQUEST_MODE",
	ReqGetAllMessageRequestMode:         "GET_ALL_MESSAGE_REQUEST_MODE",
	ReqCreateStaticTopic:                "UPDATE_AND_CREATE_STATIC_TOPIC",
	ReqGetBrokerMemberGroup:             "GET_BROKER_MEMBER_GROUP",
	ReqBrokerHeartbeat:                  "BROKER_HEARTBEAT",
	ReqNotifyMinBrokerIDChange:          "NOTIFY_MIN_BROKER_ID_CHANGE",
	ReqExchangeBrokerHAInfo:             "EXCHANGE_BROKER_HA_INFO",
	ReqGetBrokerHAStatus:                "GET_BROKER_HA_STATUS",
	ReqResetMasterFlushOffset:           "RESET_MASTER_FLUSH_OFFSET",
	ReqAuthCreateUser:                   "AUTH_CREATE_USER",
	ReqAuthUpdateUser:                   "AUTH_UPDATE_USER",
	ReqAuthDeleteUser:                   "AUTH_DELETE_USER",
	ReqAuthGetUser:                      "AUTH_GET_USER",
	ReqAuthListUser:                     "AUTH_LIST_USER",
	ReqAuthCreateACL:                    "AUTH_CREATE_ACL",
	ReqAuthUpdateACL:                    "AUTH_UPDATE_ACL",
	ReqAuthDeleteACL:                    "AUTH_DELETE_ACL",
	ReqAuthGetACL:                       "AUTH_GET_ACL",
	ReqAuthListACL:                      "AUTH_LIST_ACL",
	ReqPopMessage:                       "POP_MESSAGE",
	ReqAckMessage:                       "ACK_MESSAGE",
	ReqPeekMessage:                      "PEEK_MESSAGE",
	ReqChangeMessageInvisibleTime:       "CHANGE_MESSAGE_INVISIBLETIME",
	ReqNotification:                     "NOTIFICATION",
	ReqPollingInfo:                      "POLLING_INFO",
	ReqPopRollback:                      "POP_ROLLBACK",
	ReqBatchAckMessage:                  "BATCH_ACK_MESSAGE",
	13:                                  "QUERY_BROKER_OFFSET",
	22:                                  "GET_TOPIC_CONFIG_LIST",
	23:                                  "GET_TOPIC_NAME_LIST",
	27:                                  "TRIGGER_DELETE_FILES",
	209:                                 "SUSPEND_CONSUMER",
	210:                                 "RESUME_CONSUMER",
	211:                                 "RESET_CONSUMER_OFFSET_IN_CONSUMER",
	212:                                 "RESET_CONSUMER_OFFSET_IN_BROKER",
	213:                                 "ADJUST_CONSUMER_THREAD_POOL",
	214:                                 "WHO_CONSUME_THE_MESSAGE",
	301:                                 "REGISTER_FILTER_SERVER",
	302:                                 "REGISTER_MESSAGE_FILTER_CLASS",
	902:                                 "ADD_BROKER",
	903:                                 "REMOVE_BROKER",
}

// RequestName is the name of a request code as RocketMQ's documentation has
// it, or its digits.
func RequestName(code int) string {
	if name, ok := requestNames[code]; ok {
		return name
	}
	return strconv.Itoa(code)
}
