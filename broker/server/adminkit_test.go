package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// wantCode asks and fails on another answer than code.
func (p *peer) wantCode(code int, cmd *remoting.Command) *remoting.Command {
	p.t.Helper()
	a := p.ask(cmd)
	if a.Code != code {
		p.t.Fatalf("request %d %v: got code %d %q, want %d", cmd.Code, cmd.Fields, a.Code, a.Remark, code)
	}
	return a
}

// wantBody asks and fails on another body than want.
func (p *peer) wantBody(want string, cmd *remoting.Command) {
	p.t.Helper()
	if a := p.wantCode(remoting.ResSuccess, cmd); string(a.Body) != want {
		p.t.Errorf("request %d %v: got\n%s\nwant\n%s", cmd.Code, cmd.Fields, a.Body, want)
	}
}

// withBody makes a request with a body.
func withBody(code int, body string, pairs ...string) *remoting.Command {
	cmd := request(code, pairs...)
	cmd.Body = []byte(body)
	return cmd
}

// topic makes a topic by 17.
func (p *peer) topic(name string, queues int) {
	p.t.Helper()
	p.wantCode(remoting.ResSuccess, createTopicRequest(name, queues, queues))
}

func createTopicRequest(name string, read, write int, more ...string) *remoting.Command {
	return request(remoting.ReqCreateTopic, append([]string{
		"topic", name, "defaultTopic", message.AutoCreateTopic, "readQueueNums", fmt.Sprint(read), "writeQueueNums", fmt.Sprint(write),
		"perm", "6", "topicFilterType", "SINGLE_TAG", "order", "false",
	}, more...)...)
}

// put stores messages as clients do, with the properties of one of them.
func (b *bundle) put(t *testing.T, topic string, queue, n int, properties string) []embedded.PutResult {
	t.Helper()
	puts := make([]embedded.Put, n)
	for i := range puts {
		puts[i] = embedded.Put{Topic: topic, Queue: queue, BornMs: time.Now().UnixMilli(), Body: fmt.Appendf(nil, "body %d", i), Properties: []byte(properties)}
	}
	results, err := b.store.Put(puts).Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return results
}

// commit sets the position of a group and waits until the store lists it, which
// takes it up to a second.
func (b *bundle) commit(t *testing.T, group, topic string, queue int, offset int64) {
	t.Helper()
	b.store.Cursor(group, topic, queue).Commit(offset)
	eventually(t, func() bool { return slices.Contains(b.store.Consumed(group), topic) })
}

// eventually waits for a condition.
func eventually(t *testing.T, good func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		if good() {
			return
		}
		<-tick.C
	}
	t.Fatal("it has not happened in ten seconds")
}

// join registers a consumer by a heartbeat.
func (p *peer) join(id, group, model string, topics ...string) {
	p.t.Helper()
	data := remoting.ConsumerData{
		Group: group, ConsumeType: remoting.ConsumePassively, MessageModel: model, ConsumeFromWhere: remoting.FromLastOffset,
	}
	for _, topic := range topics {
		data.Subscriptions = append(data.Subscriptions, remoting.SubscriptionData{
			Topic: topic, SubString: "TagA || TagB", Tags: []string{"TagA", "TagB"}, ExpressionType: remoting.ExpressionTag, SubVersion: 7,
		})
	}
	beat := remoting.Heartbeat{ClientID: id, Consumers: []remoting.ConsumerData{data}}
	cmd := request(remoting.ReqHeartbeat)
	cmd.Body = beat.AppendTo(nil)
	cmd.Language = remoting.LanguageGo
	p.wantCode(remoting.ResSuccess, cmd)
}

// produce registers a producer by a heartbeat.
func (p *peer) produce(id string, groups ...string) {
	p.t.Helper()
	cmd := request(remoting.ReqHeartbeat)
	cmd.Body = remoting.Heartbeat{ClientID: id, Producers: groups}.AppendTo(nil)
	p.wantCode(remoting.ResSuccess, cmd)
}

// inside makes a member in the process of the broker, which takes messages and
// keeps them.
func (b *bundle) inside(t *testing.T, id, group, topic string) {
	t.Helper()
	conn := b.broker.Connect(id)
	sub, err := conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: group, Topic: topic}, idle{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Close(context.Background()) })
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// idle is a consumer in the process that fetches nothing.
type idle struct{}

func (idle) Assigned(driver.Lane)                 {}
func (idle) Revoked(context.Context, driver.Lane) {}
func (idle) Lost(driver.Lane)                     {}

// host is the address of the server.
func (b *bundle) host(t *testing.T) netip.AddrPort {
	t.Helper()
	host, err := netip.ParseAddrPort(b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// half stores a half message and answers its position.
func (b *bundle) half(t *testing.T, topic, group, tx string) int64 {
	t.Helper()
	r, err := b.store.Put([]embedded.Put{{Topic: topic, Group: group, Tx: tx, Body: []byte("half"), Properties: []byte(props("TRAN_MSG", "true", "PGROUP", group, "UNIQ_KEY", tx))}}).Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	return r[0].Pos
}
