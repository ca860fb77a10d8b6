package service

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/certs"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// Probe reads the files that the plan names, without starting anything or creating any file, so
// that the check command finds what would keep the proxy from starting. Its error is a
// [config.Error] with every fault.
func (p *Plan) Probe() error {
	var faults []config.Fault
	report := func(key string, err error) {
		if err != nil {
			faults = append(faults, p.Fault(key, textOf(err)))
		}
	}
	p.probeListeners(report)
	p.probeSources(report)
	p.probeAdmin(report)
	p.probeReplicas(report)
	p.probeHooks(report)
	p.probeData(report)
	if p.servers != nil {
		_, err := newBrokers(p, pool.Trace{}, nil)
		report("upstream", err)
	}
	if faults == nil {
		return nil
	}
	slices.SortStableFunc(faults, func(a, b config.Fault) int { return cmp.Compare(a.Line, b.Line) })
	return &config.Error{Faults: faults}
}

func (p *Plan) probeListeners(report func(key string, err error)) {
	for i, l := range p.Listeners {
		if l.TLS != nil {
			report(listenerKey(i)+".tls", certs.Check(certificateFiles(l.TLS)))
		}
	}
}

func (p *Plan) probeSources(report func(key string, err error)) {
	for i, x := range p.sources {
		if s, ok := find[prober](x.source); ok {
			report(sourceKey(i, x), s.Probe(p.Config))
		}
	}
}

func (p *Plan) probeAdmin(report func(key string, err error)) {
	if p.Admin.Address == "" {
		return
	}
	for _, f := range adminTokenFiles(p.Config) {
		if _, err := os.Stat(f.path); err == nil { // otherwise a start creates it
			_, err := admin.EnsureToken(f.path)
			report(f.key, err)
		}
	}
	if t := adminTLS(p.Config); t != nil {
		report("admin.tls", certs.Check(certificateFiles(t)))
	}
	_, err := sharedSecret(p.Admin.PushSecretFile)
	report("admin.push_secret_file", err)
}

func (p *Plan) probeReplicas(report func(key string, err error)) {
	if !p.Replicas.Enabled() {
		return
	}
	_, err := sharedSecret(p.Replicas.SecretFile)
	report("replicas.secret_file", err)
	_, err = busPassword(p.Replicas.PasswordFile)
	report("replicas.password_file", err)
	_, err = busDatabase(p.Replicas.DSNFile)
	report("replicas.dsn_file", err)
}

func (p *Plan) probeHooks(report func(key string, err error)) {
	if p.Hooks.URL == "" {
		return
	}
	_, err := sharedSecret(p.Hooks.SecretFile)
	report("hooks.secret_file", err)
	_, err = clientTLS(p.Hooks.TLS, inputs{})
	report("hooks.tls", err)
}

// probeData reads the files that the proxy itself has written to the data directory.
func (p *Plan) probeData(report func(key string, err error)) {
	if _, err := readClientIDKey(filepath.Join(p.Data, clientIDKeyFile)); !errors.Is(err, fs.ErrNotExist) {
		report("data", err)
	}
	_, err := denylist.Open(filepath.Join(p.Data, denialsFile))
	report("data", err)
}
