package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// locked reads from the kernel's list whether the file at path is locked; pid
// is who has last said so. The list of a container lacks what others hold.
func locked(path string, pid int) (held, sure bool) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return false, false
	}
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false, false
	}
	dev := uint64(st.Dev) //nolint:unconvert // it has 32 bits on some processors
	device := fmt.Sprintf("%02x:%02x", dev>>8&0xfff, dev&0xff|dev>>12&0xfff00)
	inode := strconv.FormatUint(st.Ino, 10)
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		// 1: FLOCK ADVISORY WRITE 15862 fe:00:9986090 0 EOF
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		at := strings.LastIndexByte(f[5], ':')
		// Some file systems show another device here than in stat.
		if at >= 0 && f[5][at+1:] == inode && (f[5][:at] == device || f[4] == strconv.Itoa(pid)) {
			return true, true
		}
	}
	return false, false
}
