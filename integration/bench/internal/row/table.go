package row

import (
	"fmt"

	"github.com/sluicemq/sluice/integration/bench/internal/report"
)

var none report.Bound // no goal

func atLeast(v float64) report.Bound { return report.AtLeast(v) }
func atMost(v float64) report.Bound  { return report.AtMost(v) }

// Table is every row with its goals.
func Table() []Row {
	return []Row{
		publishWait(), publishWindow(), sustained(), syncMany(), syncFew(), flowMax(), flowPaced(),
		backlog(), topics(), delayed(), halves(), opening(), memory(), start(), allocations(), processor(), crowd(),
	}
}

func publishWait() Row {
	r := Row{Number: 1, What: "publish, written to the kernel before the answer"}
	for _, c := range []struct {
		workers   int
		jetstream float64
	}{{1, 8}, {8, 5}, {64, 4}} {
		key := func(who string) string { return fmt.Sprintf("publish/%s/%d:rate", who, c.workers) }
		goal := func(who string, must, target report.Bound) {
			r.Goals = append(r.Goals, Goal{fmt.Sprintf("publish-wait/%d/%s", c.workers, who), key("ours"), key(who), must, target})
		}
		goal("jetstream", atLeast(c.jetstream), none)
		goal("pebble", atLeast(1.2), none)
		goal("mmap-append-prefault", none, atLeast(0.5))
		goal("write-per-message", none, none)
	}
	return r
}

func publishWindow() Row {
	r := Row{Number: 2, What: "the same in batches of 64, against a window"}
	for _, w := range producers {
		r.Goals = append(r.Goals, Goal{
			fmt.Sprintf("publish-window/%d/jetstream", w),
			fmt.Sprintf("window/ours/%d:rate", w), fmt.Sprintf("window/jetstream/%d:rate", w), atLeast(3), atLeast(6),
		})
	}
	return r
}

func sustained() Row {
	return Row{3, "sustained until on the disk", []Goal{
		{"sustained/sustained-write", "sustained/ours:rate", "sustained/limit:rate", atLeast(0.5), atLeast(0.75)},
	}}
}

func syncMany() Row {
	return Row{4, "sync, 64 producers", []Goal{
		{"sync/64/group-commit-sync", "sync/ours/64:rate", "sync/group-commit/64:rate", atLeast(0.5), atLeast(0.8)},
		{"sync/64/pebble", "sync/ours/64:rate", "sync/pebble/64:rate", atLeast(1.5), none},
		{"sync/64/jetstream", "sync/ours/64:rate", "sync/jetstream/64:rate", atLeast(20), none},
		{"sync/64/redis", "sync/ours/64:rate", "sync/redis/64:rate", none, none},
	}}
}

func syncFew() Row {
	return Row{5, "sync, 8 producers, and one producer's p50", []Goal{
		{"sync/8/group-commit-sync", "sync/ours/8:rate", "sync/group-commit/8:rate", atLeast(0.6), atLeast(0.85)},
		{"sync/1/fdatasync-p50", "sync/ours/1:p50_us", "sync/fdatasync/1:p50_us", atMost(1.35), atMost(1.15)},
	}}
}

func flowMax() Row {
	return Row{6, "publish, handle, settle: most messages a second", []Goal{
		{"flow-max/jetstream", "flow-max/ours:rate", "flow-max/jetstream:rate", atLeast(5), none},
		{"flow-max/e2e-max-limit-append", "flow-max/ours:rate", "flow-max/limit:rate", atLeast(0.2), atLeast(0.4)},
	}}
}

func flowPaced() Row {
	return Row{7, "the same at 2,000 a second, publish to handler", []Goal{
		{"flow-paced/p50/limit", "flow-paced/ours:p50_us", "flow-paced/limit:p50_us", atMost(10), atMost(5)},
		{"flow-paced/p99/jetstream", "flow-paced/ours:p99_us", "flow-paced/jetstream:p99_us", atMost(0.5), none},
		{"flow-paced/p99/limit", "flow-paced/ours:p99_us", "flow-paced/limit:p99_us", none, atMost(2)},
	}}
}

func backlog() Row {
	return Row{11, "delivery, many waiting against few; microseconds a message", []Goal{
		{"backlog/1M-against-20k", "backlog/ours:many_us", "backlog/ours:few_us", atMost(1.15), atMost(1.05)},
		{"backlog/jetstream", "backlog/ours:many_us", "backlog/jetstream:many_us", atMost(1. / 3), none},
	}}
}

