//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestBrokerIsTakenOutOfUse takes one of two Mosquittos out of use while it has devices, and puts
// it back. No device is refused, a reload changes nothing, and a device of MQTT 5.0 gets the reason
// code Server shutting down, after which it connects again.
func TestBrokerIsTakenOutOfUse(t *testing.T) {
	a := harness.StartMosquitto(t)
	b := a.Sibling()
	p := harness.NewProxy(t, severalBrokers(a, []string{b.Addr}, "balance: round_robin, slow_start: 0s")+"shutdown: {spread: 200ms}\n")
	p.AddSecret(a.Password)
	token := p.Token("fleet")
	p.Start()
	server := "tcp://" + a.Addr
	brokers := func(args ...string) harness.Result {
		t.Helper()
		return harness.Run(t, append([]string{harness.Binary(), "brokers"}, append(args, "--config", p.Config)...)...)
	}
	sessions := func() (n int) {
		t.Helper()
		for line := range strings.SplitSeq(brokers("list").Stdout, "\n") {
			if fields := strings.Fields(line); len(fields) > 3 && fields[0] == server {
				_, _ = fmt.Sscan(fields[3], &n)
			}
		}
		return n
	}
	connect := func(n int, name string) (all []*packetstest.Client) {
		t.Helper()
		for i := range n {
			all = append(all, p.Connect(t, 5, fmt.Sprint(name, "-", i), token))
		}
		return all
	}

	devices := connect(8, "pump")
	harness.Eventually(t, "half of 8 sessions on the broker", func() bool { return sessions() == 4 })
	if r := brokers("drain", server); r.Stdout != server+" is drained, with 4 sessions\n" {
		t.Errorf("drain: %s", r.Output())
	}
	connect(4, "new")
	p.Reload(p.Config, harness.ReadFile(t, p.Config)+"# another version\n", "applied")
	connect(4, "after the reload")
	if n := sessions(); n != 4 {
		t.Errorf("%d sessions on the broker that is out of use, want the 4 that it had", n)
	}

	brokers("drain", server, "--end")
	harness.Eventually(t, "no session is left on the broker", func() bool { return sessions() == 0 })
	ends := make(chan packets.ReasonCode, len(devices))
	for _, d := range devices {
		go func() {
			code, _ := d.AwaitEnd(harness.Patience)
			ends <- code
		}()
	}
	ended := 0
	for i := range devices {
		if i == 4 { // those that are left
			for _, d := range devices {
				d.Close()
			}
		}
		if <-ends == packets.ServerShuttingDown {
			ended++
		}
	}
	if ended != 4 {
		t.Errorf("%d devices got DISCONNECT 0x8B, want 4", ended)
	}
	p.AwaitLog("end of a session", func(l harness.LogLine) bool { return l.String("cause") == "broker_drained" })

	if r := brokers("enable", server); !strings.HasPrefix(r.Stdout, server+" is up") {
		t.Errorf("enable: %s", r.Output())
	}
	connect(4, "later")
	harness.Eventually(t, "2 of 4 sessions on the broker after it was enabled", func() bool { return sessions() == 2 })
	other := brokers("drain", "tcp://"+b.Addr)
	if r := brokers("drain", server); strings.Contains(other.Stderr, "No broker") || !strings.Contains(r.Stderr, "No broker takes new sessions now") {
		t.Errorf("drain of one and of both: %s%s", other.Output(), r.Output())
	}
	if r := brokers("drain", "tcp://elsewhere:1883"); r.Status != 1 || !strings.Contains(r.Stderr, "no such broker; there are "+server) {
		t.Errorf("drain of a broker that does not exist: status %d, %s", r.Status, r.Output())
	}
}
