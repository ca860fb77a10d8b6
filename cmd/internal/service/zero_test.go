package service

import (
	"os"
	"syscall"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestZeroIsNone: with 0 for every key of which it means none, devices connect and publish
// as often as they like, and a drain ends their sessions at once.
func TestZeroIsNone(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: ""}
limits: {connections: 0, per_address: 0, sessions_per_subject: 0, connect_rate: 0, connect_rate_per_address: 0}
auth: {recheck: 0s, cache: {ttl: 0s, negative_ttl: 0s, stale_if_error: 0s}}
upstream: {slow_start: 0s, health: {interval: 0s}}
shutdown: {delay: 0s, drain: 0s, spread: 0s}
telemetry: {retention: 0s, min_free: 0}
`)
	for range 3 {
		nc, ack := login(t, s, asDemo(s, 4))
		if ack.Code != packets.Success {
			t.Fatalf("CONNACK %v", ack.Code)
		}
		if err := nc.Publish("v1/devices/me/telemetry", "{temperature:25}"); err != nil {
			t.Fatal(err)
		}
	}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	_ = s.wait(signals) // which cuts the sessions, or finds that they have ended
	if open := s.server.Stats().Sessions; open != 0 {
		t.Errorf("%d sessions are left", open)
	}
}
