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

// crowd is devices that connect at the same time.
type crowd struct {
	t     testing.TB
	proxy *harness.Proxy
	from  string // the address they come from
	width int    // how many dial at once; 0 means all
}

// arrival is how one of them fared.
type arrival struct {
	*packetstest.Client
	code packets.ReasonCode
	err  error
}

// arrive connects one device for each identity.
func (f crowd) arrive(devices []*packets.Connect) []arrival {
	arrivals := make([]arrival, len(devices))
	width := f.width
	if width == 0 {
		width = len(devices)
	}
	places := make(chan struct{}, width)
	var wg sync.WaitGroup
	for i, c := range devices {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			arrivals[i] = f.enter(c)
		})
	}
	wg.Wait()
	return arrivals
}

func (f crowd) enter(c *packets.Connect) (a arrival) {
	dialer := net.Dialer{Timeout: harness.Patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(f.from)}, ControlContext: lateport}
	conn, err := dialer.Dial("tcp", f.proxy.Plain)
	if err != nil {
		return arrival{err: err}
	}
	f.t.Cleanup(func() { conn.Close() })
	device, ack, err := packetstest.Try(conn, c)
	return arrival{Client: device, code: ack.Code, err: err}
}

// lateport makes the system choose the port of a socket when it connects. Chosen
// before, it must be one that no connection to anywhere has had for a minute, and
// those are too few.
func lateport(_ context.Context, _, _ string, c syscall.RawConn) (err error) {
	controlled := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return errors.Join(controlled, err)
}

// mustEnter is arrive for devices that all have to be let in.
func (f crowd) mustEnter(devices []*packets.Connect) []arrival {
	f.t.Helper()
	begun := time.Now()
	arrivals := f.arrive(devices)
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

func leave(arrivals []arrival) {
	for _, a := range arrivals {
		if a.Client != nil {
			a.Conn.Close()
		}
	}
}

// members are n devices with tokens of their own.
func members(p *harness.Proxy, n int) []*packets.Connect {
	p.AddSecret(harness.SecretTail)
	all := make([]*packets.Connect, n)
	for i := range all {
		all[i] = packetstest.Identity(byte(4+i%2), fmt.Sprint("member-", i), fmt.Sprint("member ", i, harness.SecretTail))
	}
	return all
}

// sessionsGone waits until the proxy has noticed that all are gone.
func sessionsGone(t *testing.T, p *harness.Proxy) {
	t.Helper()
	harness.Eventually(t, "the end of all sessions", func() bool { return harness.Metric(t, p, "mqtt_auth_proxy_sessions") == 0 })
}

// TestFleetReconnects: two thousand devices come at once, to a service that takes
// its time, and the second time without a service.
func TestFleetReconnects(t *testing.T) {
	service := harness.StartTokenService(t, harness.Allow)
	service.Delay = 5 * time.Millisecond
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth())
	p.Start()
	f := crowd{t: t, proxy: p, from: "127.0.0.1"}
	devices := members(p, 2000)
	leave(f.mustEnter(devices))
	if asked := len(service.Questions()); asked != len(devices) {
		t.Errorf("%d questions for %d new devices", asked, len(devices))
	}
	sessionsGone(t, p)
	leave(f.mustEnter(devices))
	sessionsGone(t, p)
	service.Stop()
	leave(f.mustEnter(devices))
	if asked := len(service.Questions()); asked != 0 {
		t.Errorf("%d questions for devices whose answers are remembered", asked)
	}
}

// TestFleetWithOneToken: a thousand connections with one new token cost the
// service one question.
func TestFleetWithOneToken(t *testing.T) {
	service := harness.StartTokenService(t, harness.Allow)
	service.Delay = 300 * time.Millisecond
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+strings.Replace(service.Auth(), "timeout: 1s", `timeout: 2s, body: '{"v":1,"token":"${token}"}'`, 1))
	p.Start()
	devices := members(p, 1000)
	for _, d := range devices {
		d.Username = "shared" + harness.SecretTail
	}
	f := crowd{t: t, proxy: p, from: "127.0.0.1"}
	leave(f.mustEnter(devices))
	if asked := len(service.Questions()); asked != 1 {
		t.Errorf("%d questions about one token, want 1", asked)
	}
}

// TestRevokeFleet: a thousand live sessions are ended by the admin API, each by the
// name of its device, and their tokens stay out though the service allows them.
func TestRevokeFleet(t *testing.T) {
	service := harness.StartTokenService(t, harness.Allow)
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth())
	p.Start()
	f := crowd{t: t, proxy: p, from: "127.0.0.1", width: 100}
	devices := members(p, 1000)
	arrivals := f.mustEnter(devices)
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
	if p99 > harness.Promised {
		t.Errorf("p99 %v, promised is %v", p99, harness.Promised)
	}
	for i, a := range f.arrive(devices) {
		if want := map[byte]packets.ReasonCode{4: packets.RefusedNotAuthorized, 5: packets.NotAuthorized}[a.Level]; a.err != nil || a.code != want {
			t.Fatalf("device %d comes back and gets %v, %v, want %v", i, a.code, a.err, want)
		}
	}
}

// TestFloodOfTokens: whoever guesses tokens from many addresses keeps no known
// device out, and the service is asked about few of the guesses.
func TestFloodOfTokens(t *testing.T) {
	service := harness.StartTokenService(t, func(q harness.Question) harness.Reply {
		if strings.HasSuffix(q.Token, harness.SecretTail) {
			return harness.Allow(q)
		}
		return harness.ReplyJSON(`{"result":"deny","reason_code":"bad_credentials"}`)
	})
	service.Delay = 5 * time.Millisecond
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth("cache: {ttl: 10m}"))
	p.Start()
	known := crowd{t: t, proxy: p, from: "127.0.0.1", width: 200}
	devices := members(p, 2000)
	leave(known.mustEnter(devices))
	sessionsGone(t, p)
	service.Questions()

	const guesses, addresses = 20_000, 49
	var attackers sync.WaitGroup
	var let atomic.Int64
	begun := time.Now()
	for i := range addresses {
		attackers.Go(func() {
			from := crowd{t: t, proxy: p, from: fmt.Sprintf("127.0.0.%d", 2+i)}
			for range guesses / addresses {
				a := from.enter(packetstest.Identity(5, "guess", rand.Text()))
				if a.err == nil && a.code == packets.Success {
					let.Add(1)
				}
				leave([]arrival{a})
			}
		})
	}
	arrivals := known.arrive(devices)
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
	// A burst of 20 for each address, 10 a second, and what was under way.
	if most := addresses*(20+10*(1+int(time.Since(begun).Seconds()))) + 64; len(asked) > most {
		t.Errorf("%d guesses reached the service, want at most %d", len(asked), most)
	}
}
