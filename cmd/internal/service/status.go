package service

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// status is the answer of /v1/status.
type status struct {
	Version       string              `json:"version"`
	Started       time.Time           `json:"started"`
	Ready         bool                `json:"ready"`
	NotReady      string              `json:"not_ready,omitempty"`
	Connections   int                 `json:"connections"`
	Sessions      int                 `json:"sessions"`
	Denials       int                 `json:"denials"` // in force, see POST /v1/revocations
	TokenFiles    []tokenFileStatus   `json:"token_files"`
	PasswordFiles []tokenFileStatus   `json:"password_files,omitempty"`
	Certificates  []certificateStatus `json:"certificates,omitempty"`
	Upstream      []brokerStatus      `json:"upstream,omitempty"`
	Replicas      *replicasStatus     `json:"replicas,omitempty"`
	Config        configStatus        `json:"config"`
	LastReload    *reloadStatus       `json:"last_reload,omitempty"`
}

// configStatus describes the configuration in force.
type configStatus struct {
	Fingerprint string    `json:"fingerprint"`
	Loaded      time.Time `json:"loaded"`
}

// tokenFileStatus describes a token file or a password file.
type tokenFileStatus struct {
	Path        string    `json:"path"`
	Entries     int       `json:"entries"`
	Fingerprint string    `json:"sha256"`
	Loaded      time.Time `json:"loaded"`
	// Error says why a newer version is not in force.
	Error    string   `json:"error,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// certificateStatus describes a server certificate in use.
type certificateStatus struct {
	Listener    string    `json:"listener"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"sha256"`
}

// reloadStatus is the result of the last reload that was requested, or in which the poll found
// a change.
type reloadStatus struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Outcome string    `json:"outcome"`
	Error   string    `json:"error,omitempty"`
}

// status returns the answer of /v1/status.
func (s *Service) status() any {
	in := s.current.Load()
	st := status{
		Version: s.Version, Started: s.started.UTC(), Ready: true, TokenFiles: []tokenFileStatus{},
		Config:     configStatus{Fingerprint: in.fingerprint(), Loaded: in.loaded.UTC()},
		LastReload: s.reloader.last.Load(),
	}
	if err := s.ready(); err != nil {
		st.Ready, st.NotReady = false, err.Error()
	}
	st.Upstream = in.upstream.status()
	st.Replicas = s.replicasStatus()
	open := s.server.Stats()
	st.Connections, st.Sessions = open.Connections, open.Sessions
	st.Denials = s.denials.Len()
	each(in.sources, func(r reporter) { r.report(&st) })
	for _, l := range in.listeners {
		if l.identity != nil {
			for _, leaf := range l.identity.source.Leaves() {
				sum := sha256.Sum256(leaf.Raw)
				st.Certificates = append(st.Certificates, certificateStatus{l.config.Name, leaf.NotAfter.UTC(), hex.EncodeToString(sum[:])})
			}
		}
	}
	return st
}

// fingerprint returns a digest of the content of the configuration.
func (g *generation) fingerprint() string {
	name, err := g.config.Fingerprint()
	if err != nil {
		return "unknown"
	}
	return name
}
