package processes

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// TestMain is the entry of the children as well. Here it requires that no test
// leaves a goroutine behind.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role, os.Getenv(argsVariable)))
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	for deadline := time.Now().Add(2 * time.Second); code == 0 && runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "the tests have left goroutines behind: %d, %d before\n", runtime.NumGoroutine(), before)
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1) // for the reader; the code says it all
			code = 1
		}
	}
	os.Exit(code)
}
