package systemd

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

// Sockets are those that the manager has opened, by FileDescriptorName. They stay
// open in the manager when the process ends: who connects meanwhile waits for the
// next one.
type Sockets map[string][]*os.File

// Inherit takes the sockets over. Only the first call finds any.
func Inherit() Sockets {
	s := Sockets{}
	for _, f := range activation.Files(true) {
		s[f.Name()] = append(s[f.Name()], f)
	}
	return s
}

// Names returns the names of the sockets, in order.
func (s Sockets) Names() []string { return slices.Sorted(maps.Keys(s)) }

// Listen returns a listener on the socket of that name. It can be called again after
// the listener has been closed.
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
		return ln, nil
	}
}

// Close gives up the sockets, but no listener.
func (s Sockets) Close() {
	for _, files := range s {
		for _, f := range files {
			f.Close()
		}
	}
}
