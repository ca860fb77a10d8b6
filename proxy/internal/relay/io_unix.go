//go:build unix && !linux

package relay

import "syscall"

func sysRead(fd descriptor, b []byte) (int, error)          { return syscall.Read(int(fd), b) }
func sysWrite(fd descriptor, b []byte, _ bool) (int, error) { return syscall.Write(int(fd), b) }
