package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// The ports that IANA assigned to MQTT ("mqtt" and "secure-mqtt").
const (
	defaultPort    = "1883"
	defaultTLSPort = "8883"
)

// maxSocketPath is the longest path, in bytes, that the kernel accepts for a Unix socket. One
// byte of its field is for the terminating zero.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

const serverForms = "write tcp://host:port, tls://host:port or unix:///path"

// ErrCredentials is returned for a server address that contains a user name or password.
var ErrCredentials = errors.New("contains a user name or password")

// Server is the address of a broker. Servers can be compared with ==. Dialing the zero Server
// fails.
type Server struct {
	scheme  string // tcp, tls or unix
	host    string // as written, without brackets; empty for unix
	address string // host:port, or the path of a Unix socket
}

// ParseServer reads the address of a broker; the package comment lists the forms. The error
// says what is wrong with the address and what to write, in words that continue a sentence:
// "has no host; write ...". It does not repeat the address, which may hold a password.
func ParseServer(text string) (Server, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return Server{}, errors.New("has no scheme; " + serverForms)
	}
	switch scheme {
	case "unix":
		return parseSocketPath(rest)
	case "tcp":
		return parseHostPort(scheme, rest, defaultPort)
	case "tls":
		return parseHostPort(scheme, rest, defaultTLSPort)
	case "mqtt":
		return Server{}, errors.New("has the scheme mqtt, which is called tcp here; write tcp://host:port")
	case "mqtts", "ssl":
		return Server{}, errors.New("has the scheme mqtts or ssl, which is called tls here; write tls://host:port")
	}
	return Server{}, errors.New("has an unknown scheme; " + serverForms)
}

func parseSocketPath(path string) (Server, error) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return Server{}, errors.New("needs an absolute path; write unix:///run/broker.sock, with three slashes")
	case strings.HasSuffix(path, "/"):
		return Server{}, errors.New("names a directory; write the path of a socket")
	case len(path) > maxSocketPath:
		return Server{}, fmt.Errorf("has a path of %d bytes, and that of a socket may have %d; use a shorter one", len(path), maxSocketPath)
	case strings.ContainsFunc(path, isControl):
		return Server{}, errors.New("holds a control character; remove it")
	}
	return Server{scheme: "unix", address: path}, nil
}

func parseHostPort(scheme, authority, port string) (Server, error) {
	switch {
	case strings.Contains(authority, "@"):
		return Server{}, ErrCredentials
	case strings.ContainsAny(authority, "/?#"):
		return Server{}, fmt.Errorf("has more text after the port; write %s://host:%s", scheme, port)
	case authority == "" || strings.LastIndexByte(authority, ':') == 0:
		return Server{}, errors.New("has no host; " + serverForms)
	}
	if !strings.Contains(authority, ":") || strings.HasSuffix(authority, "]") {
		authority += ":" + port
	}
	host, port, err := net.SplitHostPort(authority)
	bracketed := authority[0] == '['
	if err != nil || !isPort(port) || CheckHost(host) != nil || bracketed != strings.Contains(host, ":") {
		return Server{}, fmt.Errorf("has no valid host and port; write %s://host:port with a port from 1 to 65535, an IPv6 address in brackets", scheme)
	}
	return Server{scheme: scheme, host: host, address: net.JoinHostPort(host, port)}, nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == text
}

// CheckHost returns an error unless host is an IP address or a host name (RFC 1123 section
// 2.1, with the underscore that container networks use).
func CheckHost(host string) error {
	errHost := errors.New("is neither a host name nor an IP address")
	if addr, err := netip.ParseAddr(host); err == nil {
		if strings.ContainsFunc(strings.ReplaceAll(addr.Zone(), ".", ""), notInLabel) {
			return errHost
		}
		return nil
	}
	name := strings.TrimSuffix(host, ".")
	if len(name) > 253 {
		return errHost
	}
	label := ""
	for label = range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label || strings.ContainsFunc(label, notInLabel) {
			return errHost
		}
	}
	// A name that ends in a number is a mistyped IPv4 address or a port alone. Some resolvers
	// read it as an address.
	if strings.Trim(label, "0123456789") == "" {
		return errHost
	}
	return nil
}

func notInLabel(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	}
	return true
}

// isControl reports whether r is one of the control characters that MQTT 5.0
// section 1.5.4 names: U+0000 to U+001F and U+007F to U+009F.
func isControl(r rune) bool { return r < 0x20 || 0x7f <= r && r <= 0x9f }

// String returns the address with its port, in a form that [ParseServer] reads;
// it is empty for the zero Server.
func (s Server) String() string {
	if s.scheme == "" {
		return ""
	}
	return s.scheme + "://" + s.address
}

// Secure reports whether the server is reached over TLS.
func (s Server) Secure() bool { return s.scheme == "tls" }

// network returns the network's name for package net.
func (s Server) network() string {
	if s.scheme == "unix" {
		return "unix"
	}
	return "tcp"
}

// name returns the name that the server's certificate must carry. A zone is local to this
// machine, so no certificate contains it.
func (s Server) name() string {
	name, _, _ := strings.Cut(s.host, "%")
	return name
}
