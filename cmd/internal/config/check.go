package config

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// checker checks rules that concern several keys.
type checker struct {
	*Config
	report *schema.Report
}

func (c *checker) all() {
	c.listeners()
	c.webSocketTokens()
	c.sources()
	c.guard()
	c.upstream()
	c.telemetry()
	c.replicas()
	c.hooks()
	c.dataFiles()
}

func (c *checker) listeners() {
	names := map[string]string{}
	for i, l := range c.Listeners {
		path := schema.Element("listeners", i)
		c.address(path+".address", l.Address, i)
		c.unique(names, path+".name", l.Name, "is the same as %s; give each listener its own name")
		if l.TLS != nil {
			c.listenerTLS(path+".tls", l.TLS)
		}
		c.proxyProtocol(path+".proxy_protocol", l.ProxyProtocol)
		c.webSocket(path+".websocket", l.WebSocket)
	}
	c.address("admin.address", c.Admin.Address, len(c.Listeners))
	if t := c.Admin.TLS; t != nil {
		c.ownCertificate("admin.tls", t.Auto, t.Certificate, t.Key)
	}
}

func (c *checker) listenerTLS(path string, t *ListenerTLS) {
	if t.Auto || t.Certificate != "" || t.Key != "" || len(t.Certificates) == 0 {
		c.ownCertificate(path, t.Auto, t.Certificate, t.Key)
	}
	if t.Compatibility && t.MinVersion == "1.3" {
		c.report.Fault(path+".compatibility", "is about TLS 1.2, which min_version excludes; remove one of the two")
	}
	switch {
	case c.report.Faulty(path, path+".client_ca", path+".client_auth"):
	case t.ClientAuth != "none" && t.ClientCA == "":
		c.report.Fault(path+".client_auth", "asks for certificates that nothing can verify; set client_ca to the file of the CAs that issue them")
	case t.ClientAuth == "none" && t.ClientCA != "":
		c.report.Fault(path+".client_ca", "has no effect without client_auth; set client_auth to request or require")
	case t.ClientCRL != "" && t.ClientCA == "":
		c.report.Fault(path+".client_crl", "has no effect without client_ca, whose CAs have to sign it")
	}
}

// ownCertificate reports a fault if a server has no certificate, or both kinds.
func (c *checker) ownCertificate(path string, auto bool, certificate, key string) {
	files := certificate != "" || key != ""
	switch {
	case c.report.Misspelled(path) || c.report.Faulty(path, path+".auto", path+".certificate", path+".key"):
	case auto && files:
		c.report.Fault(path+".auto", "makes the proxy's own certificate and is set together with certificate or key; keep one of the two")
	case auto:
	case !files:
		c.report.Fault(path, "has no certificate; set certificate and key, or auto: true for one from the proxy's own CA")
	default:
		c.pair(path, certificate, key)
	}
}

// pair reports half of a certificate and key.
func (c *checker) pair(path, certificate, key string) {
	switch {
	case c.report.Misspelled(path) || c.report.Faulty(path+".certificate", path+".key"):
	case certificate != "" && key == "":
		c.report.Fault(path+".key", "is missing; a certificate needs its private key, so set both or none")
	case certificate == "" && key != "":
		c.report.Fault(path+".certificate", "is missing; a private key needs its certificate, so set both or none")
	}
}

// address reports an address that conflicts with that of an earlier listener.
func (c *checker) address(path, address string, before int) {
	if address == "" {
		return
	}
	for i, other := range c.Listeners[:before] {
		if other.Address != "" && overlap(address, other.Address) {
			c.report.Fault(path, schema.Quote(address)+" collides with "+schema.Element("listeners", i)+".address, "+schema.Quote(other.Address)+"; choose another port")
			return
		}
	}
}

