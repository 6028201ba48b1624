package server

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

// The transcripts hold the wire as the clients of others see it: requests are
// written here by hand, in the form of each client, and headers of answers are
// read by a strict reader, so that a mistake on both sides of our own codec
// shows.

// dialect is how a client writes its frames.
type dialect struct {
	name     string
	language string // in the header
	number   byte   // the same in the binary form
	version  int
	form     func(d *dialect, x outgo) []byte // of the header, with its length in front
	first    int32                            // opaque
	// marks: one-way requests have their bit.
	marks bool
	// long: sends have long names, by code 10.
	long bool
	// queue is what it appends to every request beside its fields.
	always []string
	// suspend is how long a push consumer lets a pull be held, in ms.
	suspend string
}

// outgo is a request.
type outgo struct {
	code, flag int
	opaque     int32
	ext        []string // names and values
	body       string
}

var (
	java5 = dialect{name: "java 5.3.3", language: "JAVA", version: 479, form: javaHeader, marks: true, suspend: "15000", always: []string{"bname", "broker-a"}}
	java4 = dialect{name: "java 4.9.8", language: "JAVA", version: 409, form: javaHeader, marks: true, suspend: "15000"}
	// javaBinary has rocketmq.serialize.type=ROCKETMQ.
	javaBinary = dialect{name: "java, binary", language: "JAVA", version: 479, form: binaryHeader, marks: true, suspend: "15000"}
	goV2       = dialect{name: "go v2", language: "GO", number: 9, version: 317, form: goHeader, first: 1, long: true, suspend: "20000", always: []string{"bname", "broker-a"}}
)

// javaHeader writes the members sorted, leaves out what is null, and escapes
// control characters.
func javaHeader(d *dialect, x outgo) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `{"code":%d,`, x.code)
	if len(x.ext) > 0 {
		fmt.Fprintf(&b, `"extFields":%s,`, jsonObject(x.ext))
	}
	fmt.Fprintf(&b, `"flag":%d,"language":%q,"opaque":%d,"serializeTypeCurrentRPC":"JSON","version":%d}`, x.flag, d.language, x.opaque, d.version)
	return headed(0, b.String())
}

// goHeader writes all members, in the order of its struct.
func goHeader(d *dialect, x outgo) []byte {
	ext := "null"
	if len(x.ext) > 0 {
		ext = jsonObject(x.ext)
	}
	return headed(0, fmt.Sprintf(`{"code":%d,"language":%q,"version":%d,"opaque":%d,"flag":%d,"remark":"","extFields":%s}`,
		x.code, d.language, d.version, x.opaque, x.flag, ext))
}

// binaryHeader is the form ROCKETMQ.
func binaryHeader(d *dialect, x outgo) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(x.code))
	b = append(b, d.number)
	b = binary.BigEndian.AppendUint16(b, uint16(d.version))
	b = binary.BigEndian.AppendUint32(b, uint32(x.opaque))
	b = binary.BigEndian.AppendUint32(b, uint32(x.flag))
	b = binary.BigEndian.AppendUint32(b, 0) // no remark
	var ext []byte
	for i := 0; i+1 < len(x.ext); i += 2 {
		ext = append(binary.BigEndian.AppendUint16(ext, uint16(len(x.ext[i]))), x.ext[i]...)
		ext = append(binary.BigEndian.AppendUint32(ext, uint32(len(x.ext[i+1]))), x.ext[i+1]...)
	}
	return headed(1, string(append(binary.BigEndian.AppendUint32(b, uint32(len(ext))), ext...)))
}

func headed(form byte, header string) []byte {
	return append([]byte{form, byte(len(header) >> 16), byte(len(header) >> 8), byte(len(header))}, header...)
}