func topics() Row {
	return Row{12, "10,000 topics: publish, make them, heap of each", []Goal{
		{"topics/publish-against-1", "topics/many:rate", "topics/one:rate", atLeast(0.8), atLeast(0.95)},
		{"topics/create-s", "topics/many:create_s", "", atMost(2), atMost(0.5)},
		{"topics/heap-kib", "topics/many:heap_kib", "", atMost(8), atMost(2)},
	}}
}

// tickMs is the resolution of due times in milliseconds.
const tickMs = 1

func delayed() Row {
	return Row{13, "1 M delayed messages pending", []Goal{
		{"delayed/heap-mib", "delayed/ours:heap_mib", "", atMost(64), atMost(32)},
		{"delayed/add-against-plain", "delayed/ours:add_rate", "delayed/plain:add_rate", atLeast(0.5), atLeast(0.75)},
		{"delayed/fire-per-s", "delayed/ours:fire_rate", "", atLeast(50e3), atLeast(150e3)},
		{"delayed/late-p99-ms", "delayed/ours:late_p99_ms", "", atMost(tickMs + 10), none},
		{"delayed/other-traffic", "delayed/ours:other_rate", "delayed/plain:other_rate", atLeast(0.9), none},
		{"delayed/heap-against-redis", "delayed/ours:heap_mib", "delayed/redis:memory_mib", none, none},
		{"delayed/add-against-redis", "delayed/ours:add_rate", "delayed/redis:add_rate", none, none},
		{"delayed/fire-against-redis", "delayed/ours:fire_rate", "delayed/redis:fire_rate", none, none},
	}}
}

func halves() Row {
	return Row{14, "100 k half messages pending", []Goal{
		{"halves/sweep-s", "halves/ours:sweep_s", "", atMost(1), atMost(0.25)},
		{"halves/sweep-cores", "halves/ours:sweep_cores", "", atMost(0.2), none},
		{"halves/commit-against-plain", "halves/ours:commit_rate", "halves/ours:plain_rate", atLeast(0.3), atLeast(0.4)},
	}}
}

func opening() Row {
	r := Row{Number: 15, What: "opening a store, seconds"}
	for _, s := range stores {
		r.Goals = append(r.Goals, Goal{"open/clean/" + s.name, "store/" + s.name + ":clean_s", "", atMost(0.1), atMost(0.03)})
	}
	r.Goals = append(r.Goals,
		Goal{"open/crash/scan-crc-per-GiB", "store/" + rescanned + ":rescan_s_per_gib", "scan:s_per_gib", atMost(3), atMost(1.5)},
		Goal{"open/crash/" + largest, "store/" + largest + ":crash_s", "", atMost(2), atMost(0.6)})
	return r
}

func memory() Row {
	return Row{16, "anonymous memory with messages waiting", []Goal{
		{"memory/" + largest + "-mib", "store/" + largest + ":anon_mib", "", atMost(64), atMost(32)},
		{"memory/against-" + smallest, "store/" + largest + ":anon_mib", "store/" + smallest + ":anon_mib", atMost(1.15), none},
	}}
}

func start() Row {
	return Row{19, "process start to first durable message; idle memory over a bare program", []Goal{
		{"start/jetstream", "start:ours_ms", "start:jetstream_ms", atMost(0.5), atMost(0.3)},
		{"start/idle-over-bare-mib", "start:ours_over_bare_mib", "", atMost(8), atMost(4)},
		{"start/idle-against-jetstream", "start:ours_over_bare_mib", "start:jetstream_over_bare_mib", none, none},
		{"start/against-bare", "start:ours_ms", "start:bare_ms", none, none},
	}}
}

func allocations() Row {
	return Row{20, "allocations a message", []Goal{
		{"allocations/publish", "allocations:publish", "", atMost(2), atMost(0)},
		{"allocations/deliver", "allocations:deliver", "", atMost(3), atMost(1)},
	}}
}

func processor() Row {
	return Row{21, "processor time a message, end to end, microseconds", []Goal{
		{"cpu/us", "flow-max/ours:cpu_us", "", atMost(12), atMost(6)},
		{"cpu/jetstream", "flow-max/ours:cpu_us", "flow-max/jetstream:cpu_us", none, none},
		{"cpu/limit", "flow-max/ours:cpu_us", "flow-max/limit:cpu_us", none, none},
	}}
}

func crowd() Row {
	return Row{22, "64 producers against 8", []Goal{
		{"publish-wait/64-against-8", "publish/ours/64:rate", "publish/ours/8:rate", atLeast(0.9), atLeast(1)},
	}}
}
