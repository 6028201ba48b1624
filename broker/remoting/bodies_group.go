package remoting

// SubscriptionGroupConfig is the configuration of a consumer group: the body
// of [ReqCreateGroup] and of the response to [ReqGetGroupConfig].
type SubscriptionGroupConfig struct {
	Name                 string
	ConsumeEnable        bool
	ConsumeFromMinEnable bool
	BroadcastEnable      bool
	Orderly              bool
	// RetryQueues is how many queues the retry topic has.
	RetryQueues int32
	// RetryMaxTimes is how often a message is tried again.
	RetryMaxTimes int32
	// TimeoutMinutes is how long a message may take.
	TimeoutMinutes int32
	// NotifyIDsChanged: members are told when others come and go.
	NotifyIDsChanged bool
	BrokerID         int64
	// WhichBrokerWhenSlow is the id of the broker to read from then.
	WhichBrokerWhenSlow int64
	SysFlag             int32
	// RetryPolicy is the JSON of an object that is not looked into.
	RetryPolicy string
	Attributes  Fields
}

// DefaultGroupConfig is what a group has unless it says otherwise.
func DefaultGroupConfig(name string) SubscriptionGroupConfig {
	return SubscriptionGroupConfig{
		Name: name, ConsumeEnable: true, ConsumeFromMinEnable: true, BroadcastEnable: true, RetryQueues: 1, RetryMaxTimes: 16,
		TimeoutMinutes: 15, NotifyIDsChanged: true, WhichBrokerWhenSlow: 1, RetryPolicy: `{"type":"CUSTOMIZED"}`,
	}
}

func (s *scanner) group(x *SubscriptionGroupConfig) {
	*x = DefaultGroupConfig("")
	for name := range s.members() {
		switch name {
		case "attributes":
			x.Attributes = s.table()
		case "brokerId":
			x.BrokerID = s.int64()
		case "consumeBroadcastEnable":
			x.BroadcastEnable = s.flag()
		case "consumeEnable":
			x.ConsumeEnable = s.flag()
		case "consumeFromMinEnable":
			x.ConsumeFromMinEnable = s.flag()
		case "consumeMessageOrderly":
			x.Orderly = s.flag()
		case "consumeTimeoutMinute":
			x.TimeoutMinutes = s.int32()
		case "groupName":
			x.Name = s.text()
		case "groupRetryPolicy":
			if s.peek() == '{' {
				x.RetryPolicy = s.raw()
			} else {
				s.skip()
			}
		case "groupSysFlag":
			x.SysFlag = s.int32()
		case "notifyConsumerIdsChangedEnable":
			x.NotifyIDsChanged = s.flag()
		case "retryMaxTimes":
			x.RetryMaxTimes = s.int32()
		case "retryQueueNums":
			x.RetryQueues = s.int32()
		case "whichBrokerWhenConsumeSlowly":
			x.WhichBrokerWhenSlow = s.int64()
		default:
			s.skip()
		}
	}
}

func writeGroup(w *writer, x *SubscriptionGroupConfig) {
	w.open('{')
	w.table("attributes", x.Attributes)
	w.int("brokerId", x.BrokerID)
	w.bool("consumeBroadcastEnable", x.BroadcastEnable)
	w.bool("consumeEnable", x.ConsumeEnable)
	w.bool("consumeFromMinEnable", x.ConsumeFromMinEnable)
	w.bool("consumeMessageOrderly", x.Orderly)
	w.int("consumeTimeoutMinute", int64(x.TimeoutMinutes))
	w.text("groupName", x.Name)
	if x.RetryPolicy != "" {
		w.name("groupRetryPolicy")
		w.b = append(w.b, x.RetryPolicy...)
	}
	w.int("groupSysFlag", int64(x.SysFlag))
	w.bool("notifyConsumerIdsChangedEnable", x.NotifyIDsChanged)
	w.int("retryMaxTimes", int64(x.RetryMaxTimes))
	w.int("retryQueueNums", int64(x.RetryQueues))
	w.int("whichBrokerWhenConsumeSlowly", x.WhichBrokerWhenSlow)
	w.close('}')
}

// DecodeSubscriptionGroupConfig reads the configuration of a group; members
// that are missing have the values of [DefaultGroupConfig].
func DecodeSubscriptionGroupConfig(b []byte) (SubscriptionGroupConfig, error) {
	return decodeBody("subscription group config", b, (*scanner).group)
}

