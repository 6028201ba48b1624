package remoting_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting"
)

type appender interface{ AppendTo(*remoting.Fields) }

// request holds a header struct to its reader: what is written reads the same.
func request[X appender](decode func(remoting.Fields) (X, error)) func(*rapid.T) {
	return func(t *rapid.T) {
		want := rapid.Make[X]().Draw(t, "fields")
		var f remoting.Fields
		want.AppendTo(&f)
		got, err := decode(f)
		if err != nil {
			t.Fatalf("read %+v: %v", f, err)
		}
		var again remoting.Fields
		got.AppendTo(&again)
		if !slices.Equal(again, f) {
			t.Fatalf("got %+v\nwant %+v", again, f)
		}
	}
}

func TestRequests_RoundTrip(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]func(*rapid.T){
		"send result":       request(remoting.DecodeSendResult),
		"send back":         request(remoting.DecodeSendBack),
		"end transaction":   request(remoting.DecodeEndTransaction),
		"check transaction": request(remoting.DecodeCheckTransaction),
		"push reply":        request(remoting.DecodePushReply),
		"pull message":      request(remoting.DecodePullMessage),
		"pull result":       request(remoting.DecodePullResult),
		"query message":     request(remoting.DecodeQueryMessage),
		"query result":      request(remoting.DecodeQueryResult),
		"view message":      request(remoting.DecodeViewMessage),
		"query offset":      request(remoting.DecodeQueryOffset),
		"update offset":     request(remoting.DecodeUpdateOffset),
		"search offset":     request(remoting.DecodeSearchOffset),
		"queue offset":      request(remoting.DecodeQueueOffset),
		"reset offset":      request(remoting.DecodeResetOffset),
		"create topic":      request(remoting.DecodeCreateTopic),
		"unregister client": request(remoting.DecodeUnregisterClient),
		"consume directly":  request(remoting.DecodeConsumeDirectly),
		"clone offset":      request(remoting.DecodeCloneOffset),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, check)
		})
	}
}

func drawSend(t *rapid.T) remoting.SendMessage {
	x := rapid.Make[remoting.SendMessage]().Draw(t, "send")
	x.MaxReconsumeTimes = max(x.MaxReconsumeTimes, -1)
	return x
}

// Every code of a send has its own names, and knows only those.
func TestSend_NamesByCode(t *testing.T) {
	t.Parallel()
	long := []int{remoting.ReqSendMessage, remoting.ReqSendReply}
	short := []int{remoting.ReqSendMessageV2, remoting.ReqSendBatch, remoting.ReqSendReplyV2}
	rapid.Check(t, func(t *rapid.T) {
		want := drawSend(t)
		own, other := long, short
		if rapid.Bool().Draw(t, "short") {
			own, other = short, long
		}
		code := rapid.SampledFrom(own).Draw(t, "code")
		var f remoting.Fields
		want.AppendTo(code, &f)
		if got, err := remoting.DecodeSend(code, f); err != nil || got != want {
			t.Fatalf("code %d: got %+v, %v\nwant %+v", code, got, err, want)
		}
		_, err := remoting.DecodeSend(rapid.SampledFrom(other).Draw(t, "other code"), f)
		var e *remoting.FieldError
		if !errors.As(err, &e) || len(e.Missing) != 8 {
			t.Fatalf("with the names of another code: got %v, want 8 missing fields", err)
		}
	})
}

func TestSend_WireNames(t *testing.T) {
	t.Parallel()
	x := remoting.SendMessage{
		ProducerGroup: "PG", Topic: "T", DefaultTopic: "TBW102", DefaultTopicQueues: 4, QueueID: -1, SysFlag: 8, BornTimestamp: 1700000000000,
		Flag: 5, Properties: "a\x01b\x02", ReconsumeTimes: 3, UnitMode: true, MaxReconsumeTimes: 16, Batch: true, BrokerName: "b",
	}
	var short, long remoting.Fields
	x.AppendTo(remoting.ReqSendMessageV2, &short)
	x.AppendTo(remoting.ReqSendMessage, &long)
	const want = "a=PG b=T c=TBW102 d=4 e=-1 f=8 g=1700000000000 h=5 i=a\x01b\x02 j=3 k=true l=16 m=true n=b"
	if got := spell(short); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	const wantLong = "producerGroup=PG topic=T defaultTopic=TBW102 defaultTopicQueueNums=4 queueId=-1 sysFlag=8 bornTimestamp=1700000000000 " +
		"flag=5 properties=a\x01b\x02 reconsumeTimes=3 unitMode=true maxReconsumeTimes=16 batch=true bname=b"
	if got := spell(long); got != wantLong {
		t.Errorf("got %q\nwant %q", got, wantLong)
	}
}

