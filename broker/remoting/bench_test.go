package remoting_test

import (
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
)

// sendHeader is the header that Apache's Java producer gives a message.
const sendHeader = `{"code":310,"extFields":{"a":"PG_orders","b":"shop.orders","c":"TBW102","d":"4","e":"2","f":"0","g":"1700000000000","h":"0",` +
	`"i":"KEYS\u0001order-4711\u0002UNIQ_KEY\u00010A00000110925FFD2B27000003E80000\u0002WAIT\u0001true\u0002TAGS\u0001created\u0002",` +
	`"j":"0","k":"false","m":"false","n":"broker-a"},"flag":0,"language":"JAVA","opaque":4711,"serializeTypeCurrentRPC":"JSON","version":479}`

// goSendHeader is that of Apache's Go client: long names, other order.
const goSendHeader = `{"code":10,"language":"GO","version":317,"opaque":4711,"flag":0,"remark":"","extFields":{"producerGroup":"PG_orders","topic":"shop.orders",` +
	`"queueId":"2","sysFlag":"0","bornTimestamp":"1700000000000","flag":"0","properties":"UNIQ_KEY\u00010A0000011092000000000000000003e80001\u0002TAGS\u0001created\u0002",` +
	`"reconsumeTimes":"0","unitMode":"false","maxReconsumeTimes":"0","batch":"false","defaultTopic":"TBW102","defaultTopicQueueNums":"4"}}`

func sendFrame(header string) []byte { return append(frame(header), strings.Repeat("x", 1024)...) }

// BenchmarkSend is what a server does for the protocol with each message.
func BenchmarkSend(b *testing.B) {
	for name, header := range map[string]string{"java": sendHeader, "go": goSendHeader} {
		b.Run("decode/"+name, func(b *testing.B) {
			in := sendFrame(header)
			var c remoting.Command
			b.ReportAllocs()
			for b.Loop() {
				if err := remoting.Decode(in, &c, remoting.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("fields/"+name, func(b *testing.B) {
			var c remoting.Command
			if err := remoting.Decode(sendFrame(header), &c, remoting.Limits{}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := remoting.DecodeSend(c.Code, c.Fields); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("respond", func(b *testing.B) {
		c := sendResponse()
		out := make([]byte, 0, 1024)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := remoting.AppendFrame(out, c); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func sendResponse() *remoting.Command {
	c := &remoting.Command{Language: remoting.LanguageGo, Version: remoting.Version, Opaque: 4711, Flag: remoting.FlagResponse}
	remoting.SendResult{
		MsgID: "7F00000100002A9F0000000000001234", QueueID: 2, QueueOffset: 4711, TransactionID: "0A00000110925FFD2B27000003E80000",
		Region: "DefaultRegion", TraceOn: "true",
	}.AppendTo(&c.Fields)
	return c
}

func BenchmarkDecodeBinary(b *testing.B) {
	var c remoting.Command
	if err := remoting.Decode(sendFrame(sendHeader), &c, remoting.Limits{}); err != nil {
		b.Fatal(err)
	}
	c.Binary = true
	in, err := remoting.AppendFrame(nil, &c)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := remoting.Decode(in[4:], &c, remoting.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// The hot path stays within its allocations: two for a header with escapes,
// one without, none for the fields and the response.
func TestAllocations(t *testing.T) {
	plain := strings.NewReplacer(`\u0001`, "\x01", `\u0002`, "\x02").Replace(sendHeader)
	var c remoting.Command
	for header, want := range map[string]float64{sendHeader: 2, goSendHeader: 2, plain: 1} {
		in := sendFrame(header)
		got := testing.AllocsPerRun(100, func() {
			if err := remoting.Decode(in, &c, remoting.Limits{}); err != nil {
				t.Fatal(err)
			}
		})
		if got > want {
			t.Errorf("decode: got %v allocations, want at most %v", got, want)
		}
		if got := testing.AllocsPerRun(100, func() { _, _ = remoting.DecodeSend(c.Code, c.Fields) }); got > 0 {
			t.Errorf("fields of a send: got %v allocations", got)
		}
	}
	response, out := sendResponse(), make([]byte, 0, 1024)
	for range 2 {
		if got := testing.AllocsPerRun(100, func() { _, _ = remoting.AppendFrame(out, response) }); got > 0 {
			t.Errorf("respond, binary %v: got %v allocations", response.Binary, got)
		}
		response.Binary = true
	}
}
