package config

import (
	"fmt"
	"strings"
)

// inherited begins an address that systemd has bound.
const inherited = "systemd:"

// Inherited returns the name of the socket that a listener's address takes over from
// systemd, false for an ordinary address.
func Inherited(address string) (name string, ok bool) { return strings.CutPrefix(address, inherited) }

// checkListen accepts an address to listen on.
func checkListen(text string) error {
	name, ok := Inherited(text)
	switch {
	case !ok:
		return checkAddress(text, 0)
	case name == "" || len(name) > 255 || strings.Contains(name, ":"):
		return fmt.Errorf("%s does not name a socket; write systemd: and the FileDescriptorName of a socket unit, such as systemd:mqtt", quote(text))
	}
	return nil
}
