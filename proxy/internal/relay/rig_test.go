package relay

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/certtest"
)

func TestMain(m *testing.M) {
	if actAsChild() {
		return
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + EventLoops()) // as Pump.HoldThread asks for
	goleak.VerifyTestMain(m)
}

// pumps are the pumps that every test of behaviour runs with.
func pumps() map[string]func() *Pump {
	return map[string]func() *Pump{
		"goroutines": func() *Pump { return &Pump{Goroutines: true} },
		"parking":    func() *Pump { return &Pump{QuietAfter: time.Millisecond} },
		"holding":    func() *Pump { return &Pump{QuietAfter: time.Millisecond, HoldThread: true} },
	}
}

func eachPump(t *testing.T, f func(t *testing.T, newPump func() *Pump)) {
	for name, newPump := range pumps() {
		t.Run(name, func(t *testing.T) { f(t, newPump) })
	}
}

// transports are the ways to connect; proxyIsServer says which side of a TLS
// connection the relay holds.
var transports = map[string]func(t testing.TB, proxyIsServer bool) (peer net.Conn, ours Stack){
	"tcp":    func(t testing.TB, _ bool) (net.Conn, Stack) { return stacked(tcpPair(t)) },
	"unix":   func(t testing.TB, _ bool) (net.Conn, Stack) { return stacked(unixPair(t)) },
	"tls1.2": func(t testing.TB, server bool) (net.Conn, Stack) { return tlsPair(t, server, tls.VersionTLS12) },
	"tls1.3": func(t testing.TB, server bool) (net.Conn, Stack) { return tlsPair(t, server, tls.VersionTLS13) },
	"layer":  func(t testing.TB, server bool) (net.Conn, Stack) { return layerPair(t, server, false) },
	"layers": func(t testing.TB, server bool) (net.Conn, Stack) { return layerPair(t, server, true) },
}

// eachTransport runs f with every pump over every useful combination of transports.
func eachTransport(t *testing.T, f func(t *testing.T, r *rig)) {
	combinations := [][2]string{
		{"tcp", "tcp"}, {"tcp", "unix"}, {"unix", "tcp"}, {"tls1.3", "tcp"}, {"tls1.2", "unix"},
		{"tcp", "tls1.3"}, {"tcp", "tls1.2"}, {"tls1.3", "tls1.3"}, {"tls1.2", "tls1.2"},
		{"layer", "tcp"}, {"layers", "tcp"}, {"layers", "tls1.3"},
	}
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, c := range combinations {
			t.Run(c[0]+"-"+c[1], func(t *testing.T) { f(t, newRig(t, newPump(), c[0], c[1])) })
		}
	})
}

// rig is a pair between a device and a broker that the test plays.
type rig struct {
	testing.TB
	pump           *Pump
	device, broker net.Conn
	pair           Pair
	session        *Session
	result         chan Result
}

func newRig(t testing.TB, p *Pump, client, upstream string) *rig {
	t.Helper()
	r := &rig{TB: t, pump: patient(p)}
	r.device, r.pair.Client = transports[client](t, true)
	r.broker, r.pair.Upstream = transports[upstream](t, false)
	return r
}

// patient makes a pump that has no pairs yet wait for the test: it plays both sides, and a busy
// machine must not end its pairs before it has said everything. Limits that a test sets stay.
func patient(p *Pump) *Pump {
	if p.Linger == 0 {
		p.Linger = time.Minute
	}
	if p.Grace == 0 {
		p.Grace = time.Minute
	}
	return p
}

// start hands the pair over. The rig is taken down with the test.
func (r *rig) start() *rig {
	r.result = make(chan Result, 2)
	r.pair.Done = func(result Result) { r.result <- result }
	r.session = r.pump.Start(r.pair)
	r.Cleanup(func() {
		r.session.Cut(CloseNotice{})
		r.end()
		if n := len(r.result); n > 1 {
			r.Errorf("Done was called %d times", n)
		}
	})
	return r
}

