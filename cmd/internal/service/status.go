package service

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

// status returns the answer of /v1/status.
func (s *Service) status() admin.Status {
	in := s.current.Load()
	st := admin.Status{
		Version: s.Version, Started: s.started.UTC(), Ready: true, TokenFiles: []admin.FileStatus{},
		Config:     admin.ConfigStatus{Fingerprint: in.fingerprint(), Loaded: in.loaded.UTC()},
		LastReload: s.reloader.last.Load(),
	}
	if err := s.ready(); err != nil {
		st.Ready, st.NotReady = false, err.Error()
	}
	st.Degraded = s.degraded()
	st.Sources = in.sources.status()
	st.Upstream = in.upstream.status()
	st.Replicas = s.replicasStatus()
	st.Presence = s.presenceStatus()
	st.Memory = s.memoryStatus()
	if s.bundled != nil {
		st.Telemetry = &admin.StoreStatus{Error: textOf(s.bundled.store.Writable()), Bytes: s.bundled.store.Stats().DatabaseBytes}
	}
	st.Hooks = s.hooksStatus()
	open := s.server.Stats()
	st.Connections, st.Sessions = open.Connections, open.Sessions
	st.Denials = s.denials.Len()
	each(in.sources, func(r reporter) { r.report(&st) })
	for _, own := range in.identities() {
		for _, leaf := range own.source.Leaves() {
			sum := sha256.Sum256(leaf.Raw)
			st.Certificates = append(st.Certificates, admin.Certificate{Listener: own.listener, NotAfter: leaf.NotAfter.UTC(), Fingerprint: hex.EncodeToString(sum[:])})
		}
	}
	return st
}

// memoryStatus returns the memory that counts towards the limit or, without one, that of the Go
// runtime.
func (s *Service) memoryStatus() admin.MemoryStatus {
	u := s.memory.Usage()
	if u.Limit == 0 {
		u.Used = host.RuntimeMemory()
	}
	return admin.MemoryStatus{Used: u.Used, Limit: u.Limit, Full: u.Full}
}

// fingerprint returns a digest of the content of the configuration.
func (g *generation) fingerprint() string {
	name, err := g.config.Fingerprint()
	if err != nil {
		return "unknown"
	}
	return name
}
