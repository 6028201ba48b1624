package store

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
		publishWait(), publishWindow(), sustained(), syncMany(), syncFew(), flowMax(), flowPaced(),
		backlog(), topics(), delayed(), halves(), opening(), memory(), start(), allocations(), processor(), crowd(),
	}
}

func publishWait() row.Row {
	r := row.Row{Name: "1", What: "publish, written to the kernel before the answer"}
	for _, c := range []struct {
		workers   int
		jetstream float64
	}{{1, 8}, {8, 5}, {64, 4}} {
		key := func(who string) string { return fmt.Sprintf("publish/%s/%d:rate", who, c.workers) }
		goal := func(who string, must, target report.Bound) {
			r.Goals = append(r.Goals, row.Compare(fmt.Sprintf("publish-wait/%d/%s", c.workers, who), key("ours"), key(who), must, target))
		}
		goal("jetstream", atLeast(c.jetstream), none)
		goal("pebble", atLeast(1.2), none)
		goal("mmap-append-prefault", none, atLeast(0.5))
		goal("write-per-message", none, none)
	}
	return r
}

func publishWindow() row.Row {
	r := row.Row{Name: "2", What: "the same in batches of 64, against a window"}
	for _, w := range producers {
		r.Goals = append(r.Goals, row.Compare(
			fmt.Sprintf("publish-window/%d/jetstream", w),
			fmt.Sprintf("window/ours/%d:rate", w), fmt.Sprintf("window/jetstream/%d:rate", w), atLeast(3), atLeast(6),
		))
	}
	return r
}

func sustained() row.Row {
	return row.Row{Name: "3", What: "sustained until on the disk", Goals: []row.Goal{
		row.Compare("sustained/sustained-write", "sustained/ours:rate", "sustained/limit:rate", atLeast(0.5), atLeast(0.75)),
	}}
}

func syncMany() row.Row {
	return row.Row{Name: "4", What: "sync, 64 producers", Goals: []row.Goal{
		row.Compare("sync/64/group-commit-sync", "sync/ours/64:rate", "sync/group-commit/64:rate", atLeast(0.5), atLeast(0.8)),
		row.Compare("sync/64/pebble", "sync/ours/64:rate", "sync/pebble/64:rate", atLeast(1.5), none),
		row.Compare("sync/64/jetstream", "sync/ours/64:rate", "sync/jetstream/64:rate", atLeast(20), none),
		row.Compare("sync/64/redis", "sync/ours/64:rate", "sync/redis/64:rate", none, none),
	}}
}

func syncFew() row.Row {
	return row.Row{Name: "5", What: "sync, 8 producers, and one producer's p50", Goals: []row.Goal{
		row.Compare("sync/8/group-commit-sync", "sync/ours/8:rate", "sync/group-commit/8:rate", atLeast(0.6), atLeast(0.85)),
		row.Compare("sync/1/fdatasync-p50", "sync/ours/1:p50_us", "sync/fdatasync/1:p50_us", atMost(1.35), atMost(1.15)),
	}}
}

func flowMax() row.Row {
	return row.Row{Name: "6", What: "publish, handle, settle: most messages a second", Goals: []row.Goal{
		row.Compare("flow-max/jetstream", "flow-max/ours:rate", "flow-max/jetstream:rate", atLeast(5), none),
		row.Compare("flow-max/e2e-max-limit-append", "flow-max/ours:rate", "flow-max/limit:rate", atLeast(0.2), atLeast(0.4)),
	}}
}

func flowPaced() row.Row {
	return row.Row{Name: "7", What: "the same at 2,000 a second, publish to handler", Goals: []row.Goal{
		row.Compare("flow-paced/p50/limit", "flow-paced/ours:p50_us", "flow-paced/limit:p50_us", atMost(10), atMost(5)),
		row.Compare("flow-paced/p99/jetstream", "flow-paced/ours:p99_us", "flow-paced/jetstream:p99_us", atMost(0.5), none),
		row.Compare("flow-paced/p99/limit", "flow-paced/ours:p99_us", "flow-paced/limit:p99_us", none, atMost(2)),
	}}
}

func backlog() row.Row {
	return row.Row{Name: "11", What: "delivery, many waiting against few; microseconds a message", Goals: []row.Goal{
		row.Compare("backlog/1M-against-20k", "backlog/ours:many_us", "backlog/ours:few_us", atMost(1.15), atMost(1.05)),
		row.Compare("backlog/jetstream", "backlog/ours:many_us", "backlog/jetstream:many_us", atMost(1./3), none),
	}}
}

func topics() row.Row {
	return row.Row{Name: "12", What: "10,000 topics: publish, make them, heap of each", Goals: []row.Goal{
		row.Compare("topics/publish-against-1", "topics/many:rate", "topics/one:rate", atLeast(0.8), atLeast(0.95)),
		row.Compare("topics/create-s", "topics/many:create_s", "", atMost(2), atMost(0.5)),
		row.Compare("topics/heap-kib", "topics/many:heap_kib", "", atMost(8), atMost(2)),
	}}
}

