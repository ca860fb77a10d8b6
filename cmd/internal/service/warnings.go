package service

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/sqlite"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Warnings returns problems that do not prevent a start and should be corrected: those from the
// config package, plain listeners and a plain admin side that can be reached over a network,
// secrets that everyone on the machine may read, notifications through a pooler, too little disk
// space for telemetry, certificates with RSA keys, and devices that the bundled broker refuses.
func Warnings(c *config.Config) []config.Fault {
	return slices.Concat(warnings(c), rsaWarnings(c), topicWarnings(c), subjectWarnings(c))
}

// subjectWarnings returns the token files that have devices which the bundled broker refuses for
// their names.
func subjectWarnings(c *config.Config) (all []config.Fault) {
	if !c.Upstream.Bundled() {
		return nil
	}
	for i, source := range c.Auth.Sources {
		if source.File == nil {
			continue
		}
		refused, first := 0, tokenfile.Entry{}
		err := tokenfile.Each(source.File.Path, tokenfile.All(), func(e tokenfile.Entry, _ []byte) error {
			if broker.CheckSubject(e.Subject) != nil {
				if refused++; refused == 1 {
					first = e
				}
			}
			return nil
		})
		if err == nil && refused > 0 { // an error is reported elsewhere
			all = append(all, c.Fault(fmt.Sprintf("auth.sources[%d].file.path", i), fmt.Sprintf(
				"has %d tokens of devices that the bundled broker refuses, such as line %d, device %q: %v; give them tokens with other names",
				refused, first.Line, first.Subject, broker.CheckSubject(first.Subject))))
		}
	}
	return all
}

// warnings returns Warnings without those that are logged or counted whenever they matter: about
// certificates, topics and subjects.
func warnings(c *config.Config) []config.Fault {
	all := slices.Clone(c.Warnings)
	for i, l := range c.Listeners {
		if l.TLS == nil && l.ProxyProtocol == nil && exposed(l.Address) {
			all = append(all, c.Fault(listenerKey(i)+".address",
				"can be reached from other networks and has no TLS, so that tokens can be read on their way; set tls, or a loopback or private address"))
		}
	}
	if c.Admin.TLS == nil && exposed(c.Admin.Address) {
		all = append(all, c.Fault("admin.address",
			"can be reached from other networks and has no TLS, so that the tokens of the admin side can be read on their way; set admin.tls, or a loopback or private address"))
	}
	paths := c.Paths()
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		if info, err := os.Stat(paths[key]); secret(key) && err == nil && info.Mode().Perm()&0o004 != 0 {
			all = append(all, c.Fault(key, "is a secret that everyone on this machine may read; chmod o-r "+paths[key]))
		}
	}
	all = append(all, poolerWarnings(c)...)
	if c.Upstream.Bundled() && c.Telemetry.Postgres == nil {
		if err := sqlite.CheckSpace(c.Telemetry.Path, c.Telemetry.MinFree); err != nil {
			all = append(all, c.Fault("telemetry.min_free", "no telemetry is stored for now: "+err.Error()+"; make room, or lower the value"))
		}
	}
	return all
}

// poolerWarnings returns the connection strings for notifications that probably lead to a pooler.
func poolerWarnings(c *config.Config) (all []config.Fault) {
	const poolerPort = 6432 // of PgBouncer by default
	check := func(key, path string) {
		if f, err := pgdsn.Open(path); err == nil && f.Config().Port == poolerPort {
			all = append(all, c.Fault(key, "leads to port 6432, which is that of PgBouncer, and a pooler in transaction mode delivers no notifications; name a file whose connection string leads to the database itself"))
		}
	}
	if c.Replicas.Enabled() && !c.Replicas.OnBrokers() {
		check("replicas.dsn_file", c.Replicas.DSNFile)
	}
	for i, source := range c.Auth.Sources {
		p := source.Postgres
		switch key := fmt.Sprintf("auth.sources[%d].postgres", i); {
		case p == nil || channelOf(p) == "":
		case p.ListenDSNFile != "":
			check(key+".listen_dsn_file", p.ListenDSNFile)
		default:
			check(key+".listen_dsn_file", p.DSNFile)
		}
	}
	return all
}

// secret reports whether the file at a key is a secret. Packages that read secrets themselves
// check the mode of those files.
func secret(key string) bool {
	return slices.ContainsFunc([]string{".key", "_key_file", "secret_file", "replicas.password_file", "dsn_file", "bearer_file", "basic_file", "token_file", ".passwd.path"}, func(s string) bool {
		return strings.HasSuffix(key, s) && !strings.HasSuffix(key, "public_key_file")
	})
}

// exposed reports whether an address can be reached from outside the machine and private
// networks.
func exposed(address string) bool {
	name, _, err := net.SplitHostPort(address)
	if _, inherited := config.Inherited(address); err != nil || inherited || name == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return name == ""
	}
	addr = addr.Unmap()
	return !addr.IsLoopback() && !addr.IsPrivate() && !addr.IsLinkLocalUnicast()
}

// warn logs problems that do not prevent a start and should be corrected.
func (s *Service) warn() {
	in := s.current.Load()
	c := in.config
	for _, w := range warnings(c) {
		s.Log.Warn("config", zap.Stringer("warning", w))
	}
	s.warnOfSockets(c)
	if !proxy.LendsTLSBuffers() {
		s.Log.Warn("each TLS connection may keep up to 17 KiB: the release of Go that this program was built with is not one that it was made for")
	}
	// A session needs two descriptors: one to the device, one to the broker.
	if devices, _ := limitDescriptors(c.Limits, in.sources.remote()); devices > 0 && devices < 2*c.Limits.Connections {
		s.Log.Warn("limits.connections is higher than the file descriptors allow: raise LimitNOFILE or ulimit -n",
			zap.Int("connections", c.Limits.Connections), zap.Int("descriptors", devices))
	}
}

// warnOfSockets logs the sockets from systemd that no listener uses.
func (s *Service) warnOfSockets(c *config.Config) {
	used := map[string]bool{}
	for _, l := range c.Listeners {
		name, _ := config.Inherited(l.Address)
		used[name] = true
	}
	name, _ := config.Inherited(c.Admin.Address)
	used[name] = true
	for _, name := range s.Sockets.Names() {
		if !used[name] {
			s.Log.Warn("no listener uses a socket of systemd", zap.String("name", name),
				zap.Error(errors.New("set the address of a listener to systemd:"+name)))
		}
	}
}
