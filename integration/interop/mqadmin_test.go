package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/integration/internal/driver"
)

// as is this cell with another client's driver: one that does what the client
// under test looks at.
func (x *cell) as(client string) *cell {
	y := newCell(x.bench, scenario{name: x.scenario}, client, x.target)
	if y.d == nil {
		x.fatal("client %s does what %s looks at and does not run: SLUICE_INTEROP_CLIENTS=%s,%s", client, x.client, x.client, client)
	}
	y.rec, y.started = &Record{}, x.started
	return y
}

// adopt takes over what went wrong in another cell.
func (x *cell) adopt(y *cell) { x.problems = append(x.problems, y.problems...) }

var (
	blanks  = regexp.MustCompile(`[ \t]+`)
	numbers = regexp.MustCompile(`-?\d+\.\d+`)
	longs   = regexp.MustCompile(`\b\d{13}\b`)
	hours   = regexp.MustCompile(`\b\d+ms\b`)
	// How far timers are behind, and how long a write waits for the page cache.
	behind = regexp.MustCompile(`\b\d+-\d+\(Nw, N, N\) \d+ `)
	place  = regexp.MustCompile(`^CommitLog Offset: \d+`)
	loads  = regexp.MustCompile(`([(|])\d+,`)
	track  = regexp.MustCompile(`consumerGroup=g-[^,]*, trackType=\w+`)
)

// printed is a line of a command's output without what differs from run to run.
func (x *cell) printed(text string) string {
	text = strings.TrimSpace(blanks.ReplaceAllString(x.plain(text), " "))
	text = hours.ReplaceAllString(longs.ReplaceAllString(numbers.ReplaceAllString(text, "N"), "MS"), "Nms")
	text = loads.ReplaceAllString(text, "${1}N,")
	text = behind.ReplaceAllString(text, "N-N(Nw, N, N) N ")
	text = place.ReplaceAllString(text, "CommitLog Offset: N")
	switch properties, isThem := strings.CutPrefix(text, "Properties: {"); {
	case isThem:
		parts := strings.Split(strings.TrimSuffix(properties, "}"), ", ")
		slices.Sort(parts)
		return "Properties: " + strings.Join(parts, ", ")
	case strings.Contains(text, "MessageTrack"):
		// Of a group that never was the tool prints a stack trace.
		return track.FindString(text)
	case strings.HasPrefix(text, "See http"):
		return ""
	}
	return text
}

// admin runs a command of mqadmin and gives the lines that it printed, without
// what differs from run to run.
func (x *cell) admin(command string) (driver.Line, []string) {
	name, _, _ := strings.Cut(command, " ")
	var l driver.Line
	var err error
	for range 3 { // the tool gives a server 5 s at the most, whatever it is busy with
		l, err = x.d.Do(2*patience, "mqadmin", "args", command+" -n "+x.target.NameServer())
		if err != nil || !strings.Contains(l.Text("complained"), "Exception") || name == "sendMessage" {
			break
		}
	}
	if err != nil {
		x.problem("%s: %v", name, err)
	}
	x.check(!strings.Contains(l.Text("complained"), "Exception"), "%s: %s", name, l.Text("complained"))
	var lines []string
	for text := range strings.SplitSeq(l.Text("printed"), "\n") {
		if text = x.printed(text); text != "" {
			lines = append(lines, text)
		}
	}
	return l, lines
}

// noteAdmin notes the lines of a command, sorted: some come from hash tables.
func (x *cell) noteAdmin(command string, keep func(line string) bool) driver.Line {
	l, lines := x.admin(command)
	name := x.plain(command)
	lines = slices.DeleteFunc(lines, func(s string) bool { return keep != nil && !keep(s) })
	slices.Sort(lines)
	for i, s := range lines {
		x.rec.Note(name, fmt.Sprintf("line %02d", i+1), s)
	}
	return l
}

func adminCommands(x *cell) {
	y := x.as(goClient)
	defer x.adopt(y)
	t, g := y.name(), y.group()
	if err := makeTopics(x.target, map[string]int{t: 4, "%RETRY%" + g: 1}); err != nil {
		x.fatal("%v", err)
	}
	s := y.known()
	var physical, id string
	for i := range 8 {
		l := y.send(fmt.Sprint("m", i), "queue", fmt.Sprint(i%4), "keys", fmt.Sprint("key", i), "tags", "T")
		physical, id = l.Text("offsetMsgId"), l.Text("msgId")
	}
	_, ok := s.Wait("got", 8, patience)
	x.check(ok, "got %v", bodies(s.Lines("got")))
	y.eventually("the commits", func() bool { return y.committed(g, t, 3) == "2" && y.committed(g, t, 0) == "2" })

	y.retryCommitted()

	with := func(parts ...string) func(string) bool {
		return func(line string) bool {
			return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(line, p) })
		}
	}
	x.noteAdmin("updateTopic -c C -t mqadmin-made -r 2 -w 2", with("success", "readQueueNums"))
	x.eventually("the route", func() bool { return x.askAt(x.target.NameServer(), 105, nil, "topic", "mqadmin-made").Code == 0 })
	x.noteAdmin("topicList", with("mqadmin"))
	x.noteAdmin("topicList -c", with("mqadmin"))
	x.noteAdmin("topicRoute -t "+t, nil)
	x.noteAdmin("topicClusterList -t "+t, nil)
	x.noteAdmin("topicStatus -t "+t, nil)
	x.noteAdmin("clusterList", nil)
	x.noteAdmin("brokerStatus -b "+x.target.Broker(), with("brokerVersion", "bootTimestamp"))
	x.noteAdmin("consumerProgress -g "+g, nil)
	x.noteAdmin("consumerConnection -g "+g, nil)
	x.noteAdmin("producerConnection -g "+y.group("p")+" -t "+t, nil)
	// The traces are those of groups that the server says consume the topic.
	x.noteAdmin("queryMsgById -t "+t+" -i "+physical, nil)
	x.noteAdmin("queryMsgByKey -t "+t+" -k key3", nil)
	x.noteAdmin("queryMsgByUniqueKey -t "+t+" -i "+id, nil)
	// The tool leaves the body there, whatever the home and the temporary folder are.
	defer os.Remove(filepath.Join("/tmp/rocketmq/msgbodys", id))
	x.noteAdmin("sendMessage -t "+t+" -p said -k said-key -c T -b b1 -i 1", func(line string) bool { return !strings.HasPrefix(line, "#") })
	y.eventually("the message of the tool", func() bool { return slices.Contains(bodies(s.Lines("got")), "said") })
	x.noteAdmin("updateSubGroup -c C -g mqadmin-g -r 7", with("success", "mqadmin-g"))
	x.noteAdmin("getConsumerConfig -g mqadmin-g", nil)
	x.noteAdmin("resetOffsetByTime -g "+g+" -t "+t+" -s -1", nil)
	x.noteAdmin("deleteSubGroup -c C -g mqadmin-g", with("success"))
	x.noteAdmin("deleteTopic -c C -t mqadmin-made", with("success"))
	y.close("c", "p")
	// What the tool says about a group without members is the server's code.
	l, err := x.d.Do(2*patience, "mqadmin", "args", "consumerConnection -g "+g+" -n "+x.target.NameServer())
	x.check(err == nil, "%v", err)
	x.rec.Note("consumerConnection of nobody", "code 206", fmt.Sprint(strings.Contains(l.Text("complained"), "CODE: 206")))
}
