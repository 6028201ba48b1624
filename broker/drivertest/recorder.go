package drivertest

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
)

// recorder is a testing.TB that notes failures instead of failing: for random
// programs, whose failures are to be shrunk first, and for the proof that the
// suite fails for a broken driver.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	failed   bool
	skipped  bool
	cleanups []func()
}

// attempt runs f like execute does and returns what failed.
func attempt(t *testing.T, h Harness, f func(e *env)) (failures []string) {
	defer func() {
		// A bubble whose goroutines are all blocked panics here.
		if p := recover(); p != nil {
			failures = append(failures, fmt.Sprint("panic: ", p))
		}
	}()
	bubble(t, h, func(t *testing.T) {
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() { // FailNow ends its goroutine
			defer close(done)
			defer r.cleanup()
			defer func() {
				if p := recover(); p != nil {
					r.Errorf("panic: %v\n%s", p, debug.Stack())
				}
			}()
			execute(r, h, f)
		}()
		<-done
		failures = r.failures
	})
	return failures
}

func (r *recorder) cleanup() {
	r.mu.Lock()
	fs := r.cleanups
	r.cleanups = nil
	r.mu.Unlock()
	for _, f := range slices.Backward(fs) {
		f()
	}
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	if text != "" && len(r.failures) < 20 {
		r.failures = append(r.failures, text)
	}
}

func (r *recorder) Helper() {}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) Fail()                             { r.note("") }
func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }

func (r *recorder) FailNow() { r.note(""); runtime.Goexit() }

func (r *recorder) Fatal(args ...any) { r.Error(args...); r.FailNow() }

func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); r.FailNow() }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) Skipped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.skipped
}

func (r *recorder) SkipNow() {
	r.mu.Lock()
	r.skipped = true
	r.mu.Unlock()
	runtime.Goexit()
}

func (r *recorder) Skip(...any)          { r.SkipNow() }
func (r *recorder) Skipf(string, ...any) { r.SkipNow() }
func (r *recorder) Log(...any)           {}
func (r *recorder) Logf(string, ...any)  {}
