package config

import (
	"errors"
	"net/url"
	"strings"
)

// ProxyProtocol makes a listener one for load balancers that say whose connection
// they pass on.
type ProxyProtocol struct {
	Trusted []string `yaml:"trusted" type:"network" min:"1" doc:"networks of the load balancers in front, which begin every connection with a PROXY protocol header (version 1 or 2); every other connection is closed"`
}

// WebSocket makes a listener one for MQTT over WebSocket.
type WebSocket struct {
	Path    string   `yaml:"path" default:"/mqtt" required:"true" doc:"path of the URL that clients connect to"`
	Origins []string `yaml:"origins" type:"origin" doc:"web pages that may connect, beside those of the listener's own host: https://app.example, https://*.app.example, or * for all"`
	Trusted []string `yaml:"trusted" type:"network" doc:"networks of reverse proxies whose X-Forwarded-For or Forwarded is believed"`
}

// edge looks at what stands in front of MQTT.
func (c *checker) edge(path string, l Listener) {
	if p := path + ".proxy_protocol"; l.ProxyProtocol != nil && len(l.ProxyProtocol.Trusted) == 0 && !c.faults.within(p) {
		c.fault(p+".trusted", "is missing; list the networks of the load balancers, or remove the section")
	}
	if w := l.WebSocket; w != nil && (!strings.HasPrefix(w.Path, "/") || strings.ContainsAny(w.Path, "?#% ")) {
		c.fault(path+".websocket.path", quote(w.Path)+" is not the path of a URL; write one such as /mqtt")
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

// checkOrigin accepts what a browser can send as Origin, with *. for the first
// labels of the host, and * alone.
func checkOrigin(text string) error {
	if text == "*" || text == "null" {
		return nil
	}
	plain := strings.Replace(text, "://*.", "://", 1)
	u, err := url.Parse(plain)
	if err != nil || u.Scheme == "" || u.Host == "" || plain != u.Scheme+"://"+u.Host || checkHost(u.Hostname()) != nil {
		return errors.New(quote(text) + " is not an origin; write one such as https://app.example or https://*.app.example, without a path, or * for all")
	}
	return nil
}