func (r *rig) framed() *rig {
	r.pair.FromClient, r.pair.FromUpstream = &lengthFramer{}, &lengthFramer{}
	return r
}

// end waits for the result.
func (r *rig) end() Result {
	r.Helper()
	select {
	case result := <-r.result:
		r.result <- result
		return result
	case <-time.After(100 * time.Second):
		r.Fatal("the pair did not end")
		return Result{}
	}
}

func (r *rig) send(c net.Conn, b []byte) {
	r.Helper()
	if _, err := c.Write(b); err != nil {
		r.Fatal("send:", err)
	}
}

func (r *rig) expect(c net.Conn, want string) {
	r.Helper()
	got := make([]byte, len(want))
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		r.Fatalf("received %.60q (%d of %d bytes), %v", got[:n], n, len(want), err)
	}
}

// hangUp closes both ends. Until then the pair waits for them, for as long as its grace.
func (r *rig) hangUp() {
	r.Helper()
	r.broker.Close()
	r.device.Close()
}

// expectEnd reads c to its end and compares.
func (r *rig) expectEnd(c net.Conn, want string) {
	r.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if got, err := io.ReadAll(c); err != nil || string(got) != want {
		r.Fatalf("received %.60q (%d of %d bytes) and then %v", got, len(got), len(want), err)
	}
}

func closeWrite(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.(closeWriter).CloseWrite(); err != nil {
		t.Fatal("close write:", err)
	}
}

// reset closes c so that the peer sees a reset.
func reset(c net.Conn) {
	if tc, ok := c.(*tls.Conn); ok {
		c = tc.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	return dialled(t, "tcp", "127.0.0.1:0")
}

func unixPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	return dialled(t, "unix", filepath.Join(dir, "s"))
}

func dialled(t testing.TB, network, address string) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial(network, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// tlsPair returns the peer's end and ours, with the handshake done.
func tlsPair(t testing.TB, weAreServer bool, version uint16) (peer net.Conn, ours Stack) {
	t.Helper()
	a, b := tcpPair(t)
	return stacked(secure(t, a, b, weAreServer, version))
}

// stacked returns ours as a stack.
func stacked(peer, ours net.Conn) (net.Conn, Stack) { return peer, NewStack(ours) }

func secure(t testing.TB, a, b net.Conn, weAreServer bool, version uint16) (peer, ours *tls.Conn) {
	t.Helper()
	server := &tls.Config{Certificates: []tls.Certificate{certificate()}, MinVersion: version, MaxVersion: version}
	client := &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}
	if weAreServer {
		peer, ours = tls.Client(a, client), tls.Server(NewSocket(b), server)
	} else {
		peer, ours = tls.Server(a, server), tls.Client(NewSocket(b), client)
	}
	errs := make(chan error, 1)
	go func() { errs <- peer.Handshake() }()
	if err := ours.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	return peer, ours
}

// certificate is made once for all tests, which do not verify it.
var certificate = sync.OnceValue(func() tls.Certificate { return certtest.SelfSigned(&x509.Certificate{}).TLS() })

// lengthFramer follows packets made of a length, four bytes, and as many bytes.
type lengthFramer struct {
	header []byte
	rest   int
}

func (f *lengthFramer) Advance(b []byte) (int, error) {
	all := len(b)
	for len(b) > 0 {
		if f.rest > 0 {
			n := min(f.rest, len(b))
			f.rest, b = f.rest-n, b[n:]
			continue
		}
		f.header, b = append(f.header, b[0]), b[1:]
		if len(f.header) == 4 {
			f.rest, f.header = int(binary.BigEndian.Uint32(f.header)), f.header[:0]
		}
	}
	return all, nil
}

func (f *lengthFramer) AtBoundary() bool { return f.rest == 0 && len(f.header) == 0 }

func (f *lengthFramer) Remaining() int { return f.rest }
func (f *lengthFramer) Skip(n int)     { f.rest -= n }

func packet(payload string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}