// AppendTo appends the body.
func (x SubscriptionGroupConfig) AppendTo(b []byte) []byte {
	w := writer{b}
	writeGroup(&w, &x)
	return w.b
}

// GroupConfigList is the body of [ReqCreateGroups].
type GroupConfigList struct{ Groups []SubscriptionGroupConfig }

// DecodeGroupConfigList reads the body of [ReqCreateGroups].
func DecodeGroupConfigList(b []byte) (GroupConfigList, error) {
	return decodeBody("group config list", b, func(s *scanner, x *GroupConfigList) {
		for name := range s.members() {
			if name == "groupConfigList" {
				x.Groups = list(s, (*scanner).group)
				continue
			}
			s.skip()
		}
	})
}

// AppendTo appends the body.
func (x GroupConfigList) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	array(&w, "groupConfigList", x.Groups, writeGroup)
	w.close('}')
	return w.b
}

// GroupTable is the body of the response to [ReqGetAllGroupConfig].
type GroupTable struct {
	Version DataVersion
	Groups  []SubscriptionGroupConfig
}

// DecodeGroupTable reads the response to [ReqGetAllGroupConfig].
func DecodeGroupTable(b []byte) (GroupTable, error) {
	return decodeBody("group table", b, func(s *scanner, x *GroupTable) {
		for name := range s.members() {
			switch name {
			case "dataVersion":
				s.dataVersion(&x.Version)
			case "subscriptionGroupTable":
				for key := range s.members() {
					var g SubscriptionGroupConfig
					s.group(&g)
					if g.Name == "" {
						g.Name = key
					}
					appendTo(s, &x.Groups, g)
				}
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x GroupTable) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.name("dataVersion")
	w.dataVersion(x.Version)
	w.table("forbiddenTable", nil) // new clients fail without it
	w.name("subscriptionGroupTable")
	w.open('{')
	for i := range x.Groups {
		w.name(x.Groups[i].Name)
		writeGroup(&w, &x.Groups[i])
	}
	w.close('}')
	w.close('}')
	return w.b
}

// GroupList is the body of the response to [ReqQueryTopicConsumeByWho].
type GroupList struct{ Groups []string }

// DecodeGroupList reads the response to [ReqQueryTopicConsumeByWho].
func DecodeGroupList(b []byte) (GroupList, error) {
	groups, err := decodeTexts("group list", "groupList", b)
	return GroupList{groups}, err
}

// AppendTo appends the body.
func (x GroupList) AppendTo(b []byte) []byte { return appendTexts(b, "groupList", x.Groups) }

// GroupForbidden is the body of the response to [ReqGroupForbidden].
type GroupForbidden struct {
	Group, Topic string
	Readable     bool
}

// DecodeGroupForbidden reads the response to [ReqGroupForbidden].
func DecodeGroupForbidden(b []byte) (GroupForbidden, error) {
	return decodeBody("group forbidden", b, func(s *scanner, x *GroupForbidden) {
		for name := range s.members() {
			switch name {
			case "group":
				x.Group = s.text()
			case "readable":
				x.Readable = s.flag()
			case "topic":
				x.Topic = s.text()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x GroupForbidden) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.text("group", x.Group)
	w.bool("readable", x.Readable)
	w.text("topic", x.Topic)
	w.close('}')
	return w.b
}

// GroupSubscription is the body of the response to
// [ReqQuerySubscriptionByConsumer].
type GroupSubscription struct {
	Group, Topic string
	Subscription SubscriptionData
}

// DecodeGroupSubscription reads the response to
// [ReqQuerySubscriptionByConsumer].
func DecodeGroupSubscription(b []byte) (GroupSubscription, error) {
	return decodeBody("group subscription", b, func(s *scanner, x *GroupSubscription) {
		for name := range s.members() {
			switch name {
			case "group":
				x.Group = s.text()
			case "subscriptionData":
				s.subscription(&x.Subscription)
			case "topic":
				x.Topic = s.text()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x GroupSubscription) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.text("group", x.Group)
	w.name("subscriptionData")
	writeSubscription(&w, &x.Subscription)
	w.text("topic", x.Topic)
	w.close('}')
	return w.b
}
