package tcp

import (
	"fmt"

	"github.com/sluicemq/sluice/integration/bench/internal/report"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

var none report.Bound // no goal

func atLeast(v float64) report.Bound { return report.AtLeast(v) }
func atMost(v float64) report.Bound  { return report.AtMost(v) }

// Table is every row with its goals.
func Table() []row.Row {
	return []row.Row{
		sendGo(), sendJava(), serverAlone(), synced(), transactions(), draining(), endToEnd(), starting(), idling(), waiting(),
	}
}

// against compares a figure of a step on both sides.
func against(name, figure, step string, number int, c class, must, target report.Bound) row.Goal {
	return row.Compare(name, stepName(step, c, ours, number)+":"+figure, stepName(step, c, peer, number)+":"+figure, must, target)
}

func sendGo() row.Row {
	r := row.Row{Name: "R1", What: "Apache's Go client, send and wait, async"}
	for i, goal := range [...]struct{ must, target float64 }{{2, 3}, {1.6, 2.2}, {1.5, 1.9}} {
		w := callers[i]
		r.Goals = append(r.Goals, against(fmt.Sprintf("go-send/%d", w), "rate", goSend, w, async, atLeast(goal.must), atLeast(goal.target)))
	}
	for _, w := range callers {
		r.Goals = append(r.Goals, against(fmt.Sprintf("go-send/%d/server-us", w), "server_us", goSend, w, async, none, none))
	}
	return r
}

func sendJava() row.Row {
	r := row.Row{Name: "R2", What: "Apache's Java client, send and wait, async"}
	for _, w := range callers {
		r.Goals = append(r.Goals, against(fmt.Sprintf("java-send/%d", w), "rate", javaSend, w, async, atLeast(1.5), atLeast(2)))
	}
	return r
}

func serverAlone() row.Row {
	const name = "raw-window/8x64"
	return row.Row{Name: "R3", What: "the server alone: 64 requests in flight on each of 8 connections", Goals: []row.Goal{
		against(name, "rate", rawWindow, pipes, async, atLeast(3), atLeast(5)),
		against(name+"/server-us", "server_us", rawWindow, pipes, async, atMost(1./3), none),
		row.Compare(name+"/server-us-alone", stepName(rawWindow, async, ours, pipes)+":server_us", "", none, atMost(10)),
	}}
}

func synced() row.Row {
	return row.Row{Name: "R4", What: "sync: 64 callers, and one caller's p50", Goals: []row.Goal{
		against("sync/go-send/64", "rate", goSend, many, durable, atLeast(2), atLeast(3)),
		against("sync/raw-wait/64", "rate", rawWait, many, durable, atLeast(3), atLeast(6)),
		against("sync/go-send/1/p50", "p50_us", goSend, 1, durable, atMost(0.5), atMost(0.25)),
		against("sync/raw-wait/1/p50", "p50_us", rawWait, 1, durable, atMost(0.5), atMost(0.25)),
	}}
}

func transactions() row.Row {
	return row.Row{Name: "R6", What: "transactions of Apache's Go client, 64 callers", Goals: []row.Goal{
		against("go-tx/64", "rate", goTx, many, async, atLeast(1.5), atLeast(2)),
	}}
}

// consumed compares a figure of a step that consumes on both sides.
func consumed(name, figure, step string, must, target report.Bound) row.Goal {
	return row.Compare(name, consumerStep(step, ours)+":"+figure, consumerStep(step, peer)+":"+figure, must, target)
}

func draining() row.Row {
	return row.Row{Name: "R7", What: "draining 100 k waiting messages", Goals: []row.Goal{
		consumed("drain/go-push", "go_rate", drain, atLeast(1.2), atLeast(1.4)),
		consumed("drain/raw-pull", "raw_rate", drain, atLeast(1), atLeast(2)),
		consumed("drain/raw-pull/server-us", "raw_server_us", drain, none, none),
	}}
}

func endToEnd() row.Row {
	return row.Row{Name: "R8", What: "send to handler with Apache's Go client, most", Goals: []row.Goal{
		consumed("flow-max/go", "rate", flow, atLeast(2), atLeast(4)),
		consumed("flow-max/go/server-us", "server_us", flow, none, none),
	}}
}

// started compares a figure of a start on both sides.
func started(name, figure string, must, target report.Bound) row.Goal {
	return row.Compare(name, startStep(ours)+":"+figure, startStep(peer)+":"+figure, must, target)
}

func starting() row.Row {
	return row.Row{Name: "R9", What: "process start to the first synced message", Goals: []row.Goal{
		started("start/first", "first_ms", atMost(1./80), atMost(1./200)),
		row.Compare("start/ready-ms", startStep(ours)+":ready_ms", "", atMost(300), none),
	}}
}

func idling() row.Row {
	return row.Row{Name: "R10", What: "idle: resident memory, per cent of a core", Goals: []row.Goal{
		started("idle/resident", "resident_mib", atMost(1./20), atMost(1./35)),
		row.Compare("idle/resident-mib", startStep(ours)+":resident_mib", "", atMost(40), none),
		row.Compare("idle/core-percent", startStep(ours)+":idle_percent", "", atMost(0.5), atMost(0.1)),
		started("idle/core", "idle_percent", none, none),
	}}
}

func waiting() row.Row {
	own, shared := stepName(rawWait, async, ours, many)+":rate", stepName(rawShared, async, ours, many)+":rate"
	return row.Row{Name: "8", What: "raw send and wait, 64 callers with a connection each, or together on 8", Goals: []row.Goal{
		row.Compare("raw-wait/64/tcp-request-reply", own, "loopback:rate", atLeast(0.4), atLeast(0.65)),
		row.Compare("raw-shared/64/jetstream-loopback", shared, "jetstream:rate", atLeast(1.5), none),
		row.Compare("raw-wait/64/jetstream-loopback", own, "jetstream:rate", none, none),
		against("raw-wait/64/apache", "rate", rawWait, many, async, none, none),
		against("raw-shared/64/apache", "rate", rawShared, many, async, none, none),
	}}
}
