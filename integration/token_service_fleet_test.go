//go:build integration && linux

package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// fleetClients connects many devices at the same time.
type fleetClients struct {
	t      testing.TB
	proxy  *harness.Proxy
	from   string // the address they come from
	atOnce int    // how many dial at once; 0 means all
}

// fleetConnection is the outcome for one device.
type fleetConnection struct {
	*packetstest.Client
	code packets.ReasonCode
	err  error
}

// connectAll connects one device for each CONNECT.
func (f fleetClients) connectAll(devices []*packets.Connect) []fleetConnection {
	arrivals := make([]fleetConnection, len(devices))
	width := f.atOnce
	if width == 0 {
		width = len(devices)
	}
	places := make(chan struct{}, width)
	var wg sync.WaitGroup
	for i, c := range devices {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			arrivals[i] = f.connect(c)
		})
	}
	wg.Wait()
	return arrivals
}

func (f fleetClients) connect(c *packets.Connect) (a fleetConnection) {
	dialer := net.Dialer{Timeout: harness.Patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(f.from)}, ControlContext: bindPortLate}
	conn, err := dialer.Dial("tcp", f.proxy.Plain)
	if err != nil {
		return fleetConnection{err: err}
	}
	f.t.Cleanup(func() { conn.Close() })
	device, ack, err := packetstest.Try(conn, c)
	return fleetConnection{Client: device, code: ack.Code, err: err}
}

// bindPortLate makes the system choose the local port of a socket when it connects.
// Otherwise it must be a port that no connection has had for a minute, and there are too
// few of those.
func bindPortLate(_ context.Context, _, _ string, c syscall.RawConn) (err error) {
	controlled := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return errors.Join(controlled, err)
}

// mustConnectAll is connectAll for devices that must all be accepted.
func (f fleetClients) mustConnectAll(devices []*packets.Connect) []fleetConnection {
	f.t.Helper()
	begun := time.Now()
	arrivals := f.connectAll(devices)
	refused := map[string]int{}
	for _, a := range arrivals {
		if a.err != nil || a.code != packets.Success {
			refused[fmt.Sprint(a.code, " ", a.err)]++
		}
	}
	if len(refused) > 0 {
		f.t.Errorf("of %d devices were refused: %v", len(devices), refused)
	}
	f.t.Logf("%d devices are in after %v", len(devices), time.Since(begun).Round(time.Millisecond))
	return arrivals
}

func closeAll(arrivals []fleetConnection) {
	for _, a := range arrivals {
		if a.Client != nil {
			a.Conn.Close()
		}
	}
}

// newDevices returns the CONNECT packets of n devices with tokens of their own.
func newDevices(p *harness.Proxy, n int) []*packets.Connect {
	p.AddSecret(harness.SecretTail)
	all := make([]*packets.Connect, n)
	for i := range all {
		all[i] = packetstest.Identity(byte(4+i%2), fmt.Sprint("member-", i), fmt.Sprint("member ", i, harness.SecretTail))
	}
	return all
}

// awaitNoSessions waits until the proxy has no session.
func awaitNoSessions(t *testing.T, p *harness.Proxy) {
	t.Helper()
	harness.Eventually(t, "the end of all sessions", func() bool { return harness.Metric(t, p, "mqtt_auth_proxy_sessions") == 0 })
}

// TestFleetReconnects: two thousand devices connect at once to a slow service, and later
// again without a service.
func TestFleetReconnects(t *testing.T) {
	service := harness.StartTokenService(t, harness.Allow)
	service.Delay = 5 * time.Millisecond
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth())
	p.Start()
	f := fleetClients{t: t, proxy: p, from: "127.0.0.1"}
	devices := newDevices(p, 2000)
	closeAll(f.mustConnectAll(devices))
	if asked := len(service.Questions()); asked != len(devices) {
		t.Errorf("%d questions for %d new devices", asked, len(devices))
	}
	awaitNoSessions(t, p)
	closeAll(f.mustConnectAll(devices))
	awaitNoSessions(t, p)
	service.Stop()
	closeAll(f.mustConnectAll(devices))
	if asked := len(service.Questions()); asked != 0 {
		t.Errorf("%d questions for devices whose answers are remembered", asked)
	}
}

// TestFleetWithOneToken: a thousand connections with the same new token ask the service
// once.
func TestFleetWithOneToken(t *testing.T) {
	service := harness.StartTokenService(t, harness.Allow)
	service.Delay = 300 * time.Millisecond
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+strings.Replace(service.Auth(), "timeout: 5s", `timeout: 5s, body: '{"v":1,"token":"${token}"}'`, 1))
	p.Start()
	devices := newDevices(p, 1000)
	for _, d := range devices {
		d.Username = "shared" + harness.SecretTail
	}
	f := fleetClients{t: t, proxy: p, from: "127.0.0.1"}
	closeAll(f.mustConnectAll(devices))
	if asked := len(service.Questions()); asked != 1 {
		t.Errorf("%d questions about one token, want 1", asked)
	}
}

