package service

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Offsets and flags of a TCP header (RFC 9293 section 3.1).
const (
	tcpFlags = 13
	tcpSYN   = 0x02
	tcpACK   = 0x10
)

// divert makes the kernel drop what begins a connection on ln, and nothing else. Who
// connects repeats it a second later, and by then reaches another process that listens
// on the same address. What has begun here can be accepted here: closing the socket
// right away would reset it.
//
// Connections that are accepted from now on inherit the filter, which no packet of
// theirs meets.
func divert(ln net.Listener) error { return onSocket(ln, dropBeginnings) }

func dropBeginnings(raw syscall.RawConn) (setErr error) {
	// Load the flags; of SYN and ACK only SYN: drop, else take all of it.
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tcpFlags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: tcpSYN | tcpACK},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: tcpSYN},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xFFFFFFFF},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	})
	return errors.Join(err, setErr)
}
