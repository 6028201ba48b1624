//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package vfs

import (
	"fmt"
	"os"
	"runtime"
)

// tryLock refuses: a store without a lock would be opened twice one day.
func tryLock(*os.File) (held bool, err error) {
	return false, fmt.Errorf("file locks are not supported on %s; keep the broker in memory", runtime.GOOS)
}

// unlock has nothing to give back.
func unlock(*os.File) error { return nil }
