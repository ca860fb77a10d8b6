package config

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// ProxyProtocol makes a listener one for load balancers that say whose connection
// they pass on.
type ProxyProtocol struct {
	Trusted []string `yaml:"trusted" type:"network" min:"1" doc:"networks of the load balancers in front, which begin every connection with a PROXY protocol header (version 1 or 2); every other connection is closed"`
}

// WebSocket makes a listener one for MQTT over WebSocket.
type WebSocket struct {
	Path    []string `yaml:"path" default:"[/mqtt]" min:"1" single:"true" doc:"path of the URL that clients connect to, or a list of them"`
	Origins []string `yaml:"origins" type:"origin" doc:"web pages and apps that may connect, besides pages of the listener's own host: https://app.example, https://*.app.example, file://, app://name, null, or * for all"`
	Trusted []string `yaml:"trusted" type:"network" doc:"networks of reverse proxies whose X-Forwarded-For or Forwarded is believed"`
}

// edge looks at what stands in front of MQTT.
func (c *checker) edge(path string, l Listener) {
	if p := path + ".proxy_protocol"; l.ProxyProtocol != nil && len(l.ProxyProtocol.Trusted) == 0 && !c.faults.within(p) {
		c.fault(p+".trusted", "is missing; list the networks of the load balancers, or remove the section")
	}
	if l.WebSocket == nil {
		return
	}
	for i, p := range l.WebSocket.Path {
		at := path + ".websocket.path"
		if len(l.WebSocket.Path) > 1 {
			at = element(at, i)
		}
		if p != "" && (!strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?#% ")) {
			c.fault(at, quote(p)+" is not the path of a URL; write one such as /mqtt")
		}
	}
}

// webSocketTokens reports places of the token that no listener has.
func (c *checker) webSocketTokens() {
	for _, l := range c.Listeners {
		if l.WebSocket != nil {
			return
		}
	}
	for i, place := range c.Token.From {
		if strings.HasPrefix(place, "websocket_header") || strings.HasPrefix(place, "query:") {
			c.fault(element("token.from", i), "comes with WebSocket connections, which no listener takes; give one a section websocket, or remove it")
		}
	}
}

// checkOrigin accepts what a browser or an app made of web pages can send as Origin,
// with *. for the first labels of the host, and * alone.
func checkOrigin(text string) error {
	if text == "*" || text == "null" || appOrigin.MatchString(text) && !webOrigin(text) {
		return nil
	}
	plain := strings.Replace(text, "://*.", "://", 1)
	u, err := url.Parse(plain)
	if err != nil || u.Scheme == "" || u.Host == "" || plain != u.Scheme+"://"+u.Host || checkHost(u.Hostname()) != nil {
		return errors.New(quote(text) + " is not an origin; write one such as https://app.example, https://*.app.example or file://, without a path, or * for all")
	}
	return nil
}

// appOrigin is the origin of an app by a scheme of its own, whose host may be anything,
// or nothing: file://, app://., capacitor://localhost.
var appOrigin = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[A-Za-z0-9._~:-]*$`)

func webOrigin(text string) bool {
	return strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
}