// overlap reports whether two addresses cannot be listened on at once. An address without a
// host takes the port on every address of the machine.
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
	kinds := reflect.TypeFor[Source]()
	names := make([]string, kinds.NumField())
	for i := range names {
		names[i] = kinds.Field(i).Tag.Get("yaml")
	}
	for i, s := range c.Auth.Sources {
		set := 0
		for kind := range names {
			if !reflect.ValueOf(s).Field(kind).IsNil() {
				set++
			}
		}
		path := schema.Element("auth.sources", i)
		if set != 1 && !c.report.FaultyWithin(path) {
			c.report.Fault(path, "needs exactly one kind of source; write one of "+strings.Join(names, ", ")+" and a separate element for each source")
		}
		if s.HTTP != nil {
			c.pair(path+".http.tls", s.HTTP.TLS.Certificate, s.HTTP.TLS.Key)
		}
		if s.JWT != nil {
			c.jwt(path+".jwt", s.JWT)
		}
		if s.Postgres != nil {
			c.postgres(path+".postgres", s.Postgres)
		}
	}
}

// longestName is the length of the longest name in PostgreSQL, in bytes.
const longestName = 63

// postgres reports a channel that PostgreSQL would cut off, or that a pooler does not deliver.
func (c *checker) postgres(path string, s *PostgresSource) {
	switch {
	case c.report.FaultyWithin(path):
	case len(s.Notify) > longestName:
		c.report.Fault(path+".notify", "is longer than the 63 bytes of a name in PostgreSQL; choose a shorter one")
	case s.Query == "" && s.Notify != "":
		c.report.Fault(path+".notify", "has no effect without a query, because the proxy's own tables have a channel; remove it")
	case s.Notify == "" && s.Query != "" && s.ListenDSNFile != "":
		c.report.Fault(path+".listen_dsn_file", "has no effect without notify; set notify to a channel, or remove it")
	case (s.Notify != "" || s.Query == "") && !s.PreparedStatements && s.ListenDSNFile == "":
		c.report.Fault(path+".listen_dsn_file", "is missing; a pooler in transaction mode delivers no notifications, so name a file with a connection string that leads to the database itself")
	}
}

func (c *checker) jwt(path string, s *JWTSource) {
	places := 0
	for _, place := range []string{s.URL, s.JWKSFile, s.PublicKeyFile, s.SecretFile} {
		if place != "" {
			places++
		}
	}
	if places != 1 && !c.report.FaultyWithin(path) {
		c.report.Fault(path, "needs the issuer's keys from one place; set exactly one of url, jwks_file, public_key_file and secret_file")
	}
	c.pair(path+".tls", s.TLS.Certificate, s.TLS.Key)
	if s.TLS != (UpstreamTLS{}) && !strings.HasPrefix(s.URL, "https://") && !c.report.FaultyWithin(path) {
		c.report.Fault(path+".tls", "is set but the keys do not come from a url that begins with https://; remove the section")
	}
	if s.AnyAudience && len(s.Audiences) > 0 {
		c.report.Fault(path+".any_audience", "is set together with audiences; keep one of the two")
	}
}

// guard compares the bounds on the length of a token.
func (c *checker) guard() {
	if g := c.Auth.Guard; g.MinLength > g.MaxLength {
		c.report.Fault("auth.guard.min_length", "is more than max_length; no token would be valid")
	}
}

func (c *checker) upstream() {
	u := c.Upstream
	c.servers(u.Servers)
	c.health()
	c.pair("upstream.tls", u.TLS.Certificate, u.TLS.Key)
	if u.ProxyProtocol != "off" && u.Bundled() && !c.report.Faulty("upstream.proxy_protocol", "upstream.servers") {
		c.report.Fault("upstream.proxy_protocol", "has no effect on the bundled broker; remove it")
	}
	if u.Password != "" && u.Username == "" && !c.report.Faulty("upstream.username", "upstream.password") {
		c.report.Fault("upstream.username", "is empty although a password is set, which MQTT does not allow; set a username or remove the password")
	}
}

