//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// awaitServer waits until each proxy is, or is not, connected to a server of the bus.
func awaitServer(t *testing.T, all []*harness.Proxy, server string, connected int) {
	t.Helper()
	for _, p := range all {
		harness.Eventually(t, "the bus on "+server, func() bool {
			return p.HasMetric(fmt.Sprintf("mqtt_auth_proxy_replicas_connected{server=%q} %d", server, connected))
		})
	}
}

// TestBusOnSeveralBrokers: each message comes on both brokers and counts once, and it still comes
// while one of them is down.
func TestBusOnSeveralBrokers(t *testing.T) {
	b, second := busOnTwoBrokers(t)
	all, tokens := startReplicas(t, b, "pump")
	servers := []string{"tcp://" + b.broker.Addr, "tcp://" + second.Addr}
	elsewhere := make([]int, len(all)) // requests to other proxies
	revoke := func() {
		t.Helper()
		for asked, p := range all {
			sessions := onEach(t, all, tokens[0])
			ask(t, p, "POST", "/v1/revocations", `{"subject":"pump"}`)
			awaitEnds(t, sessions, time.Now(), packets.AdministrativeAction)
			for i := range all {
				if i != asked {
					elsewhere[i]++
				}
			}
		}
	}
	for _, server := range servers {
		awaitServer(t, all, server, 1)
	}
	revoke()
	for i, p := range all {
		harness.Eventually(t, fmt.Sprintf("messages that proxy %d gets from both brokers", i+1), func() bool {
			return harness.Metric(t, p, `mqtt_auth_proxy_replicas_messages_ignored_total{cause="repeated"}`) > 0
		})
	}
	second.Kill()
	awaitServer(t, all, servers[1], 0)
	revoke()
	second.Start()
	awaitServer(t, all, servers[1], 1)
	revoke()
	awaitReplicas(t, all)
	for i, p := range all {
		harness.Eventually(t, fmt.Sprintf("a count of %d revocations by others on proxy %d", elsewhere[i], i+1), func() bool {
			return int(harness.Metric(t, p, `mqtt_auth_proxy_revocations_total{by="replica"}`)) == elsewhere[i]
		})
	}
}

// TestDatabaseOfTheBusIsAway: devices do not notice, each proxy goes on by itself and says what is
// wrong, and what was withdrawn meanwhile counts everywhere when the database is back.
func TestDatabaseOfTheBusIsAway(t *testing.T) {
	b := busInDatabase(t)
	all, tokens := startReplicas(t, b, "pump", "valve")
	sessions := onEach(t, all, tokens[0])
	b.database.Stop()
	awaitServer(t, all, "postgres", 0)
	for i, d := range onEach(t, all, tokens[1]) {
		if err := d.Publish("a", "b"); err != nil {
			t.Errorf("a device on proxy %d: %v", i+1, err)
		}
	}
	for i, p := range all {
		if status := p.Status(); !strings.Contains(status, `"servers":[{"server":"postgres","connected":false,"last_error":"`) {
			t.Errorf("the status of proxy %d has no fault: %s", i+1, status)
		}
		if status, body := p.Get("/readyz"); status != 200 {
			t.Errorf("/readyz of proxy %d: status %d, %s", i+1, status, body)
		}
	}
	ask(t, all[0], "POST", "/v1/revocations", `{"subject":"pump"}`)
	awaitEnds(t, sessions[:1], time.Now(), packets.AdministrativeAction)
	for i, d := range sessions[1:] {
		if err := d.Publish("a", "b"); err != nil {
			t.Errorf("the session on proxy %d: %v", i+2, err)
		}
	}
	b.database.Start()
	awaitServer(t, all, "postgres", 1)
	awaitEnds(t, sessions[1:], time.Now(), packets.AdministrativeAction)
	awaitReplicas(t, all)

	b.database.CutConnections()
	sessions = onEach(t, all, tokens[0])
	ask(t, all[1], "POST", "/v1/revocations", `{"subject":"pump"}`)
	awaitServer(t, all, "postgres", 1)
	awaitEnds(t, sessions, time.Now(), packets.AdministrativeAction)
}
