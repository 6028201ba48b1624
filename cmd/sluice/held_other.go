//go:build !linux

package main

import (
	"errors"
	"os"
	"syscall"
)

// locked tells whether the process is there that has last locked the file. It
// may have another file open by now, or be another process.
func locked(_ string, pid int) (held, sure bool) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false, false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission), false
}
