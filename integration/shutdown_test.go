//go:build integration

package integration

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// fleet is devices that publish at QoS 1 as fast as they are acknowledged.
type fleet struct {
	running sync.WaitGroup

	mu    sync.Mutex
	acked map[string]bool // payloads
	ends  []packets.ReasonCode
}

// launchFleet makes devices publish until their connections end. payload must return a
// different text for each number.
func launchFleet(t *testing.T, p *harness.Proxy, token, topic string, payload func(n int) string) *fleet {
	t.Helper()
	const size, inFlight = 8, 10
	f := &fleet{acked: map[string]bool{}}
	for i := range size {
		d := p.Connect(t, 5, fmt.Sprintf("fleet-%d", i), token)
		f.running.Go(func() {
			for n := i; ; n += inFlight * size {
				var burst [][]byte
				for k := range inFlight {
					burst = append(burst, []byte(payload(n+k*size)))
				}
				if err := d.PublishAll(topic, burst, f.acknowledge); err != nil {
					f.end(d, err)
					return
				}
			}
		})
	}
	harness.Eventually(t, "a start of the fleet", func() bool { return f.count() > 500 })
	return f
}

func (f *fleet) acknowledge(payload []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked[string(payload)] = true
}

func (f *fleet) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.acked)
}

// end records why a device stopped: the reason code of the DISCONNECT that it got instead
// of an acknowledgement, or 0.
func (f *fleet) end(d *packetstest.Client, err error) {
	code, _ := d.AwaitEnd(harness.Patience)
	var got *packetstest.UnexpectedError
	if errors.As(err, &got) && packets.Type(got.Packet[0]>>4) == packets.DISCONNECT {
		var bye packets.Disconnect
		if bye.Parse(got.Packet, d.Level) == nil {
			code = bye.Code
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends = append(f.ends, code)
}

// TestShutdownUnderLoad: no acknowledged message is lost when the program ends, and every
// device gets a DISCONNECT with the reason.
func TestShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	t.Run("mosquitto", func(t *testing.T) {
		t.Parallel()
		m := harness.StartMosquitto(t)
		behind := packetstest.Identity(5, "behind", m.Username)
		behind.HasPassword, behind.Password = true, m.Password
		observer := packetstest.Connect(t, packetstest.Dial(t, m.Addr), behind)
		observer.MustSubscribe("load", 1)
		seen := collect(t, observer)
		p := harness.NewProxy(t, m.Upstream())
		token := p.Token("fleet")
		p.Start()
		f := launchFleet(t, p, token, "load", func(n int) string { return fmt.Sprint(n) })
		f.shutdown(t, p)
		harness.Eventually(t, "the broker's having all that was acknowledged", func() bool {
			return missing(f.acked, seen()) == 0
		})
	})
	t.Run("bundled", func(t *testing.T) {
		t.Parallel()
		p := harness.NewProxy(t, "")
		token := p.Token("fleet")
		p.Start()
		f := launchFleet(t, p, token, "v1/devices/me/telemetry", telemetryPoint)
		f.shutdown(t, p)
		p.Start()
		checkStored(t, p, f)
	})
}

// shutdown stops the program under load.
func (f *fleet) shutdown(t *testing.T, p *harness.Proxy) {
	t.Helper()
	before := time.Now()
	p.Stop()
	took := time.Since(before)
	f.running.Wait()
	t.Logf("%d messages acknowledged, ended after %v", len(f.acked), took.Round(time.Millisecond))
	if took > harness.Slack {
		t.Errorf("took %v to end, the drain is 30s", took)
	}
	for _, code := range f.ends {
		if code != packets.ServerShuttingDown {
			t.Errorf("devices got %v, want %v for each", f.ends, packets.ServerShuttingDown)
			break
		}
	}
}

// collect receives messages until the connection ends. The function that it returns
// returns those received so far.
func collect(t *testing.T, d *packetstest.Client) (seen func() map[string]bool) {
	t.Helper()
	var mu sync.Mutex
	payloads := map[string]bool{}
	go func() {
		for {
			m, err := d.Next(time.Minute)
			if err != nil {
				return
			}
			mu.Lock()
			payloads[string(m.Payload)] = true
			mu.Unlock()
		}
	}()
	return func() map[string]bool {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(payloads)
	}
}

// missing returns how many of the wanted messages are not there.
func missing(wanted, there map[string]bool) int {
	n := 0
	for w := range wanted {
		if !there[w] {
			n++
		}
	}
	return n
}

// TestSecondSignalEndsSessions: a device that does not read delays the shutdown, because
// what the broker has sent it is passed on first. A second signal ends the program at
// once.
func TestSecondSignalEndsSessions(t *testing.T) {
	t.Parallel()
	for _, signals := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d signals", signals), func(t *testing.T) {
			t.Parallel()
			p := harness.NewProxy(t, "")
			token := p.Token("device")
			p.Start()
			stuck := p.Connect(t, 5, "stuck", token)
			stuck.MustSubscribe("flood", 0)
			// More than the sockets between the broker and the device hold.
			source := p.Connect(t, 5, "source", token)
			for range 32 {
				if err := source.Publish("flood", string(make([]byte, 1<<20))); err != nil {
					t.Fatal(err)
				}
			}
			before := time.Now()
			for range signals {
				p.Signal(syscall.SIGTERM)
				p.AwaitLog("shutdown", func(l harness.LogLine) bool { return l["message"] == "shutting down" })
			}
			status, took := p.Wait(t, harness.Patience), time.Since(before)
			t.Logf("status %d after %v", status, took.Round(time.Millisecond))
			if want := signals - 1; status != want {
				t.Errorf("status %d after %d signals, want %d", status, signals, want)
			}
			if signals == 2 && took > harness.Slack {
				t.Errorf("took %v to end after the second signal", took)
			}
		})
	}
}

// TestReadyzWhileDraining: /readyz fails as soon as a shutdown begins, so that load
// balancers send devices elsewhere.
func TestReadyzWhileDraining(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	s.KeepOpen = true // so that the session stays open
	p := harness.NewProxy(t, s.Upstream())
	token := p.Token("device")
	p.Start()
	p.Connect(t, 5, "device", token)
	if status, _ := harness.Fetch(t, "http://"+p.Admin+"/readyz", ""); status != 200 {
		t.Errorf("/readyz has status %d, want 200", status)
	}
	p.Signal(syscall.SIGTERM)
	p.AwaitLog("shutdown", func(l harness.LogLine) bool { return l["message"] == "shutting down" })
	var probes []int
	for p.Running() {
		resp, err := http.Get("http://" + p.Admin + "/readyz")
		if err != nil {
			break
		}
		resp.Body.Close()
		probes = append(probes, resp.StatusCode)
		time.Sleep(20 * time.Millisecond)
	}
	// The first may have come between the line of the log and the change.
	first := slices.Index(probes, 503)
	if first < 0 || first > 1 || slices.Contains(probes[first:], 200) {
		t.Errorf("while draining /readyz had %v, want 503", probes)
	}
}
