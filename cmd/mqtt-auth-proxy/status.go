package main

import (
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// status is what /v1/status answers.
type status struct {
	Version      string              `json:"version"`
	Started      time.Time           `json:"started"`
	Ready        bool                `json:"ready"`
	NotReady     string              `json:"not_ready,omitempty"`
	Connections  int                 `json:"connections"`
	Sessions     int                 `json:"sessions"`
	TokenFiles   []tokenFileStatus   `json:"token_files"`
	Certificates []certificateStatus `json:"certificates,omitempty"`
	LastReload   *reloadStatus       `json:"last_reload,omitempty"`
}

type tokenFileStatus struct {
	Path        string    `json:"path"`
	Entries     int       `json:"entries"`
	Fingerprint string    `json:"sha256"`
	Loaded      time.Time `json:"loaded"`
	// Error says why a newer version is not in force.
	Error    string   `json:"error,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

type certificateStatus struct {
	Listener    string    `json:"listener"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"sha256"`
}

// reloadStatus is the outcome of the last reload that was asked for, or that the
// poll found something wrong with.
type reloadStatus struct {
	At    time.Time `json:"at"`
	Error string    `json:"error,omitempty"`
}

func (s *service) status() any {
	st := status{Version: version(), Started: s.started.UTC(), Ready: true, TokenFiles: []tokenFileStatus{}, LastReload: s.lastReload.Load()}
	if err := s.ready(); err != nil {
		st.Ready, st.NotReady = false, err.Error()
	}
	open := s.server.Stats()
	st.Connections, st.Sessions = open.Connections, open.Sessions
	for _, f := range s.sources.files {
		t := f.Status()
		st.TokenFiles = append(st.TokenFiles, tokenFileStatus{
			Path: t.Path, Entries: t.Entries, Fingerprint: t.Fingerprint, Loaded: t.Loaded.UTC(), Error: textOf(t.Err), Warnings: t.Warnings,
		})
	}
	for _, c := range s.certs {
		st.Certificates = append(st.Certificates, certificateStatus{c.label, c.source.Leaf().NotAfter.UTC(), c.source.Fingerprint()})
	}
	return st
}

// api is what the admin side acts on.
func (s *service) api() *admin.API {
	return &admin.API{
		Status:  s.status,
		Clients: s.server.Clients,
		Kick:    s.server.Kick,
		Forget:  s.forget,
		Purge:   s.sources.purge,
		Reload:  s.reload,
	}
}

// forget is what the admin side asks for when it withdraws a token.
func (s *service) forget(r authz.Revocation, deny bool) (entries int, err error) {
	if entries, err = s.sources.forget(r, deny); err != nil {
		return 0, err
	}
	s.revocations.WithLabelValues("admin").Inc()
	s.log.Info("revoked", zap.String("by", "admin"), zap.String("token_id", r.TokenID), zap.String("subject", r.Subject),
		zap.Bool("deny", deny), zap.Int("entries", entries))
	return entries, nil
}
