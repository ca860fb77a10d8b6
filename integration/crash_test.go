//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// firstPoint is the time of the first point in milliseconds since 1970: early
// enough for all to lie in the past, late enough for none to be deleted for its age.
var firstPoint = time.Now().Add(-24 * time.Hour).UnixMilli()

// telemetryPoint returns a payload whose time identifies it.
func telemetryPoint(n int) string {
	return fmt.Sprintf(`{"ts":%d,"values":{"n":%d}}`, firstPoint+int64(n), n)
}

// checkStored fails the test if a message that was acknowledged is not in the store.
func checkStored(t *testing.T, p *harness.Proxy, f *fleet) {
	t.Helper()
	stored := storedPoints(t, p, "fleet")
	if n := missing(f.acked, stored); n > 0 {
		t.Errorf("%d of %d acknowledged points are lost", n, len(f.acked))
	}
	t.Logf("%d points acknowledged, %d stored", len(f.acked), len(stored))
}

// storedPoints returns the points of a device that are in the store.
func storedPoints(t *testing.T, p *harness.Proxy, device string) map[string]bool {
	t.Helper()
	path := fmt.Sprintf("/api/plugins/telemetry/DEVICE/%s/values/timeseries?keys=n&startTs=%d&endTs=%d&limit=200000&useStrictDataTypes=true",
		device, firstPoint, firstPoint+1e9)
	status, body := p.Get(path)
	var points map[string][]struct {
		TS    int64
		Value int
	}
	if err := json.Unmarshal([]byte(body), &points); status != 200 || err != nil {
		t.Fatalf("status %d, %v: %.300s", status, err, body)
	}
	stored := map[string]bool{}
	for _, point := range points["n"] {
		if point.TS != firstPoint+int64(point.Value) {
			t.Fatalf("point %d has the time of point %d", point.Value, point.TS-firstPoint)
		}
		stored[telemetryPoint(point.Value)] = true
	}
	return stored
}

// TestPowerFailure: messages that were acknowledged are stored, although the process is
// killed several times while it works.
func TestPowerFailure(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	token := p.Token("fleet")
	p.Start()
	next := 0
	all := &fleet{acked: map[string]bool{}}
	for range 3 {
		first := next
		f := launchFleet(t, p, token, "v1/devices/me/telemetry", func(n int) string { return telemetryPoint(first + n) })
		p.Kill()
		f.running.Wait()
		for payload := range f.acked {
			all.acked[payload] = true
		}
		next += 10_000_000
		p.Start()
		checkStored(t, p, all)
	}
}

// TestPowerFailureOfAGateway: what a gateway has sent for several devices in one message is there for
// all of them or for none, and for all if it was acknowledged.
func TestPowerFailureOfAGateway(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	token := p.Token("gw", "--gateway")
	p.Start()
	for round := range 2 {
		f := launchFleet(t, p, token, "v1/gateway/telemetry", func(n int) string {
			point := telemetryPoint(round*10_000_000 + n)
			return `{"a":[` + point + `],"b":` + point + `}`
		})
		p.Kill()
		f.running.Wait()
		p.Start()
		a, b := storedPoints(t, p, "gw%2Fa"), storedPoints(t, p, "gw%2Fb")
		if missing(a, b)+missing(b, a) > 0 {
			t.Errorf("%d points of one device and %d of the other are alone", missing(a, b), missing(b, a))
		}
		acked := map[string]bool{}
		for text := range f.acked {
			_, point, _ := strings.Cut(strings.TrimSuffix(text, "}"), `"b":`)
			acked[point] = true
		}
		if n := missing(acked, b); n > 0 {
			t.Errorf("%d of %d acknowledged messages are lost", n, len(f.acked))
		}
		t.Logf("%d messages acknowledged, %d stored", len(f.acked), len(b))
	}
}
