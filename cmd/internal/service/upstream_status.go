package service

import (
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// brokerStatus is one broker in /v1/status.
type brokerStatus struct {
	Server   string     `json:"server"`
	State    pool.State `json:"state"`
	Since    *time.Time `json:"since,omitempty"`
	Sessions int        `json:"sessions"`
	Failures int        `json:"failures"`
	// LastError and LastFailed stay after a recovery.
	LastError  string     `json:"last_error,omitempty"`
	LastFailed *time.Time `json:"last_failed,omitempty"`
}

// status returns the state of each broker, or nil with the bundled broker.
func (b *brokers) status() []brokerStatus {
	var all []brokerStatus
	for _, s := range b.poolStatus() {
		all = append(all, brokerStatus{
			Server: s.Server.String(), State: s.State, Since: timeOrNone(s.Since), Sessions: s.Sessions,
			Failures: s.Failures, LastError: textOf(s.LastError), LastFailed: timeOrNone(s.Failed),
		})
	}
	return all
}

// timeOrNone returns t in UTC, or nil for the zero time.
func timeOrNone(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