// servers checks the brokers together. A server that is at fault or bundled parses as the zero
// Server.
func (c *checker) servers(all []Server) {
	servers := make([]upstream.Server, len(all))
	for i, s := range all {
		servers[i], _ = upstream.ParseServer(s.Address)
		switch first := slices.Index(servers, servers[i]); {
		case s.Address == Bundled && len(all) > 1:
			c.report.Fault(schema.Element("upstream.servers", i), "is bundled, which stands alone; remove it or the other servers")
		case first < i:
			c.report.Fault(schema.Element("upstream.servers", i), "is the same server as "+schema.Element("upstream.servers", first)+"; remove one")
		}
	}
	if len(servers) > pool.MaxServers {
		c.report.Fault("upstream.servers", fmt.Sprintf("has %d servers and may have %d; remove some", len(servers), pool.MaxServers))
	}
	if !slices.ContainsFunc(all, func(s Server) bool { return !s.Backup }) && !c.report.FaultyWithin("upstream.servers") {
		c.report.Fault("upstream.servers", "has only backups; remove backup from the brokers that devices should get first")
	}
	overTLS := slices.ContainsFunc(servers, upstream.Server.Secure)
	if c.Upstream.TLS != (UpstreamTLS{}) && !overTLS && !c.report.FaultyWithin("upstream.servers") {
		c.report.Fault("upstream.tls", "is set but no server uses it; write the server as tls://host:port, or remove the section")
	}
}

// health reports credentials that no probe would send.
func (c *checker) health() {
	const path = "upstream.health"
	switch h := c.Upstream.Health; {
	case c.report.Misspelled(path) || c.report.Faulty(path+".username", path+".password", path+".mqtt"):
	case h.Password != "" && h.Username == "":
		c.report.Fault(path+".username", "is empty although a password is set, which MQTT does not allow; set a username or remove the password")
	case h.Username != "" && !h.MQTT:
		c.report.Fault(path+".username", "has no effect, since a probe sends no CONNECT; set mqtt: true, or remove it")
	}
}

// telemetry reports two stores, or none. It leaves no path to a store in PostgreSQL.
func (c *checker) telemetry() {
	const path = "telemetry.path"
	t := &c.Telemetry
	switch {
	case t.Postgres == nil && t.Path == "":
		c.report.Fault(path, "is empty; write a file name, or set postgres for a store in PostgreSQL")
	case t.Postgres != nil && t.Path != "" && c.report.IsSet(path):
		c.report.Fault(path, "is set together with postgres; keep one of the two")
	case t.Postgres != nil:
		t.Path = ""
	}
}

// replicas reports a bus that cannot work.
func (c *checker) replicas() {
	const path = "replicas"
	r := c.Replicas
	switch {
	case c.report.FaultyWithin(path):
	case len(r.Name) > maxReplicaName || strings.ContainsFunc(r.Name, unicode.IsControl):
		c.report.Fault(path+".name", fmt.Sprintf("is not a name of at most %d bytes without control characters; write a shorter one", maxReplicaName))
	case !r.Enabled() && (r.SecretFile != "" || r.Name != "" && !c.Auth.ownTables() || r.Username != "" || r.PasswordFile != "" || r.DSNFile != ""):
		c.report.Fault(path+".bus", "is none, so that the other keys of this section have no effect; set bus: mqtt or bus: postgres, or remove them")
	case !r.Enabled():
	case r.OnBrokers() && c.Upstream.Bundled() && !c.report.FaultyWithin("upstream.servers"):
		c.report.Fault(path+".bus", "is mqtt, which needs a broker that several proxies share, and the bundled one belongs to this proxy alone; set upstream.servers or bus: postgres, or remove the section")
	case r.SecretFile == "":
		c.report.Fault(path+".secret_file", "is missing; name a file with a secret of 32 bytes or more that all proxies share")
	case r.OnBrokers():
		c.busOnBrokers(path, r)
	default:
		c.busInDatabase(path, r)
	}
}

func (c *checker) busOnBrokers(path string, r Replicas) {
	switch {
	case r.DSNFile != "":
		c.report.Fault(path+".dsn_file", "has no effect with bus: mqtt; set bus: postgres, or remove it")
	case r.PasswordFile != "" && r.Username == "":
		c.report.Fault(path+".username", "is missing; a password needs a user name, so set both or none")
	}
}

