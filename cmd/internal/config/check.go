package config

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// checker looks at what concerns several keys. Keys already at fault are left
// alone, or one mistake would be reported as two.
type checker struct {
	*Config
	faults *faults
}

func (c *checker) all() {
	c.listeners()
	c.webSocketTokens()
	c.sources()
	c.guard()
	c.upstream()
	c.dataFiles()
}

// fault reports a mistake at a key, or at the section that lacks the key.
func (c *checker) fault(path, reason string) {
	if !c.bad(path) {
		c.faults.add(c.origins.of(path), path, reason)
	}
}

// bad reports whether any of the keys, or a section around it, is at fault.
func (c *checker) bad(paths ...string) bool { return slices.ContainsFunc(paths, c.faults.around) }

func (c *checker) listeners() {
	names := map[string]string{}
	for i, l := range c.Listeners {
		path := element("listeners", i)
		c.address(path+".address", l.Address, i)
		c.unique(names, path+".name", l.Name, "is the same as %s; give each listener its own name")
		if l.TLS != nil {
			c.listenerTLS(path+".tls", l.TLS)
		}
		c.edge(path, l)
	}
	c.address("admin.address", c.Admin.Address, len(c.Listeners))
}

func (c *checker) listenerTLS(path string, t *ListenerTLS) {
	files := t.Certificate != "" || t.Key != ""
	switch {
	case c.faults.misspelled[path] || c.bad(path, path+".auto", path+".certificate", path+".key"):
	case t.Auto && files:
		c.fault(path+".auto", "makes the proxy's own certificate and is set together with certificate or key; keep one of the two")
	case t.Auto:
	case !files && len(t.Certificates) == 0:
		c.fault(path, "has no certificate; set certificate and key, or auto: true for one from the proxy's own CA")
	default:
		c.pair(path, t.Certificate, t.Key)
	}
	if t.Compatibility && t.MinVersion == "1.3" {
		c.fault(path+".compatibility", "is about TLS 1.2, which min_version excludes; remove one of the two")
	}
	switch {
	case c.bad(path, path+".client_ca", path+".client_auth"):
	case t.ClientAuth != "none" && t.ClientCA == "":
		c.fault(path+".client_auth", "asks for certificates that nothing can verify; set client_ca to the file of the CAs that issue them")
	case t.ClientAuth == "none" && t.ClientCA != "":
		c.fault(path+".client_ca", "has no effect without client_auth; set client_auth to request or require")
	case t.ClientCRL != "" && t.ClientCA == "":
		c.fault(path+".client_crl", "has no effect without client_ca, whose CAs have to sign it")
	}
}

// pair reports half of a certificate and key.
func (c *checker) pair(path, certificate, key string) {
	switch {
	case c.faults.misspelled[path] || c.bad(path+".certificate", path+".key"):
	case certificate != "" && key == "":
		c.fault(path+".key", "is missing; a certificate needs its private key, so set both or none")
	case certificate == "" && key != "":
		c.fault(path+".certificate", "is missing; a private key needs its certificate, so set both or none")
	}
}

// address compares an address with the listeners before the given position.
func (c *checker) address(path, address string, before int) {
	if address == "" {
		return
	}
	for i, other := range c.Listeners[:before] {
		if other.Address != "" && overlap(address, other.Address) {
			c.fault(path, quote(address)+" collides with "+element("listeners", i)+".address, "+quote(other.Address)+"; choose another port")
			return
		}
	}
}

// overlap reports whether two addresses cannot be listened on at once. An
// address without a host takes the port on every address of the machine.
func overlap(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB || portA == "0" {
		return false
	}
	return hostA == hostB || covers(hostA, hostB) || covers(hostB, hostA)
}

func covers(wild, host string) bool {
	if wild == "" || wild == "::" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return wild == "0.0.0.0" && (host == "" || err != nil || addr.Is4())
}

func (c *checker) sources() {
	kinds := fieldsOf(reflect.TypeFor[Source]())
	names := make([]string, len(kinds))
	for i, f := range kinds {
		names[i] = f.key
	}
	for i, s := range c.Auth.Sources {
		set := 0
		for _, f := range kinds {
			if !reflect.ValueOf(s).Field(f.index).IsNil() {
				set++
			}
		}
		path := element("auth.sources", i)
		if set != 1 && !c.faults.within(path) {
			c.fault(path, "needs exactly one kind of source; write one of "+strings.Join(names, ", ")+" and a separate element for each source")
		}
		if s.HTTP != nil {
			c.pair(path+".http.tls", s.HTTP.TLS.Certificate, s.HTTP.TLS.Key)
		}
		if s.JWT != nil {
			c.jwt(path+".jwt", s.JWT)
		}
	}
}

