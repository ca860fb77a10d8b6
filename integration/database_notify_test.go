//go:build integration && linux

package integration

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// notifyChanges adds a trigger that notifies of tokens that are changed or deleted.
func (d *deviceTable) notifyChanges() {
	d.t.Helper()
	d.sql(`CREATE FUNCTION notify_proxies() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_notify('tokens', json_build_object('subject', OLD.device)::text); RETURN NULL; END $$;
		CREATE TRIGGER notify_proxies AFTER UPDATE OR DELETE ON tokens FOR EACH ROW EXECUTE FUNCTION notify_proxies()`)
}

func awaitListening(t *testing.T, p *harness.Proxy) {
	t.Helper()
	harness.Eventually(t, "listening", func() bool {
		return p.HasMetric(`mqtt_auth_proxy_auth_notify_listening{source="postgres0"} 1`)
	})
}

// ended waits for the end of a session.
func ended(t *testing.T, c *packetstest.Client) {
	t.Helper()
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the session does not end: %v", err)
	}
}

// TestWithdrawnInTheDatabase: a token that is deleted from the table ends its sessions on all
// replicas within a second, and no other session, although answers are remembered for an hour.
func TestWithdrawnInTheDatabase(t *testing.T) {
	t.Parallel()
	d := newDeviceTable(t, direct, ", notify: tokens", "1h")
	d.notifyChanges()
	replicas := []*harness.Proxy{d.Proxy, d.replica()}
	const devices = 30
	sessions := make([][]*packetstest.Client, devices)
	tokens := make([]string, devices)
	for i := range devices {
		tokens[i] = d.device(fmt.Sprint("device-", i))
		replicas[1].AddSecret(tokens[i])
	}
	for n, p := range replicas {
		p.Start()
		awaitListening(t, p)
		for i := range devices {
			sessions[i] = append(sessions[i], p.Connect(t, 4, fmt.Sprint("id-", n, "-", i), tokens[i]))
		}
	}
	operator, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%s user=postgres dbname=%s", d.server.Dir, harness.Port(d.server.Addr), d.database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = operator.Close(context.Background()) }()
	var took []time.Duration
	for i := range devices - 1 {
		begun := time.Now()
		if _, err := operator.Exec(t.Context(), "DELETE FROM tokens WHERE device = $1", fmt.Sprint("device-", i)); err != nil {
			t.Fatal(err)
		}
		for _, c := range sessions[i] {
			ended(t, c)
		}
		took = append(took, time.Since(begun))
		for n := range replicas {
			if _, ack := replicas[n].Present(t, 4, fmt.Sprint("id-", n, "-", i), tokens[i]); ack.Code != packets.RefusedNotAuthorized {
				t.Errorf("a deleted token: CONNACK %v", ack.Code)
			}
		}
	}
	slices.Sort(took)
	t.Logf("from the statement to the end on both replicas: half within %v, all within %v", took[len(took)/2], took[len(took)-1])
	if last := took[len(took)-1]; last > harness.WithdrawalLimit+harness.Slack {
		t.Errorf("the last session ended after %v", last)
	}
	for _, c := range sessions[devices-1] {
		if err := c.Publish("a", "b"); err != nil {
			t.Errorf("the session of another device: %v", err)
		}
	}
}

// TestWithdrawnWhileCutOff: what was deleted while the proxy had no connection to the database
// ends its sessions when it has one again, and new connections are refused; other sessions stay.
// So does a notification that does not say what has changed.
func TestWithdrawnWhileCutOff(t *testing.T) {
	t.Parallel()
	d := newDeviceTable(t, direct, ", notify: tokens", "1h")
	d.notifyChanges()
	tokens := []string{d.device("cut-off"), d.device("unnamed"), d.device("stays")}
	d.Start()
	awaitListening(t, d.Proxy)
	var sessions []*packetstest.Client
	for i, token := range tokens {
		sessions = append(sessions, d.Connect(t, 4, fmt.Sprint("id-", i), token))
	}
	d.sql("ALTER ROLE " + harness.Role + " NOLOGIN")
	d.server.CutConnections()
	d.sql("DELETE FROM tokens WHERE device = 'cut-off'")
	if err := sessions[0].Publish("a", "b"); err != nil {
		t.Errorf("a session without the database: %v", err)
	}
	d.sql("ALTER ROLE " + harness.Role + " LOGIN")
	ended(t, sessions[0])
	d.sql("ALTER TABLE tokens DISABLE TRIGGER notify_proxies; DELETE FROM tokens WHERE device = 'unnamed'; NOTIFY tokens, 'something has changed'")
	ended(t, sessions[1])
	for i, want := range []packets.ReasonCode{packets.RefusedNotAuthorized, packets.RefusedNotAuthorized, packets.Success} {
		if _, ack := d.Present(t, 4, fmt.Sprint("again-", i), tokens[i]); ack.Code != want {
			t.Errorf("device %d: CONNACK %v, want %v", i, ack.Code, want)
		}
	}
	if err := sessions[2].Publish("a", "b"); err != nil {
		t.Errorf("the session of another device: %v", err)
	}
}