// TestRevokeFleet: the admin API ends a thousand sessions, each by its subject. Their
// tokens stay refused although the service allows them.
func TestRevokeFleet(t *testing.T) {
	service := harness.StartTokenService(t, harness.Allow)
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth())
	p.Start()
	f := fleetClients{t: t, proxy: p, from: "127.0.0.1", atOnce: 100}
	devices := newDevices(p, 1000)
	arrivals := f.mustConnectAll(devices)
	took := make([]time.Duration, len(arrivals))
	var next atomic.Int64
	var wg sync.WaitGroup
	asked := make([]time.Time, len(arrivals))
	ready := make([]chan struct{}, len(arrivals))
	for i := range ready {
		ready[i] = make(chan struct{})
	}
	for range 4 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(arrivals)); i = next.Add(1) - 1 {
				asked[i] = time.Now()
				close(ready[i])
				if status, answer := p.Request(http.MethodPost, "/v1/revocations", fmt.Sprintf(`{"subject":"device of member %d","mode":"deny"}`, i)); status != 200 ||
					!strings.HasSuffix(answer, `"sessions":1}`) || strings.HasPrefix(answer, `{"entries":0,`) {
					t.Errorf("device %d: status %d, %s", i, status, answer)
				}
			}
		})
	}
	for i, a := range arrivals {
		wg.Go(func() {
			code, err := a.AwaitEnd(harness.Patience)
			<-ready[i]
			took[i] = time.Since(asked[i])
			if err != nil || took[i] < 0 || a.Level == 5 && code != packets.AdministrativeAction {
				t.Errorf("device %d: %v, %v", i, code, err)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("cut after p50 %v, p99 %v, at most %v", p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond), took[len(took)-1].Round(10*time.Microsecond))
	if p99 > harness.WithdrawalLimit+harness.Slack {
		t.Errorf("p99 %v, promised is %v", p99, harness.WithdrawalLimit)
	}
	for i, a := range f.connectAll(devices) {
		if want := map[byte]packets.ReasonCode{4: packets.RefusedNotAuthorized, 5: packets.NotAuthorized}[a.Level]; a.err != nil || a.code != want {
			t.Fatalf("device %d connects again and gets %v, %v, want %v", i, a.code, a.err, want)
		}
	}
}

// TestFloodOfTokens: guessed tokens from many addresses keep no known device out, and the
// service is asked about few of them.
func TestFloodOfTokens(t *testing.T) {
	service := harness.StartTokenService(t, func(q harness.Question) harness.Reply {
		if strings.HasSuffix(q.Token, harness.SecretTail) {
			return harness.Allow(q)
		}
		return harness.ReplyJSON(`{"result":"deny","reason_code":"bad_credentials"}`)
	})
	service.Delay = 5 * time.Millisecond
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth("cache: {ttl: 10m}")+"connect: {timeout: 60s}\n")
	p.Start()
	known := fleetClients{t: t, proxy: p, from: "127.0.0.1", atOnce: 200}
	devices := newDevices(p, 2000)
	closeAll(known.mustConnectAll(devices))
	awaitNoSessions(t, p)
	service.Questions()

	const guesses, addresses = 20_000, 49
	var attackers sync.WaitGroup
	var let atomic.Int64
	begun := time.Now()
	for i := range addresses {
		attackers.Go(func() {
			from := fleetClients{t: t, proxy: p, from: fmt.Sprintf("127.0.0.%d", 2+i)}
			for range guesses / addresses {
				a := from.connect(packetstest.Identity(5, "guess", rand.Text()))
				if a.err == nil && a.code == packets.Success {
					let.Add(1)
				}
				closeAll([]fleetConnection{a})
			}
		})
	}
	arrivals := known.connectAll(devices)
	knownTook := time.Since(begun)
	attackers.Wait()
	in := 0
	for _, a := range arrivals {
		if a.err == nil && a.code == packets.Success {
			in++
		}
	}
	asked := service.Questions()
	about := slices.IndexFunc(asked, func(q harness.Question) bool { return strings.HasSuffix(q.Token, harness.SecretTail) })
	t.Logf("%d of %d known devices in %v, amid %d guesses in %v, %d of which reached the service",
		in, len(devices), knownTook.Round(time.Millisecond), guesses, time.Since(begun).Round(time.Millisecond), len(asked))
	if 1000*in < 999*len(devices) || about >= 0 || let.Load() != 0 {
		t.Errorf("%d known devices are in, %d guesses, the service was asked about a known one: %t", in, let.Load(), about >= 0)
	}
	// A burst of 20 for each address, 10 a second, and those in flight.
	if most := addresses*(20+10*(1+int(time.Since(begun).Seconds()))) + 64; len(asked) > most {
		t.Errorf("%d guesses reached the service, want at most %d", len(asked), most)
	}
}