func (c *checker) jwt(path string, s *JWTSource) {
	places := 0
	for _, place := range []string{s.URL, s.JWKSFile, s.PublicKeyFile, s.SecretFile} {
		if place != "" {
			places++
		}
	}
	if places != 1 && !c.faults.within(path) {
		c.fault(path, "needs the issuer's keys from one place; set exactly one of url, jwks_file, public_key_file and secret_file")
	}
	c.pair(path+".tls", s.TLS.Certificate, s.TLS.Key)
	if s.TLS != (UpstreamTLS{}) && !strings.HasPrefix(s.URL, "https://") && !c.faults.within(path) {
		c.fault(path+".tls", "is set but the keys do not come from a url that begins with https://; remove the section")
	}
	if s.AnyAudience && len(s.Audiences) > 0 {
		c.fault(path+".any_audience", "is set together with audiences; keep one of the two")
	}
}

// guard compares the bounds of a token's length.
func (c *checker) guard() {
	if g := c.Auth.Guard; g.MinLength > g.MaxLength {
		c.fault("auth.guard.min_length", "is more than max_length; no token would be good")
	}
}

func (c *checker) upstream() {
	u := c.Upstream
	overTLS := false
	for i, s := range u.Servers {
		overTLS = overTLS || s.Network == "tls"
		switch first := slices.Index(u.Servers, s); {
		case s.Network == "bundled" && len(u.Servers) > 1:
			c.fault(element("upstream.servers", i), "is bundled, which stands alone; remove it or the other servers")
		case first < i:
			c.fault(element("upstream.servers", i), "is the same server as "+element("upstream.servers", first)+"; remove one")
		}
	}
	if len(u.Servers) > maxServers {
		c.fault("upstream.servers", fmt.Sprintf("has %d servers and may have %d; remove some", len(u.Servers), maxServers))
	}
	c.health()
	if u.TLS != (UpstreamTLS{}) && !overTLS && !c.faults.within("upstream.servers") {
		c.fault("upstream.tls", "is set but no server uses it; write the server as tls://host:port, or remove the section")
	}
	c.pair("upstream.tls", u.TLS.Certificate, u.TLS.Key)
	if u.ProxyProtocol != "off" && u.Servers[0].Network == "bundled" && !c.bad("upstream.proxy_protocol", "upstream.servers") {
		c.fault("upstream.proxy_protocol", "has no effect on the bundled broker; remove it")
	}
	if u.Password != "" && u.Username == "" && !c.bad("upstream.username", "upstream.password") {
		c.fault("upstream.username", "is empty although a password is set, which MQTT does not allow; set a username or remove the password")
	}
}

// maxServers is how many brokers there may be.
const maxServers = 64

// health reports credentials that no probe would carry.
func (c *checker) health() {
	const path = "upstream.health"
	switch h := c.Upstream.Health; {
	case c.faults.misspelled[path] || c.bad(path+".username", path+".password", path+".mqtt"):
	case h.Password != "" && h.Username == "":
		c.fault(path+".username", "is empty although a password is set, which MQTT does not allow; set a username or remove the password")
	case h.Username != "" && !h.MQTT:
		c.fault(path+".username", "has no effect, since probes are mere connections; set mqtt: true, or remove it")
	}
}

// dataFiles keeps the files that the proxy writes apart.
func (c *checker) dataFiles() {
	const reason = "is the same file as %s; each needs its own"
	files := map[string]string{}
	for i, s := range c.Auth.Sources {
		if s.File != nil {
			c.unique(files, element("auth.sources", i)+".file.path", s.File.Path, reason)
		}
	}
	c.unique(files, "admin.token_file", c.Admin.TokenFile, reason)
	c.unique(files, "telemetry.path", c.Telemetry.Path, reason)
}

// unique reports a value that an earlier path in seen has.
func (c *checker) unique(seen map[string]string, path, value, reason string) {
	if value == "" {
		return
	}
	if first, ok := seen[value]; ok {
		c.fault(path, strings.Replace(reason, "%s", first, 1))
		return
	}
	seen[value] = path
}
