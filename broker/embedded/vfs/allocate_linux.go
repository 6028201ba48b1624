package vfs

import (
	"errors"
	"os"
	"syscall"
)

// allocate reserves blocks for the bytes from..to, which read as zeros, and
// extends the file. It answers [errors.ErrUnsupported] where the file system
// cannot.
func allocate(f *os.File, from, to int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			callErr = syscall.Fallocate(int(fd), 0, from, to-from)
			if !errors.Is(callErr, syscall.EINTR) {
				return
			}
		}
	})
	if errors.Is(callErr, syscall.EOPNOTSUPP) || errors.Is(callErr, syscall.ENOSYS) {
		return errors.ErrUnsupported
	}
	return errors.Join(err, callErr)
}
