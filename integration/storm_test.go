//go:build integration

package integration

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// stormVariable makes the test binary a storm: many devices that reconnect at once. It
// is a separate process, so that the TLS handshakes of the devices do not delay those
// whose round trips are measured.
const stormVariable = "MQTT_STORM"

// storm is the task of such a process.
type storm struct {
	Address, Token string
	Devices        int
	AtOnce         int // of those, how many try at the same time
}

// stormResult is what such a process prints.
type stormResult struct {
	Failed int
	Took   time.Duration // until the last device was in
}

// runStorm is the main function of such a process.
func runStorm(spec string) int {
	var s storm
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(s.run()); err != nil {
		return 1
	}
	return 0
}

func (s storm) run() stormResult {
	var (
		mu      sync.Mutex
		workers sync.WaitGroup
		result  stormResult
		next    int
	)
	start := time.Now()
	for range s.AtOnce {
		workers.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= s.Devices {
					return
				}
				if _, err := s.connect(i); err != nil { // stays connected
					mu.Lock()
					result.Failed++
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	result.Took = time.Since(start)
	return result
}

// connect makes a full handshake; no session is resumed.
func (s storm) connect(i int) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", s.Address, time.Minute)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if _, err := secured.Write(packetstest.Identity(4, fmt.Sprint("storm-", i), s.Token).Append(nil)); err != nil {
		return nil, err
	}
	raw, err := packets.ReadPacket(secured, 64)
	if err == nil && raw[3] != 0 {
		err = errors.New("refused")
	}
	return secured, err
}

// roundTrips measures the round trips of messages at QoS 1.
type roundTrips struct {
	mu   sync.Mutex
	took []time.Duration
}

// measureRoundTrips makes devices publish until stop is closed.
func measureRoundTrips(t testing.TB, p *harness.Proxy, token string, devices int, stop <-chan struct{}) *roundTrips {
	t.Helper()
	all := &roundTrips{}
	var running sync.WaitGroup
	for i := range devices {
		d := p.Connect(t, 4, fmt.Sprint("live-", i), token)
		running.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				start := time.Now()
				if err := d.Publish("a", "b"); err != nil {
					t.Error(err)
					return
				}
				all.mu.Lock()
				all.took = append(all.took, time.Since(start))
				all.mu.Unlock()
			}
		})
	}
	t.Cleanup(running.Wait)
	return all
}

// percentiles returns the 50th and the 99th percentile of the round trips since the last call.
func (a *roundTrips) percentiles() (p50, p99 time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.Sort(a.took)
	if n := len(a.took); n > 0 {
		p50, p99 = a.took[n/2], a.took[n*99/100]
	}
	a.took = nil
	return p50, p99
}

// stormResults are percentiles of round trips before and during a storm, and what the
// storm reports.
type stormResults struct {
	before50, before99, during50, during99 time.Duration
	stormResult
}

// measureStorm measures a storm, and the round trips of 20 devices that are connected
// meanwhile.
func measureStorm(t testing.TB, sections string, devices, atOnce int) (r stormResults) {
	t.Helper()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream()+sections)
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_LOG_LEVEL=warn")
	token := p.Token("device")
	p.Start()
	stop := make(chan struct{})
	defer close(stop)
	live := measureRoundTrips(t, p, token, 20, stop)
	time.Sleep(time.Second)
	r.before50, r.before99 = live.percentiles()
	spec, err := json.Marshal(storm{Address: p.TLS, Token: token, Devices: devices, AtOnce: atOnce})
	if err != nil {
		t.Fatal(err)
	}
	// Devices usually run on other machines. Here they get the processor time that the program
	// leaves.
	process := harness.Launch(t, append(os.Environ(), stormVariable+"="+string(spec)), "nice", "-n", "19", os.Args[0])
	if status := process.Wait(t, 3*harness.Patience); status != 0 {
		t.Fatalf("the storm ended with status %d\n%s", status, process.Stderr)
	}
	r.during50, r.during99 = live.percentiles()
	if err := json.Unmarshal([]byte(process.Stdout.String()), &r.stormResult); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReconnectStorm: connected devices are served while a fleet reconnects over TLS, and
// the whole fleet gets in.
func TestReconnectStorm(t *testing.T) {
	r := measureStorm(t, "connect: {timeout: 60s}\n", 500, 250)
	t.Logf("round trip p50 %v, p99 %v; in the storm p50 %v, p99 %v; the storm took %v", r.before50, r.before99, r.during50, r.during99, r.Took)
	if r.Failed > 0 {
		t.Errorf("%d devices did not get in", r.Failed)
	}
	if r.during99 > harness.Slack {
		t.Errorf("round trips took up to %v (99th percentile) in the storm", r.during99)
	}
}

// BenchmarkReconnectStorm measures what a storm of 5,000 devices costs connected devices,
// and how long it takes.
func BenchmarkReconnectStorm(b *testing.B) {
	for b.Loop() {
		r := measureStorm(b, os.Getenv("STORM_SECTIONS"), 5000, 1000)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(r.before50.Seconds()*1000, "ms-p50-calm")
		b.ReportMetric(r.before99.Seconds()*1000, "ms-p99-calm")
		b.ReportMetric(r.during50.Seconds()*1000, "ms-p50-storm")
		b.ReportMetric(r.during99.Seconds()*1000, "ms-p99-storm")
		b.ReportMetric(r.Took.Seconds(), "s-storm")
		b.ReportMetric(float64(r.Failed), "failed")
	}
}
