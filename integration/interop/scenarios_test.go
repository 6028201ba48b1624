package interop

// The clients.
const (
	goClient = "go"
	java5    = "java-5"
	java4    = "java-4"
	node     = "node"
)

// full are the clients that can do everything but what their row says.
var full = []string{goClient, java5, java4}

// topic is a topic that must exist before a scenario; its queues are four unless
// another number is given.
type topic struct {
	suffix string
	queues int
}

// scenario is written once and run with each of its clients on each target.
type scenario struct {
	name    string
	clients []string
	topics  []topic  // besides the one of the scenario's own name
	groups  []string // suffixes of consumer groups whose retry topic must exist
	bare    bool     // without a topic of its own name
	// calm are the clients that need the machine for themselves. Apache's Go
	// client gives an asynchronous send three seconds, whatever it is told, and
	// its process panics when they are over (producer.sendAsync goes on with the
	// answer that it has not got).
	calm []string
	run  func(*cell)
}

// scenarios run side by side, the long ones first.
var scenarios = []scenario{
	{name: "reset", clients: full, groups: []string{"", "off"}, run: reset},
	{name: "mqadmin", clients: []string{mqadmin}, bare: true, run: adminCommands},
	{name: "delays", clients: []string{goClient, java5, java4, node}, groups: []string{""}, run: delays},
	{name: "share", clients: full, groups: []string{""}, run: share},
	{name: "tx", clients: full, groups: []string{""}, run: transactions},
	{name: "retry", clients: []string{goClient, java5, java4, node}, groups: []string{""}, run: retries},
	{name: "pause", clients: full, groups: []string{""}, run: pause},
	{name: "timers", clients: full, groups: []string{""}, run: timers},
	{name: "trace", clients: full, groups: []string{"", "reader"}, run: trace},
	{name: "orderly", clients: full, groups: []string{""}, run: orderly},
	{name: "dead-producer", clients: full, groups: []string{""}, run: deadProducer},
	{name: "broadcast", clients: full, run: broadcast},
	{name: "from-where", clients: full, groups: []string{"first", "last", "time"}, run: fromWhere},
	{name: "push", clients: []string{goClient, java5, java4, node}, groups: []string{""}, run: push},
	{name: "lite-pull", clients: full, run: litePull},
	{name: "pull", clients: full, topics: []topic{{"", 2}}, run: pull},
	{name: "request-reply", clients: []string{goClient, java4}, groups: []string{""}, calm: []string{goClient}, run: requestReply},
	{name: "answers", clients: full, groups: []string{""}, run: answers},
	{name: "send-sync", clients: []string{goClient, java5, java4, node}, groups: []string{""}, run: sendSync},
	{name: "send-async", clients: full, groups: []string{""}, calm: []string{goClient}, run: sendAsync},
	{name: "send-oneway", clients: full, groups: []string{""}, run: sendOneWay},
	{name: "batch", clients: full, groups: []string{""}, run: batch},
	{name: "auto-create", clients: full, bare: true, run: autoCreate},
	{name: "tags", clients: []string{goClient, java5, java4, node}, groups: []string{""}, run: tags},
	{name: "sql92", clients: full, groups: []string{"", "bad"}, run: sql92},
	{name: "compression", clients: []string{goClient, java5, java4, node}, groups: []string{""}, run: compression},
	{name: "namespace", clients: full, bare: true, run: namespaces},
	{name: "admin-client", clients: []string{goClient}, bare: true, run: adminClient},
}
