package tcp

import (
	"github.com/sluicemq/sluice/integration/bench/internal/report"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// ClientTable is every row of bench-client with its goals.
func ClientTable() []row.Row {
	return []row.Row{ownSend(), ownSendHere(), ownDrain(), ownFlow(), batches(), ownFlowBeside()}
}

func ownSend() row.Row {
	ours, theirs := stepName(ownClient, async, peer, many), stepName(goSend, async, peer, many)
	return row.Row{Name: "R5", What: "our driver on RocketMQ's broker, send and wait, 64 callers, beside Apache's Go client", Goals: []row.Goal{
		row.Compare("send/64", ours+":rate", theirs+":rate", atLeast(1.3), atLeast(1.7)),
		row.Compare("send/64/client-us", ours+":cpu_us", theirs+":cpu_us", atMost(0.5), atMost(0.25)),
		row.Compare("send/64/allocs", ours+":allocs", "", atMost(20), atMost(8)),
		row.Compare("send/64/allocs/apache", theirs+":allocs", "", none, none),
	}}
}

func ownSendHere() row.Row {
	return row.Row{Name: "R5s", What: "the same on sluice serve", Goals: []row.Goal{
		row.Compare("send/64/sluice", stepName(ownClient, async, ours, many)+":rate", stepName(goSend, async, ours, many)+":rate", atLeast(2), atLeast(4)),
		row.Compare("send/64/sluice/server-us", stepName(ownClient, async, ours, many)+":server_us", "", none, none),
	}}
}

func ownDrain() row.Row {
	onOurs, onPeer := consumerStep(backlog, ours), consumerStep(backlog, peer)
	return row.Row{Name: "R7", What: "our consumer draining 100 k waiting messages, beside Apache's consumers on RocketMQ", Goals: []row.Goal{
		row.Compare("drain/rocketmq/go-push", onPeer+":sluice_rate", onPeer+":go_rate", atLeast(2), atLeast(3)),
		row.Compare("drain/sluice/java-push", onOurs+":sluice_rate", onPeer+":java_rate", atLeast(1.5), atLeast(3)),
		row.Compare("drain/rocketmq/client-us", onPeer+":sluice_cpu_us", onPeer+":go_cpu_us", none, none),
	}}
}

func ownFlow() row.Row {
	return row.Row{Name: "R8", What: "send to handler, ours on ours, beside RocketMQ with its Go client: most; p50 at 500 a second", Goals: []row.Goal{
		row.Compare("flow-max", consumerStep(ownFlowMost, ours)+":rate", consumerStep(flow, peer)+":rate", atLeast(15), atLeast(40)),
		row.Compare("flow-500/p50", paced(slow, ours)+":p50_us", paced(slow, peer)+":p50_us", atMost(0.15), atMost(0.08)),
		row.Compare("flow-500/p50/limit", paced(slow, ours)+":p50_us", beside10(relayApart, slow)+":p50_us", none, none),
		row.Compare("flow-500/p50/limit-of-the-machine", beside10(relayApart, slow)+":p50_us", paced(slow, peer)+":p50_us", none, none),
	}}
}

func batches() row.Row {
	key, apart := ownBatchHere+":rate", stepName(ownBatch, async, ours, many)+":rate"
	return row.Row{Name: "9", What: "64 callers send 32 messages in one call, ours on ours", Goals: []row.Goal{
		row.Compare("batch/64/jetstream-window", key, jetstreamWindow+":rate", atLeast(2.5), none),
		row.Compare("batch/64/kfake-franz", key, kfakeWindow+":rate", atLeast(0.75), atLeast(1.25)),
		row.Compare("batch/64/server-apart/kfake-franz", apart, kfakeWindow+":rate", none, none),
	}}
}

func ownFlowBeside() row.Row {
	most, p50 := beside10(ownFlowHere, 0)+":rate", beside10(ownFlowHere, fast)+":p50_us"
	compare := func(name, key, step, figure string, must, target report.Bound) row.Goal {
		return row.Compare(name, key, step+":"+figure, must, target)
	}
	return row.Row{Name: "10", What: "send to handler over loopback, ours on ours: most; p50 at 2,000 a second", Goals: []row.Goal{
		compare("flow-max/kfake-franz", most, beside10(kfakeFlow, 0), "rate", atLeast(1.2), none),
		compare("flow-max/jetstream-loopback", most, beside10(jetstreamFlow, 0), "rate", atLeast(3), none),
		compare("flow-max/limit", most, beside10(relayFlow, 0), "rate", none, atLeast(0.5)),
		compare("flow-2000/p50/limit", p50, beside10(relayFlow, fast), "p50_us", atMost(2.5), atMost(1.5)),
		compare("flow-2000/p50/kfake-franz", p50, beside10(kfakeFlow, fast), "p50_us", none, none),
		compare("flow-2000/p50/jetstream-loopback", p50, beside10(jetstreamFlow, fast), "p50_us", none, none),
		compare("flow-max/server-apart/limit", consumerStep(ownFlowMost, ours)+":rate", beside10(relayFlow, 0), "rate", none, none),
		compare("flow-2000/p50/server-apart/limit", paced(fast, ours)+":p50_us", beside10(relayFlow, fast), "p50_us", none, none),
	}}
}
