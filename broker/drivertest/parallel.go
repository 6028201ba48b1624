package drivertest

import (
	"flag"
	"fmt"
	"runtime"
	"strconv"
)

// SideBySide lets n tests of a package run at the same time, unless -parallel
// asks for something else. Tests of the suite wait for timers and disks most of
// the time, so there may be many more of them than processors, which is how
// many the testing package runs. It is for TestMain, before its Run.
func SideBySide(n int) {
	flag.Parse()
	f := flag.Lookup("test.parallel")
	if f.Value.String() != strconv.Itoa(runtime.GOMAXPROCS(0)) {
		return
	}
	if err := f.Value.Set(strconv.Itoa(n)); err != nil {
		panic(fmt.Sprintf("drivertest: let %d tests run side by side: %v", n, err))
	}
}
