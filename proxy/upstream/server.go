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

// maxSocketPath is the longest path, in bytes, that this system's kernel takes
// for a Unix socket: one byte of its field is for the terminating zero.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

const allowedServers = "allowed are tcp://host[:port], tls://host[:port] and unix:///path"

// Server is the address of a broker. Servers are values and can be compared with
// ==. The zero Server is no address: dialing it fails.
type Server struct {
	scheme  string // tcp, tls or unix
	host    string // as written, without brackets; empty for unix
	address string // host:port, or the path of a Unix socket
}

// ParseServer reads the address of a broker; the package comment lists the forms.
// The error says what is wrong and what is allowed, but does not repeat the
// address: somebody may have put a password into it.
func ParseServer(text string) (Server, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return Server{}, errors.New("the server address has no scheme; " + allowedServers)
	}
	switch scheme {
	case "unix":
		return parseSocketPath(rest)
	case "tcp":
		return parseHostPort(scheme, rest, defaultPort)
	case "tls":
		return parseHostPort(scheme, rest, defaultTLSPort)
	case "mqtt":
		return Server{}, errors.New("mqtt:// is written tcp://; " + allowedServers)
	case "mqtts", "ssl":
		return Server{}, errors.New(scheme + ":// is written tls://; " + allowedServers)
	}
	return Server{}, errors.New("the scheme of the server address is unknown; " + allowedServers)
}

func parseSocketPath(path string) (Server, error) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return Server{}, errors.New("the path of a unix socket must be absolute: unix:///path, with three slashes")
	case strings.HasSuffix(path, "/"):
		return Server{}, errors.New("the path of a unix socket must name a socket, not a directory")
	case len(path) > maxSocketPath:
		return Server{}, fmt.Errorf("the path of the unix socket has %d bytes, the system allows %d", len(path), maxSocketPath)
	case strings.ContainsFunc(path, isControl):
		return Server{}, errors.New("the path of the unix socket contains a control character")
	}
	return Server{scheme: "unix", address: path}, nil
}

func parseHostPort(scheme, authority, port string) (Server, error) {
	switch {
	case strings.Contains(authority, "@"):
		return Server{}, errors.New("a server address has no user name or password; give them as the upstream's credentials")
	case strings.ContainsAny(authority, "/?#"):
		return Server{}, fmt.Errorf("a %[1]s:// address ends after the port: no slash, path or query; write %[1]s://host:%[2]s", scheme, port)
	}
	host, given, err := splitHostPort(authority)
	if err != nil {
		return Server{}, err
	}
	if given != "" {
		port = given
	}
	return Server{scheme: scheme, host: host, address: net.JoinHostPort(host, port)}, nil
}

// splitHostPort returns the host without brackets and the port, which is empty
// if there is none. net.SplitHostPort insists on a port and checks neither part.
func splitHostPort(authority string) (host, port string, err error) {
	if inner, found := strings.CutPrefix(authority, "["); found {
		host, port, found = strings.Cut(inner, "]")
		addr, err := netip.ParseAddr(host)
		if !found || err != nil || !addr.Is6() || strings.ContainsFunc(addr.Zone(), notInLabel) {
			return "", "", errors.New("brackets enclose an IPv6 address: [2001:db8::1]:1883")
		}
		if port == "" {
			return host, "", nil
		}
		if port, found = strings.CutPrefix(port, ":"); !found {
			return "", "", errors.New("only a colon and a port can follow the brackets of an IPv6 address")
		}
		return host, port, checkPort(port)
	}
	host, port, found := strings.Cut(authority, ":")
	if strings.Contains(port, ":") {
		return "", "", errors.New("an IPv6 address is written in brackets: [2001:db8::1]:1883")
	}
	if err := checkHost(host); err != nil {
		return "", "", err
	}
	if !found {
		return host, "", nil
	}
	return host, port, checkPort(port)
}

func checkPort(port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return errors.New("the port must be a number from 1 to 65535")
	}
	return nil
}

// checkHost accepts host names (RFC 1123 section 2.1, and the underscore that
// container networks use) and IP addresses.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	name := strings.TrimSuffix(host, ".")
	if name == "" {
		return errors.New("the host is missing")
	}
	if len(name) > 253 {
		return errors.New("the host name has more than 253 characters")
	}
	label := ""
	for label = range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInLabel) {
			return errors.New("the host is neither a name of letters, digits, hyphens and dots nor an IP address")
		}
	}
	// A name that ends in a number is a mistyped IPv4 address or a port alone,
	// and some resolvers read it as an address of their own liking.
	if strings.Trim(label, "0123456789") == "" {
		return errors.New("the host is not a valid IPv4 address")
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

// name returns the name that the server's certificate must carry. A zone means
// something on this machine only and is in no certificate.
func (s Server) name() string {
	name, _, _ := strings.Cut(s.host, "%")
	return name
}
