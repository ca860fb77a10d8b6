package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// Idle returns how long ago data last came from or went to the client, to the
// millisecond, and false if the system does not know: off Linux, without TCP, or once
// the pair has ended. The kernel keeps that time anyway: noting it here would cost
// something for every message, only for somebody to look at once a month.
func (s *Session) Idle() (idle time.Duration, ok bool) {
	ask := func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			idle, ok = time.Duration(min(info.Last_data_recv, info.Last_data_sent))*time.Millisecond, true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	socket := s.client.socket
	switch {
	case s.loop != nil:
		ask(uintptr(socket.in))
	case socket.raw != nil:
		_ = socket.raw.Control(ask) // it fails for a closed socket, which ok tells
	}
	return idle, ok
}
