package measure

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is a reading of the accounts of this process, of servers that belong
// to the case, and of the machine.
type Usage struct {
	at      time.Time
	cpu     time.Duration
	machine time.Duration
	mallocs uint64
	pids    []int
	served  []time.Duration
}

// Spent is the difference of two readings.
type Spent struct {
	Elapsed time.Duration
	// CPU is the processor time of this process, user and system.
	CPU time.Duration
	// Served is the processor time of each process that was named to [Read].
	Served []time.Duration
	// Mallocs is the number of allocations on the heap.
	Mallocs uint64
	// Others is how many cores everything else on the machine has used on
	// average, the kernel's own threads and stolen time included.
	Others float64
}

// Serving is the processor time of all servers together.
func (s Spent) Serving() (sum time.Duration) {
	for _, one := range s.Served {
		sum += one
	}
	return sum
}

// Read takes a reading. It stops the world for some microseconds. The case's
// own processes are named, so that they are not taken for others.
func Read(pids ...int) Usage {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	u := Usage{at: time.Now(), cpu: processCPU(), machine: machineCPU(), mallocs: mem.Mallocs, pids: pids}
	for _, pid := range pids {
		u.served = append(u.served, CPU(pid))
	}
	return u
}

// Spent is what was used since the reading.
func (u Usage) Spent() Spent {
	now := Read(u.pids...)
	s := Spent{Elapsed: now.at.Sub(u.at), CPU: now.cpu - u.cpu, Mallocs: now.mallocs - u.mallocs}
	own := s.CPU
	for i, before := range u.served {
		s.Served = append(s.Served, now.served[i]-before)
		own += s.Served[i]
	}
	if s.Elapsed > 0 {
		s.Others = max(0, float64(now.machine-u.machine-own)/float64(s.Elapsed))
	}
	return s
}

// CPU is the processor time that a process has used, its ended threads
// included, in nanoseconds where /proc/<pid>/stat has hundredths of a second.
// It is zero of a process that is gone.
func CPU(pid int) time.Duration {
	const allThreads = 2 // CPUCLOCK_SCHED, without the bit for one thread
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|allThreads), &at); err != nil {
		return 0
	}
	return time.Duration(at.Nano())
}

// processCPU is the processor time of this process.
func processCPU() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// machineCPU is the time that the processors of the machine were not idle:
// the first line of /proc/stat in ticks of 10 ms.
func machineCPU() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	const idle, iowait, guest = 3, 4, 8 // guest time is part of user time
	ticks := int64(0)
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseInt(field, 10, 64)
		if at := i - 1; err == nil && at != idle && at != iowait && at < guest {
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// Heap is the live heap in bytes, after a collection.
func Heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers of the first one have freed
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return float64(mem.HeapAlloc)
}

// Memory is a line of /proc/<pid>/status in bytes, such as "VmRSS" for all
// that is resident and "RssAnon" for what is not backed by a file.
func Memory(pid int, line string) (float64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	for l := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(l, ":"); ok && name == line {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: %s has no line %s", pid, path, line)
}