func spell(f remoting.Fields) string {
	var out []string
	for _, x := range f {
		out = append(out, x.Name+"="+x.Value)
	}
	return strings.Join(out, " ")
}

// One error names everything that is wrong.
func TestFieldError(t *testing.T) {
	t.Parallel()
	f := remoting.Fields{
		{Name: "topic", Value: "T"},
		{Name: "queueId", Value: "x"},
		{Name: "queueOffset", Value: "9223372036854775808"},
		{Name: "maxMsgNums", Value: "2147483648"},
		{Name: "sysFlag", Value: ""},
		{Name: "suspendTimeoutMillis", Value: "1.5"},
	}
	_, err := remoting.DecodePullMessage(f)
	const want = `read fields of pull message: missing consumerGroup, sysFlag, commitOffset, subVersion, ` +
		`bad queueId "x", bad queueOffset "9223372036854775808", bad maxMsgNums "2147483648", bad suspendTimeoutMillis "1.5"`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %v", err, want)
	}
	_, err = remoting.DecodeSend(remoting.ReqSendMessageV2, remoting.Fields{
		{Name: "a", Value: "PG"},
		{Name: "b", Value: "T"},
		{Name: "c", Value: ""},
		{Name: "d", Value: "4"},
		{Name: "e", Value: ""},
		{Name: "f", Value: "0"},
		{Name: "g", Value: "-"},
		{Name: "h", Value: "0"},
		{Name: "m", Value: "yes"},
	})
	var e *remoting.FieldError
	if !errors.As(err, &e) || !slices.Equal(e.Missing, []string{"e"}) ||
		!reflect.DeepEqual(e.Bad, []remoting.Field{{Name: "g", Value: "-"}, {Name: "m", Value: "yes"}}) {
		t.Errorf("got %+v", err)
	}
	_, err = remoting.DecodePushReply(remoting.Fields{{Name: "h", Value: "0"}})
	if !errors.As(err, &e) || len(e.Missing) != 8+3 {
		t.Errorf("push reply: got %+v", err)
	}
}

func TestFieldReader_Types(t *testing.T) {
	t.Parallel()
	d := remoting.ReadFields("test", remoting.Fields{
		{Name: "i", Value: "-2147483648"},
		{Name: "l", Value: "-9223372036854775808"},
		{Name: "b", Value: "TRUE"},
		{Name: "e", Value: ""},
		{Name: "i", Value: "2147483647"}, // a later one wins
		{Name: "f", Value: "false"},
	})
	if d.Int32("i") != 2147483647 || d.Int64("l") != -9223372036854775808 || !d.Bool("b") || d.Bool("f") || d.Text("e") != "" {
		t.Error("a value is wrong")
	}
	if d.OptInt32("e", 7) != 7 || d.OptInt64("none", 8) != 8 || !d.OptBool("e", true) || d.OptText("none") != "" {
		t.Error("a default is wrong")
	}
	if err := d.Err(); err != nil {
		t.Error(err)
	}
	if d.Bool("e"); d.Err() == nil {
		t.Error("an empty truth value was accepted")
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	need := remoting.Fields{{Name: "topic", Value: "T"}, {Name: "group", Value: "G"}, {Name: "consumerGroup", Value: "G"}, {Name: "queueId", Value: "1"}, {Name: "timestamp", Value: "-1"}}
	if x, err := remoting.DecodeResetOffset(need); err != nil || x.QueueID != 1 || x.Offset != -1 || x.Timestamp != -1 || x.Force {
		t.Errorf("%+v, %v", x, err)
	}
	if x, err := remoting.DecodeQueueOffset(need); err != nil || !x.Committed {
		t.Errorf("%+v, %v", x, err)
	}
	if x, err := remoting.DecodeQueryOffset(need); err != nil || !x.ZeroIfNotFound {
		t.Errorf("%+v, %v", x, err)
	}
	need.Add("boundaryType", "Upper")
	if x, err := remoting.DecodeSearchOffset(need); err != nil || !x.Upper {
		t.Errorf("%+v, %v", x, err)
	}
}