func jsonObject(pairs []string) string {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// heard is a frame of the server.
type heard struct {
	Code     int               `json:"code"`
	Language string            `json:"language"`
	Version  int               `json:"version"`
	Opaque   int32             `json:"opaque"`
	Flag     int               `json:"flag"`
	Remark   string            `json:"remark"`
	Ext      map[string]string `json:"extFields"`
	body     []byte
}

// talker is a client whose frames are written and read by hand.
type talker struct {
	t      *testing.T
	d      *dialect
	conn   net.Conn
	opaque int32
	frames chan heard
	failed chan error
}

// talk connects a client. It is for bubbles of time: silence is certain there.
func (b *bundle) talk(t *testing.T, d *dialect, address string) *talker {
	t.Helper()
	near, far := net.Pipe()
	b.pipes.offered <- &placed{far, address}
	k := &talker{t: t, d: d, conn: near, opaque: d.first, frames: make(chan heard, 256), failed: make(chan error, 1)}
	go k.listen()
	t.Cleanup(k.leave)
	return k
}

// placed is a pipe that comes from an address.
type placed struct {
	net.Conn
	from string
}

func (p *placed) RemoteAddr() net.Addr { return placedAddr(p.from) }

type placedAddr string

func (placedAddr) Network() string  { return "tcp" }
func (a placedAddr) String() string { return string(a) }

// leave closes the connection, as clients do that say nothing before.
func (k *talker) leave() {
	_ = k.conn.Close()
	synctest.Wait()
}

func (k *talker) listen() {
	for {
		x, err := readHeard(k.conn)
		if err != nil {
			k.failed <- err
			close(k.frames)
			return
		}
		k.frames <- x
	}
}

// readHeard reads a frame. RocketMQ 5 answers, and asks, by JSON headers
// whatever the form of the requests.
func readHeard(r io.Reader) (x heard, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return x, err
	}
	total, mark := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:])
	n := mark & 0xFFFFFF
	if mark>>24 != 0 || n+4 > total || total > 16<<20 {
		return x, fmt.Errorf("frame of %d bytes with mark %#x", total, mark)
	}
	rest := make([]byte, total-4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return x, err
	}
	d := json.NewDecoder(bytes.NewReader(rest[:n]))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return x, fmt.Errorf("header %s: %w", rest[:n], err)
	}
	if x.Language != "GO" || x.Version != 479 {
		return x, fmt.Errorf("header %s: it is not of GO, version 479", rest[:n])
	}
	x.body = rest[n:]
	return x, nil
}

// say sends a request and answers its opaque.
func (k *talker) say(code int, body string, ext ...string) int32 {
	k.t.Helper()
	return k.put(outgo{code: code, body: body, ext: ext})
}

// oneWay sends a request that wants no answer.
func (k *talker) oneWay(code int, body string, ext ...string) int32 {
	k.t.Helper()
	x := outgo{code: code, body: body, ext: ext}
	if k.d.marks {
		x.flag = 2
	}
	return k.put(x)
}

func (k *talker) put(x outgo) int32 {
	k.t.Helper()
	if x.flag&1 == 0 { // not an answer
		x.opaque = k.opaque
		k.opaque++
		if x.body == "" {
			x.ext = append(slices.Clone(x.ext), k.d.always...)
		}
	}
	head := k.d.form(k.d, x)
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(head)+len(x.body)))
	frame = append(append(frame, head...), x.body...)
	if _, err := k.conn.Write(frame); err != nil {
		k.t.Fatalf("%s: send %d: %v", k.d.name, x.code, err)
	}
	return x.opaque
}

// hear reads the next frame, which must come without time passing.
func (k *talker) hear() heard {
	k.t.Helper()
	synctest.Wait()
	select {
	case x, ok := <-k.frames:
		if !ok {
			k.t.Fatalf("%s: the connection ended: %v", k.d.name, <-k.failed)
		}
		return x
	default:
		k.t.Fatalf("%s: nothing comes", k.d.name)
	}
	return heard{}
}

// silence fails if there is a frame.
func (k *talker) silence(why string) {
	k.t.Helper()
	synctest.Wait()
	select {
	case x, ok := <-k.frames:
		k.t.Fatalf("%s: %s: got %d %q %v (open %v), want silence", k.d.name, why, x.Code, x.Remark, x.Ext, ok)
	default:
	}
}

// answer reads the answer to a request.
func (k *talker) answer(opaque int32) heard {
	k.t.Helper()
	x := k.hear()
	if x.Flag != 1 || x.Opaque != opaque {
		k.t.Fatalf("%s: got code %d with flag %d, opaque %d, want the answer to %d", k.d.name, x.Code, x.Flag, x.Opaque, opaque)
	}
	return x
}