// tickMs is the resolution of due times in milliseconds.
const tickMs = 1

func delayed() row.Row {
	return row.Row{Name: "13", What: "1 M delayed messages pending", Goals: []row.Goal{
		row.Compare("delayed/heap-mib", "delayed/ours:heap_mib", "", atMost(64), atMost(32)),
		row.Compare("delayed/add-against-plain", "delayed/ours:add_rate", "delayed/plain:add_rate", atLeast(0.5), atLeast(0.75)),
		row.Compare("delayed/fire-per-s", "delayed/ours:fire_rate", "", atLeast(50e3), atLeast(150e3)),
		row.Compare("delayed/late-p99-ms", "delayed/ours:late_p99_ms", "", atMost(tickMs+10), none),
		row.Compare("delayed/other-traffic", "delayed/ours:other_rate", "delayed/plain:other_rate", atLeast(0.9), none),
		row.Compare("delayed/heap-against-redis", "delayed/ours:heap_mib", "delayed/redis:memory_mib", none, none),
		row.Compare("delayed/add-against-redis", "delayed/ours:add_rate", "delayed/redis:add_rate", none, none),
		row.Compare("delayed/fire-against-redis", "delayed/ours:fire_rate", "delayed/redis:fire_rate", none, none),
	}}
}

func halves() row.Row {
	return row.Row{Name: "14", What: "100 k half messages pending", Goals: []row.Goal{
		row.Compare("halves/sweep-s", "halves/ours:sweep_s", "", atMost(1), atMost(0.25)),
		row.Compare("halves/sweep-cores", "halves/ours:sweep_cores", "", atMost(0.2), none),
		row.Compare("halves/commit-against-plain", "halves/ours:commit_rate", "halves/ours:plain_rate", atLeast(0.3), atLeast(0.4)),
	}}
}

func opening() row.Row {
	r := row.Row{Name: "15", What: "opening a store, seconds"}
	for _, s := range stores {
		r.Goals = append(r.Goals, row.Compare("open/clean/"+s.name, "store/"+s.name+":clean_s", "", atMost(0.1), atMost(0.03)))
	}
	r.Goals = append(r.Goals,
		row.Compare("open/crash/scan-crc-per-GiB", "store/"+rescanned+":rescan_s_per_gib", "scan:s_per_gib", atMost(3), atMost(1.5)),
		row.Compare("open/crash/"+largest, "store/"+largest+":crash_s", "", atMost(2), atMost(0.6)))
	return r
}

func memory() row.Row {
	return row.Row{Name: "16", What: "anonymous memory with messages waiting", Goals: []row.Goal{
		row.Compare("memory/"+largest+"-mib", "store/"+largest+":anon_mib", "", atMost(64), atMost(32)),
		row.Compare("memory/against-"+smallest, "store/"+largest+":anon_mib", "store/"+smallest+":anon_mib", atMost(1.15), none),
	}}
}

func start() row.Row {
	return row.Row{Name: "19", What: "process start to first durable message; idle memory over a bare program", Goals: []row.Goal{
		row.Compare("start/jetstream", "start:ours_ms", "start:jetstream_ms", atMost(0.5), atMost(0.3)),
		row.Compare("start/idle-over-bare-mib", "start:ours_over_bare_mib", "", atMost(8), atMost(4)),
		row.Compare("start/idle-against-jetstream", "start:ours_over_bare_mib", "start:jetstream_over_bare_mib", none, none),
		row.Compare("start/against-bare", "start:ours_ms", "start:bare_ms", none, none),
	}}
}

func allocations() row.Row {
	return row.Row{Name: "20", What: "allocations a message", Goals: []row.Goal{
		row.Compare("allocations/publish", "allocations:publish", "", atMost(2), atMost(0)),
		row.Compare("allocations/deliver", "allocations:deliver", "", atMost(3), atMost(1)),
	}}
}

func processor() row.Row {
	return row.Row{Name: "21", What: "processor time a message, end to end, microseconds", Goals: []row.Goal{
		row.Compare("cpu/us", "flow-max/ours:cpu_us", "", atMost(12), atMost(6)),
		row.Compare("cpu/jetstream", "flow-max/ours:cpu_us", "flow-max/jetstream:cpu_us", none, none),
		row.Compare("cpu/limit", "flow-max/ours:cpu_us", "flow-max/limit:cpu_us", none, none),
	}}
}

func crowd() row.Row {
	return row.Row{Name: "22", What: "64 producers against 8", Goals: []row.Goal{
		row.Compare("publish-wait/64-against-8", "publish/ours/64:rate", "publish/ours/8:rate", atLeast(0.9), atLeast(1)),
	}}
}
