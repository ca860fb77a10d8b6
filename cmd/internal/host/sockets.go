package host

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are the listening sockets that systemd has opened for the process, by their
// FileDescriptorName (systemd.socket(5)). They stay open in systemd when the process ends,
// so that a device that connects meanwhile waits for the next process.
type Sockets map[string][]*os.File

// InheritSockets takes the sockets over (sd_listen_fds(3)). Only the first call finds any.
func InheritSockets() Sockets {
	s := Sockets{}
	for _, f := range activation.Files(true) {
		s[f.Name()] = append(s[f.Name()], f)
	}
	return s
}

// Names returns the names of the sockets, sorted.
func (s Sockets) Names() []string { return slices.Sorted(maps.Keys(s)) }

// Listen returns a listener on the socket with that name, whose connections detect dead peers
// like those of [Listen]. It may be called again after the listener has been closed. The error
// says how to name the sockets in their units.
func (s Sockets) Listen(name string) (net.Listener, error) {
	switch files := s[name]; {
	case len(s) == 0:
		return nil, errors.New("systemd has passed no socket: start the service by its socket unit")
	case len(files) == 0:
		return nil, fmt.Errorf("systemd has passed no socket %q, but %s: set FileDescriptorName=%s in the socket unit", name, strings.Join(s.Names(), ", "), name)
	case len(files) > 1:
		return nil, fmt.Errorf("systemd has passed %d sockets %q: give each a socket unit with a FileDescriptorName of its own", len(files), name)
	default:
		ln, err := net.FileListener(files[0])
		if err != nil {
			return nil, fmt.Errorf("socket %q of systemd: %w", name, err)
		}
		return keepingAlive{ln}, nil
	}
}

// Close closes the sockets in this process, but no listener that Listen has returned.
func (s Sockets) Close() {
	for _, files := range s {
		for _, f := range files {
			f.Close()
		}
	}
}
