package service

import (
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/sqlite"
)

// Warnings returns what does not stop the program and should be mended: what the
// config package has found, plain listeners that a network can reach, secrets that
// everyone on the machine may read, and a disk with too little room for telemetry.
func Warnings(c *config.Config) []config.Fault {
	return append(warnings(c), rsaWarnings(c)...)
}

func warnings(c *config.Config) []config.Fault {
	all := slices.Clone(c.Warnings)
	for i, l := range c.Listeners {
		if l.TLS == nil && l.ProxyProtocol == nil && exposed(l.Address) {
			all = append(all, c.Fault(listenerKey(i)+".address",
				"is reached from other networks and has no TLS: whoever sits in between reads the tokens; set tls, or a loopback or private address"))
		}
	}
	paths := c.Paths()
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		if info, err := os.Stat(paths[key]); secret(key) && err == nil && info.Mode().Perm()&0o004 != 0 {
			all = append(all, c.Fault(key, "is a secret that everyone on this machine may read; chmod o-r "+paths[key]))
		}
	}
	if c.Upstream.Bundled() {
		if err := sqlite.CheckSpace(c.Telemetry.Path, c.Telemetry.MinFree); err != nil {
			all = append(all, c.Fault("telemetry.min_free", "no telemetry is stored for now: "+err.Error()+"; make room, or lower the value"))
		}
	}
	return all
}

// secret reports whether the file that a key names is one. Secrets that are values
// themselves, and token files, are looked at by who reads them.
func secret(key string) bool {
	return slices.ContainsFunc([]string{".key", "_key_file", "secret_file", "bearer_file", "basic_file", ".token_file"}, func(s string) bool {
		return strings.HasSuffix(key, s) && !strings.HasSuffix(key, "public_key_file")
	})
}

// exposed reports whether an address is open to more than the machine itself and
// private networks.
func exposed(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if _, inherited := config.Inherited(address); err != nil || inherited || host == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host == ""
	}
	addr = addr.Unmap()
	return !addr.IsLoopback() && !addr.IsPrivate() && !addr.IsLinkLocalUnicast()
}
