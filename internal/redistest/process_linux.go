package redistest

import "syscall"

// processAttributes let the kernel end the server if the test binary dies in
// any way.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
