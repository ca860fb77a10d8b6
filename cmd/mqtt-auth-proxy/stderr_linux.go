package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is what a pipe can hold at most without privileges, in bytes.
const pipeSize = 1 << 20

// ownStderr returns a file for what the program writes to stderr, and leaves
// descriptor 2 to the Go runtime, which writes there why it crashes and would wait for
// the reader of a pipe for ever: descriptor 2 becomes a description of the same pipe
// that does not wait. What else it may be is returned as it is: files take everything,
// sockets cannot be opened again, and terminals take so little at once that most would
// be lost.
func ownStderr(f *os.File) *os.File {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 || f.Fd() != 2 {
		return f
	}
	crash, err := unix.Open("/proc/self/fd/2", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return f
	}
	defer unix.Close(crash)
	own, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return f
	}
	_, _ = unix.FcntlInt(2, unix.F_SETPIPE_SZ, pipeSize)
	if err := unix.Dup3(crash, 2, 0); err != nil {
		unix.Close(own)
		return f
	}
	return os.NewFile(uintptr(own), f.Name())
}
