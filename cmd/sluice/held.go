package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// holder says, in words, which process has the store in dir open; "" if none
// is known to. It does not try to lock, which could get in the way of a broker
// that starts.
func holder(dir string) string {
	path := filepath.Join(dir, "LOCK")
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var pid int
	if n, err := fmt.Sscanf(line, "pid %d ", &pid); err != nil || n != 1 || pid <= 0 {
		return ""
	}
	switch held, sure := locked(path, pid); {
	case held && sure:
		return fmt.Sprintf("process %d has the store open", pid)
	case held:
		return fmt.Sprintf("process %d may have the store open", pid)
	}
	return ""
}