func (c *checker) busInDatabase(path string, r Replicas) {
	switch {
	case r.DSNFile == "":
		c.report.Fault(path+".dsn_file", "is missing; name a file with the connection string of a database that all proxies share; it must lead to the database itself, since a pooler in transaction mode delivers no notifications")
	case r.Username != "":
		c.report.Fault(path+".username", "has no effect with bus: postgres, whose user is in dsn_file; remove it")
	case r.PasswordFile != "":
		c.report.Fault(path+".password_file", "has no effect with bus: postgres, whose password is in dsn_file; remove it")
	case len(r.Topic) > longestName:
		c.report.Fault(path+".topic", "is longer than the 63 bytes of a name in PostgreSQL; choose a shorter one")
	}
}

// ownTables reports whether proxies share the proxy's own tables in PostgreSQL.
func (a Auth) ownTables() bool {
	return slices.ContainsFunc(a.Sources, func(s Source) bool { return s.Postgres != nil && s.Postgres.Query == "" })
}

// maxReplicaName is the length of the longest name of a replica, in bytes.
const maxReplicaName = 64

// hooks reports keys that have no effect, and requests that nothing would sign.
func (c *checker) hooks() {
	const path = "hooks"
	h := c.Hooks
	c.pair(path+".tls", h.TLS.Certificate, h.TLS.Key)
	switch {
	case c.report.FaultyWithin(path):
	case h.URL == "" && (h.SecretFile != "" || h.TLS != (UpstreamTLS{})):
		c.report.Fault(path+".url", "is missing, so that the other keys of this section have no effect; write the URL of the service, or remove them")
	case h.URL != "" && h.SecretFile == "":
		c.report.Fault(path+".secret_file", "is missing; name a file with a secret of 32 bytes or more that the service knows too")
	case h.TLS != (UpstreamTLS{}) && !strings.HasPrefix(h.URL, "https://"):
		c.report.Fault(path+".tls", "is set but the url does not begin with https://; remove the section")
	}
}

// dataFiles reports files that the proxy would write for two purposes.
func (c *checker) dataFiles() {
	const reason = "is the same file as %s; each needs its own"
	files := map[string]string{}
	for i, s := range c.Auth.Sources {
		if s.File != nil {
			c.unique(files, schema.Element("auth.sources", i)+".file.path", s.File.Path, reason)
		}
	}
	c.unique(files, "admin.token_file", c.Admin.TokenFile, reason)
	c.unique(files, "admin.read_token_file", c.Admin.ReadTokenFile, reason)
	c.unique(files, "admin.metrics_token_file", c.Admin.MetricsTokenFile, reason)
	c.unique(files, "telemetry.path", c.Telemetry.Path, reason)
}

// unique reports a value that an earlier path in seen has.
func (c *checker) unique(seen map[string]string, path, value, reason string) {
	if value == "" {
		return
	}
	if first, ok := seen[value]; ok {
		c.report.Fault(path, strings.Replace(reason, "%s", first, 1))
		return
	}
	seen[value] = path
}

// proxyProtocol reports a listener for load balancers that names none.
func (c *checker) proxyProtocol(path string, p *ProxyProtocol) {
	if p != nil && len(p.Trusted) == 0 && !c.report.FaultyWithin(path) {
		c.report.Fault(path+".trusted", "is missing; list the networks of the load balancers, or remove the section")
	}
}

func (c *checker) webSocket(path string, w *WebSocket) {
	if w == nil {
		return
	}
	for i, p := range w.Path {
		at := path + ".path"
		if len(w.Path) > 1 {
			at = schema.Element(at, i)
		}
		if p != "" && (!strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?#% ")) {
			c.report.Fault(at, schema.Quote(p)+" is not the path of a URL; write one such as /mqtt")
		}
	}
}

// webSocketTokens reports places of the token that no listener supports.
func (c *checker) webSocketTokens() {
	if slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.WebSocket != nil }) {
		return
	}
	for i, place := range c.Token.From {
		if strings.HasPrefix(place, "websocket_header") || strings.HasPrefix(place, "query:") {
			c.report.Fault(schema.Element("token.from", i), "comes with WebSocket connections, which no listener takes; give one a section websocket, or remove it")
		}
	}
}
