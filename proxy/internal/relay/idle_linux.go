package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// Idle returns how long ago data last came from or went to the client, to the millisecond. It
// reports false if that is not known: on systems other than Linux, without TCP, and once the
// pair has ended. The kernel keeps that time anyway; keeping it here as well would cost
// something for each message.
func (s *Session) Idle() (idle time.Duration, ok bool) {
	ask := func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			idle, ok = time.Duration(min(info.Last_data_recv, info.Last_data_sent))*time.Millisecond, true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	socket := s.client.Socket
	switch {
	case s.loop != nil:
		ask(uintptr(socket.in))
	case socket.raw != nil:
		_ = socket.raw.Control(ask) // fails for a closed socket, and then ok is false
	}
	return idle, ok
}
