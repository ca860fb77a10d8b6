package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is how much a pipe can hold without privileges, in bytes.
const pipeSize = 1 << 20

// ownStderr returns a file for what the program writes to stderr, and leaves descriptor 2 to the Go
// runtime. When the runtime crashes it writes the reason to descriptor 2, and would wait forever if
// that is a pipe whose reader stalls; so descriptor 2 becomes another description of the same pipe
// that does not block. If f is not a pipe it is returned as it is: a file never blocks, a socket
// cannot be opened again, and a terminal would lose most of what is written without blocking.
func ownStderr(f *os.File) *os.File {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 || f.Fd() != 2 {
		return f
	}
	crash, err := unix.Open("/proc/self/fd/2", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return f
	}
	defer func() { _ = unix.Close(crash) }()
	own, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return f
	}
	_, _ = unix.FcntlInt(2, unix.F_SETPIPE_SZ, pipeSize)
	if err := unix.Dup3(crash, 2, 0); err != nil {
		_ = unix.Close(own)
		return f
	}
	return os.NewFile(uintptr(own), f.Name())
}