// call sends a request and reads its answer, which has the code.
func (k *talker) call(want, code int, body string, ext ...string) heard {
	k.t.Helper()
	x := k.answer(k.say(code, body, ext...))
	if x.Code != want {
		k.t.Fatalf("%s: %d is answered %d %q %v, want %d", k.d.name, code, x.Code, x.Remark, x.Ext, want)
	}
	return x
}

// exactly is call for an answer with just these fields, and this body.
func (k *talker) exactly(body string, fields []string, code int, request string, ext ...string) {
	k.t.Helper()
	x := k.call(0, code, request, ext...)
	k.fields(x, fields...)
	if string(x.body) != body {
		k.t.Fatalf("%s: %d has the body\n%s\nwant\n%s", k.d.name, code, x.body, body)
	}
}

// fields fails unless a frame has just these fields; "+" stands for any value
// that is not empty.
func (k *talker) fields(x heard, pairs ...string) {
	k.t.Helper()
	want := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		want[pairs[i]] = pairs[i+1]
	}
	got := maps.Clone(x.Ext)
	for name, value := range want {
		if value == "+" && got[name] != "" {
			got[name] = "+"
		}
	}
	if !maps.Equal(got, want) {
		k.t.Fatalf("%s: code %d has the fields\n%v\nwant\n%v", k.d.name, x.Code, x.Ext, want)
	}
}

// told reads a notice (40) that the members of a group have changed.
func (k *talker) told(group string) {
	k.t.Helper()
	x := k.hear()
	if x.Code != 40 || x.Flag != 2 || len(x.body) != 0 {
		k.t.Fatalf("%s: got code %d with flag %d, want a notice", k.d.name, x.Code, x.Flag)
	}
	k.fields(x, "consumerGroup", group)
}

// reply answers a request of the server.
func (k *talker) reply(to heard, code int, body string) {
	k.t.Helper()
	k.put(outgo{code: code, flag: 1, opaque: to.Opaque, body: body})
}

// records decodes stored messages that follow each other.
func (k *talker) records(b []byte) (ms []message.Stored) {
	k.t.Helper()
	for len(b) > 0 {
		m, n, err := message.Decode(b)
		if err != nil {
			k.t.Fatal(err)
		}
		ms = append(ms, m)
		b = b[n:]
	}
	return ms
}

// letters are the short names of the fields of a send.
var letters = map[string]string{
	"producerGroup": "a", "topic": "b", "defaultTopic": "c", "defaultTopicQueueNums": "d", "queueId": "e", "sysFlag": "f",
	"bornTimestamp": "g", "flag": "h", "properties": "i", "reconsumeTimes": "j", "unitMode": "k", "maxReconsumeTimes": "l", "batch": "m",
}

// sending are code and fields of a send as the client writes them; more
// replaces what is normally there.
func (k *talker) sending(group, topic string, queue int, properties string, more ...string) (code int, ext []string) {
	fields := map[string]string{
		"producerGroup": group, "topic": topic, "defaultTopic": "TBW102", "defaultTopicQueueNums": "4", "queueId": strconv.Itoa(queue),
		"sysFlag": "0", "bornTimestamp": "1700000000000", "flag": "0", "properties": properties, "reconsumeTimes": "0", "unitMode": "false", "batch": "false",
	}
	if k.d.long {
		fields["maxReconsumeTimes"] = "0"
	}
	for i := 0; i+1 < len(more); i += 2 {
		fields[more[i]] = more[i+1]
	}
	if code = 310; k.d.long {
		code = 10
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if k.d.long {
			ext = append(ext, name, fields[name])
		} else {
			ext = append(ext, letters[name], fields[name])
		}
	}
	return code, ext
}

// sent sends a message and answers the fields of the answer, of which there are
// no others.
func (k *talker) sent(group, topic string, queue int, body, properties string, more ...string) map[string]string {
	k.t.Helper()
	code, ext := k.sending(group, topic, queue, properties, more...)
	x := k.call(0, code, body, ext...)
	k.fields(x, "msgId", "+", "queueId", strconv.Itoa(queue), "queueOffset", "+", "transactionId", "+", "MSG_REGION", "DefaultRegion", "TRACE_ON", "true")
	if len(x.body) != 0 {
		k.t.Fatalf("%s: the answer to a send has a body", k.d.name)
	}
	return x.Ext
}

