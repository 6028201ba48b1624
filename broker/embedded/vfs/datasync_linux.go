package vfs

import (
	"errors"
	"os"
	"syscall"
)

// syncData leaves out what is not needed to read the bytes back, as the time
// of the last change.
func syncData(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			callErr = syscall.Fdatasync(int(fd))
			if !errors.Is(callErr, syscall.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, callErr)
}
