package service

import (
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// status returns the state of each broker, or nil with the bundled broker.
func (b *brokers) status() []admin.BrokerStatus {
	var all []admin.BrokerStatus
	for _, s := range b.poolStatus() {
		all = append(all, admin.BrokerStatus{
			Server: s.Server.String(), State: string(s.State), Since: timeOrNone(s.Since), Sessions: s.Sessions,
			Failures: s.Failures, LastError: textOf(s.LastError), LastFailed: timeOrNone(s.Failed),
		})
	}
	return all
}

// statusOf returns the state of one broker. It returns false if there is none of that name.
func (b *brokers) statusOf(server string) (status admin.BrokerStatus, ok bool) {
	for _, one := range b.status() {
		if one.Server == server {
			return one, true
		}
	}
	return admin.BrokerStatus{}, false
}

// timeOrNone returns t in UTC, or nil for the zero time.
func timeOrNone(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
