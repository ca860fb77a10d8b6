package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// types are the types for type tags in this package, in addition to those of package schema.
func types() map[string]schema.Type {
	return map[string]schema.Type{
		"address":  text(checkListen),   // host:port, or systemd:NAME
		"header":   text(checkHeader),   // Name: value
		"host":     text(checkHost),     // a name or an IP address
		"memory":   parseMemory,         // auto, off or a size
		"network":  text(checkNetwork),  // address/bits
		"origin":   text(checkOrigin),   // of a web page or an app
		"pair":     text(checkPair),     // name=value
		"receiver": text(checkReceiver), // the URL of a service
		"server":   text(checkServer),   // bundled, or the address of a broker
	}
}

// text returns the type of texts that check accepts.
func text(check func(string) error) schema.Type {
	return func(text string) (any, error) { return text, check(text) }
}

// inherited is the prefix of a listener's address that stands for a socket from systemd.
const inherited = "systemd:"

// Inherited returns the name of the systemd socket in a listener's address. It returns false
// for an ordinary address.
func Inherited(address string) (name string, ok bool) { return strings.CutPrefix(address, inherited) }

// checkReceiver accepts the URL of a service that gets events, or nothing.
func checkReceiver(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "":
		return fmt.Errorf("%s is not the URL of a service; write one such as https://fleet.example/mqtt", schema.Quote(address))
	case u.User != nil:
		return errors.New("has a user name or a password in the URL; remove it, since the requests are signed")
	}
	return nil
}

// checkListen accepts an address to listen on.
func checkListen(address string) error {
	name, ok := Inherited(address)
	switch {
	case !ok:
		return checkAddress(address)
	case name == "" || len(name) > 255 || strings.Contains(name, ":"):
		return fmt.Errorf("%s does not name a socket; write systemd: and the FileDescriptorName of a socket unit, such as systemd:mqtt", schema.Quote(address))
	}
	return nil
}

// checkAddress accepts host:port, with an empty host for all addresses and with port 0 for
// any free one.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil && strings.Count(address, ":") > 1:
		return fmt.Errorf("%s is not host:port; put an IPv6 address in brackets, such as [::1]:1883", schema.Quote(address))
	case err != nil:
		return fmt.Errorf("%s is not host:port; write one such as 127.0.0.1:1883, or :1883 for all addresses", schema.Quote(address))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%s is not a port; write a number from 0 to 65535", schema.Quote(port))
	}
	if host == "" {
		return nil
	}
	return checkHost(host)
}

func checkHost(host string) error {
	if err := upstream.CheckHost(host); err != nil {
		return fmt.Errorf("%s %w; write one of these", schema.Quote(host), err)
	}
	return nil
}

func checkNetwork(network string) error {
	if p, err := netip.ParsePrefix(network); err != nil || p.Masked() != p {
		return fmt.Errorf("%s is not a network; write its address and bits such as 10.0.0.0/8", schema.Quote(network))
	}
	return nil
}

// checkHeader does not repeat the header, which may carry a credential.
func checkHeader(header string) error {
	if name, _, ok := strings.Cut(header, ":"); !ok || strings.TrimSpace(name) == "" {
		return errors.New("is not a header; write Name: value")
	}
	return nil
}

func checkPair(pair string) error {
	if name, _, ok := strings.Cut(pair, "="); !ok || strings.TrimSpace(name) == "" {
		return errors.New("is not a pair; write name=value")
	}
	return nil
}

// checkServer does not repeat the server, which may carry a password.
func checkServer(server string) error {
	if server == Bundled {
		return nil
	}
	if !strings.Contains(server, "://") {
		return errors.New("is not a server; write bundled, tcp://host:port, tls://host:port or unix:///path")
	}
	_, err := upstream.ParseServer(server)
	if errors.Is(err, upstream.ErrCredentials) {
		return fmt.Errorf("%w; remove it and set upstream.username and upstream.password_file", err)
	}
	return err
}

// checkOrigin accepts the values that a browser, or an app made of web pages, sends as Origin,
// with *. for the first labels of the host, and * for all.
func checkOrigin(origin string) error {
	if origin == "*" || origin == "null" || appOrigin.MatchString(origin) && !webOrigin(origin) {
		return nil
	}
	plain := strings.Replace(origin, "://*.", "://", 1)
	u, err := url.Parse(plain)
	if err != nil || u.Scheme == "" || u.Host == "" || plain != u.Scheme+"://"+u.Host || checkHost(u.Hostname()) != nil {
		return errors.New(schema.Quote(origin) + " is not an origin; write one such as https://app.example, https://*.app.example or file://, without a path, or * for all")
	}
	return nil
}

// appOrigin is the origin of an app with a scheme of its own. The host may be anything, or
// missing: file://, app://., capacitor://localhost.
var appOrigin = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[A-Za-z0-9._~:-]*$`)

func webOrigin(origin string) bool {
	return strings.HasPrefix(origin, "http://") || strings.HasPrefix(origin, "https://")
}
