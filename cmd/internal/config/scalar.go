package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Server is one broker, comparable.
type Server struct {
	// Network is "bundled", "tcp", "tls" or "unix".
	Network string
	// Address is host:port, the absolute path of a unix socket, or empty for
	// the bundled broker.
	Address string
}

// String returns the server as it is written in a config file.
func (s Server) String() string {
	if s.Address == "" {
		return s.Network
	}
	return s.Network + "://" + s.Address
}

// parse reads the text of a value. It returns an int64 for everything that has
// bounds. Its errors are reasons of faults and quote no text that could hold a
// credential.
func parse(k kind, text string) (any, error) {
	if k == kindSecret {
		return text, nil
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return nil, errors.New("holds a control character or is not UTF-8; remove it")
	}
	switch k {
	case kindBoolean:
		if text != "true" && text != "false" {
			return nil, fmt.Errorf("%s is not a boolean; write true or false", quote(text))
		}
		return text == "true", nil
	case kindInteger:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || strconv.FormatInt(n, 10) != text {
			return nil, fmt.Errorf("%s is not a number; write a whole number such as 1000", quote(text))
		}
		return n, nil
	case kindDuration:
		return parseDuration(text)
	case kindSize:
		return parseSize(text)
	case kindServer:
		return parseServer(text)
	case kindMemory:
		return parseMemory(text)
	case kindAddress:
		return text, checkListen(text)
	case kindHost:
		return text, checkHost(text)
	case kindRatio:
		return parseRatio(text)
	case kindNetwork:
		return text, checkNetwork(text)
	case kindOrigin:
		return text, checkOrigin(text)
	case kindHeader:
		return text, checkPair(text, ":", "a header; write Name: value")
	case kindPair:
		return text, checkPair(text, "=", "a pair; write name=value")
	}
	return text, nil
}

func parseRatio(text string) (any, error) {
	r, err := strconv.ParseFloat(text, 64)
	if err != nil || !(r > 0 && r <= 1) {
		return nil, fmt.Errorf("%s is not a ratio; write a number over 0 and up to 1 such as 0.8", quote(text))
	}
	return r, nil
}

func checkNetwork(text string) error {
	if p, err := netip.ParsePrefix(text); err != nil || p.Masked() != p {
		return fmt.Errorf("%s is not a network; write its address and bits such as 10.0.0.0/8", quote(text))
	}
	return nil
}

// checkPair does not repeat the text: a header may carry a credential.
func checkPair(text, separator, want string) error {
	if name, _, ok := strings.Cut(text, separator); !ok || strings.TrimSpace(name) == "" {
		return errors.New("is not " + want)
	}
	return nil
}

// format is the inverse of parse.
func format(k kind, v reflect.Value) string {
	switch k {
	case kindSecret:
		return v.Interface().(Secret).String()
	case kindDuration:
		return formatDuration(time.Duration(v.Int()))
	case kindSize:
		return formatSize(v.Int())
	}
	return fmt.Sprint(v.Interface())
}

func parseDuration(text string) (any, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("%s is not a duration; write a number with a unit (ms, s, m, h) such as 10s or 1h30m", quote(text))
	}
	return int64(d), nil
}

// formatDuration drops the zero units that time.Duration prints: 720h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnits in descending order. Decimal units are refused: nobody agrees on
// what 64K is.
func sizeUnits() []struct {
	suffix string
	bytes  int64
} {
	return []struct {
		suffix string
		bytes  int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}
}

func parseSize(text string) (any, error) {
	digits, factor := text, int64(1)
	for _, u := range sizeUnits() {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			digits, factor = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != digits || n < 0 || n > math.MaxInt64/factor {
		return nil, fmt.Errorf("%s is not a size; write bytes, or a number with KiB, MiB or GiB such as 64KiB", quote(text))
	}
	return n * factor, nil
}

func formatSize(n int64) string {
	for _, u := range sizeUnits() {
		if n > 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// defaultPort returns the port that is registered for MQTT over the transport.
func defaultPort(scheme string) string {
	if scheme == "tls" {
		return "8883"
	}
	return "1883"
}

func parseServer(text string) (any, error) {
	const forms = "write bundled, tcp://host:port, tls://host:port or unix:///path"
	if text == "bundled" {
		return Server{Network: text}, nil
	}
	scheme, rest, ok := strings.Cut(text, "://")
	switch {
	case !ok:
		return nil, errors.New("is not a server; " + forms)
	case scheme == "unix":
		return Server{Network: scheme, Address: rest}, checkSocket(rest)
	case scheme == "mqtt":
		return nil, errors.New("has the scheme mqtt, which is called tcp here; write tcp://host:port")
	case scheme == "mqtts" || scheme == "ssl":
		return nil, errors.New("has the scheme mqtts or ssl, which is called tls here; write tls://host:port")
	case scheme != "tcp" && scheme != "tls":
		return nil, errors.New("has an unknown scheme; " + forms)
	case strings.Contains(rest, "@"):
		return nil, errors.New("carries a user name or password; remove it and set upstream.username and upstream.password_file")
	case strings.ContainsAny(rest, "/?#"):
		return nil, errors.New("goes on after the port; " + forms)
	case strings.HasPrefix(rest, ":"):
		return nil, errors.New("has no host; " + forms)
	}
	if !strings.Contains(strings.TrimSuffix(rest, "]"), ":") || strings.HasSuffix(rest, "]") {
		rest += ":" + defaultPort(scheme)
	}
	if checkAddress(rest, 1) != nil {
		return nil, errors.New("has no good host and port; write " + scheme + "://host:port with a port from 1 to 65535, an IPv6 address in brackets")
	}
	return Server{Network: scheme, Address: rest}, nil
}

// checkSocket accepts the paths that fit into a socket address on every system.
func checkSocket(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return errors.New("needs an absolute path; write unix:///run/broker.sock, with three slashes")
	case len(path) > 103:
		return errors.New("has a path longer than the 103 bytes that a socket may have; use a shorter one")
	}
	return nil
}

// checkAddress accepts host:port with a port from lowest to 65535.
func checkAddress(text string, lowest uint64) error {
	host, port, err := net.SplitHostPort(text)
	switch {
	case err != nil && strings.Count(text, ":") > 1:
		return fmt.Errorf("%s is not host:port; put an IPv6 address in brackets, such as [::1]:1883", quote(text))
	case err != nil:
		return fmt.Errorf("%s is not host:port; write one such as 127.0.0.1:1883, or :1883 for all addresses", quote(text))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < lowest || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%s is not a port; write a number from %d to 65535", quote(port), lowest)
	}
	if host == "" {
		return nil
	}
	return checkHost(host)
}

// checkHost accepts an IP address or a host name. What looks like an IPv4
// address and is none (10.0.0.256) is not taken for a name.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	fault := fmt.Errorf("%s is neither a host name nor an IP address; write one of these", quote(host))
	if len(host) > 253 {
		return fault
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fault
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return fault
			}
		}
	}
	if _, err := strconv.ParseUint(labels[len(labels)-1], 10, 64); err == nil {
		return fault
	}
	return nil
}

// quote shows a value in a reason, bounded.
func quote(text string) string {
	const longest = 64
	if len(text) > longest {
		return strconv.Quote(text[:longest]) + "..."
	}
	return strconv.Quote(text)
}
