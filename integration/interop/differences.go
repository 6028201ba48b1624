package interop

// Differences are the deliberate differences between Apache's server and this
// one that a client can see. Row is how the row or heading of
// docs/compatibility.md begins that tells of it, with the reason.
var Differences = []Difference{
	{Scenario: "answers", Event: "200 make a group with a bad name", Field: "code", Apache: "0", Ours: "29", Row: "Names"},
	{Scenario: "answers", Event: "28 runtime", Field: "has *", Row: "Runtime figures"},
	{Scenario: "answers", Event: "300 who consumes", Field: "body.groupList.*", Row: "Who consumes a topic"},
	{Client: "mqadmin", Event: "topicList -c", Field: "line *", Row: "Who consumes a topic"},
	{Scenario: "answers", Event: "303 time span", Field: "body.consumeTimeSpanSet.*Str", Apache: "TIME", Ours: absent, Row: "Time spans"},
	{Client: "go", Scenario: "batch", Event: "deliver b*", Field: "prop.UNIQ_KEY", Apache: absent, Ours: "an id", Row: "Batch elements without `UNIQ_KEY`"},
	{Event: "deliver *", Field: "prop.TRANSACTION_CHECK_TIMES", Apache: "1", Ours: absent, Row: "Half messages"},
	{Event: "deliver *", Field: "prop.TRANSACTION_CHECK_TIMES", Apache: "2", Ours: absent, Row: "Half messages"},
	{Scenario: "timers", Event: "deliver *", Field: "prop.TIMER_OUT_MS", Apache: "ms", Ours: absent, Row: "Timer messages"},
	{Scenario: "timers", Event: "deliver *", Field: "prop.TIMER_ENQUEUE_MS", Apache: "ms", Ours: absent, Row: "Timer messages"},
	{Scenario: "timers", Event: "deliver *", Field: "prop.TIMER_DEQUEUE_MS", Apache: "ms", Ours: absent, Row: "Timer messages"},
	{Scenario: "sql92", Event: "refuse region LIKE*", Row: "SQL92"},
	{Scenario: "sql92", Event: "refuse n > 3 foo", Row: "SQL92"},
}