// pulling are the fields of a pull.
func (k *talker) pulling(group, topic string, queue int, offset int64, sysFlag int, more ...string) []string {
	ext := []string{
		"consumerGroup", group, "topic", topic, "queueId", strconv.Itoa(queue), "queueOffset", strconv.FormatInt(offset, 10),
		"maxMsgNums", "32", "sysFlag", strconv.Itoa(sysFlag), "commitOffset", "0", "suspendTimeoutMillis", k.d.suspend, "subVersion", "0",
		"expressionType", "TAG",
	}
	if k.d.number == 9 {
		ext = append(ext, "subscription", "") // always there
	}
	return append(ext, more...)
}

// position fails unless a pull is answered with code and the four fields that
// Java takes for granted.
func (k *talker) position(x heard, code int, next, least, most string) {
	k.t.Helper()
	if x.Code != code {
		k.t.Fatalf("%s: a pull is answered %d %q, want %d", k.d.name, x.Code, x.Remark, code)
	}
	k.fields(x, "suggestWhichBrokerId", "0", "nextBeginOffset", next, "minOffset", least, "maxOffset", most)
}

// beating is the body of a heartbeat of a consumer: Java and Go v2 write it in
// ways of their own.
func (k *talker) beating(id, group, kind, model, from string, subs ...string) string {
	var list []string
	for i := 0; i+1 < len(subs); i += 2 {
		var tags, codes []string
		if subs[i+1] != "*" {
			for tag := range strings.SplitSeq(subs[i+1], "||") {
				tag = strings.TrimSpace(tag)
				tags, codes = append(tags, strconv.Quote(tag)), append(codes, strconv.Itoa(int(message.TagCode(tag))))
			}
		}
		format, version := `{"classFilterMode":false,"codeSet":[%[2]s],"expressionType":"TAG","subString":%[3]q,"subVersion":%[4]s,"tagsSet":[%[1]s],"topic":%[5]q}`, "1700000000000"
		if k.d.number == 9 {
			format, version = `{"classFilterMode":false,"topic":%[5]q,"subString":%[3]q,"tagsSet":[%[1]s],"codeSet":[%[2]s],"subVersion":%[4]s,"expressionType":"TAG"}`, "1700000000000000000"
			for i, c := range codes {
				codes[i] = strconv.Quote(c)
			}
		}
		list = append(list, fmt.Sprintf(format, strings.Join(tags, ","), strings.Join(codes, ","), subs[i+1], version, subs[i]))
	}
	all := strings.Join(list, ",")
	if k.d.number == 9 {
		return fmt.Sprintf(`{"clientID":%q,"producerDataSet":[],"consumerDataSet":[{"groupName":%q,"consumeType":%q,"messageModel":%q,"consumeFromWhere":%q,"subscriptionDataSet":[%s],"unitMode":false}]}`,
			id, group, kind, model, from, all)
	}
	return fmt.Sprintf(`{"clientID":%q,"consumerDataSet":[{"consumeFromWhere":%q,"consumeType":%q,"groupName":%q,"messageModel":%q,"subscriptionDataSet":[%s],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"CLIENT_INNER_PRODUCER"}],"withoutSub":false}`,
		id, from, kind, group, model, all)
}

// beat sends a heartbeat and reads its answer.
func (k *talker) beat(body string) {
	k.t.Helper()
	k.exactly("", nil, 34, body)
}

// routeBody is the route of a topic.
func routeBody(perm, queues int) string {
	return fmt.Sprintf(`{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:9876"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],`+
		`"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":%d,"readQueueNums":%d,"topicSysFlag":0,"writeQueueNums":%[2]d}]}`, perm, queues)
}

// inBubble runs a conversation once for each dialect.
func inBubble(t *testing.T, dialects []*dialect, f func(t *testing.T, d *dialect)) {
	t.Helper()
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { f(t, d) })
		})
	}
}
