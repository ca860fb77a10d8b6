package relay

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childVar makes the test binary a relay of its own, so that memory and CPU can be
// distinguished from the test's: "pump transport broker-address filtered". The broker's address
// may be inside, which is a broker in the process that sends back what it gets. So many
// of the first connections are filtered, slowly. The pump "stops" is no relay at all: see
// countStops.
const childVar = "RELAY_TEST_CHILD"

const inside = "inside"

// actAsChild reports whether the process is a child, which has done its work then.
func actAsChild() bool {
	spec := os.Getenv(childVar)
	if spec == "" {
		return false
	}
	if err := runChild(spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// runChild accepts, dials the broker and relays until standard input ends. For each
// line of input it prints what it uses.
func runChild(spec string) error {
	f := strings.Fields(spec)
	if f[0] == "stops" {
		return countStops()
	}
	p := &Pump{Goroutines: f[0] == "goroutines", HoldThread: f[0] == "holding", QuietAfter: 200 * time.Millisecond}
	if p.HoldThread {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + EventLoops())
	}
	filtered, err := strconv.Atoi(f[3])
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	config := &tls.Config{Certificates: []tls.Certificate{certificate()}}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			pair := Pair{FromClient: &lengthFramer{}, FromUpstream: &lengthFramer{}}
			if filtered--; filtered >= 0 {
				pair.FilterUp = filterFunc(slowFilter)
			}
			go relayTo(p, c, pair, config, f[1] == "tls", f[2])
		}
	}()
	fmt.Println(ln.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		pss, err := proportionalSet()
		if err != nil {
			return err
		}
		fmt.Println(pss, int64(cpu), p.Stats().Quiet)
	}
	return nil
}

// slowFilter takes two microseconds for each byte, as judging small packets by a long
// list of rules does: 8 ms for a small buffer, 130 ms for a large one.
func slowFilter(b []byte) (pass, back []byte, err error) {
	for end := time.Now().Add(time.Duration(len(b)) * 2 * time.Microsecond); time.Now().Before(end); {
	}
	return nil, nil, nil
}

func relayTo(p *Pump, c net.Conn, pair Pair, config *tls.Config, secured bool, broker string) {
	client := NewStack(c)
	if secured {
		server := tls.Server(client.Socket, config)
		if server.Handshake() != nil {
			c.Close()
			return
		}
		client = NewStack(server)
	}
	upstream, err := dialBroker(broker)
	if err != nil {
		c.Close()
		return
	}
	pair.Client, pair.Upstream = client, NewStack(upstream)
	p.Start(pair)
}

func dialBroker(address string) (net.Conn, error) {
	if address != inside {
		return net.Dial("tcp", address)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			echo(c)
		}
	}()
	upstream, err := net.Dial("tcp", ln.Addr().String())
	return upstream, err
}

// echo sends back what it reads, in a way that the kernel does not do by itself.
func echo(c net.Conn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }

// proportionalSet is the process's share of memory, in bytes.
func proportionalSet() (n int64, err error) {
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			_, err = fmt.Sscan(rest, &n)
			return n << 10, err
		}
	}
	return 0, io.ErrUnexpectedEOF
}

// child is a relay in a process of its own.
type child struct {
	testing.TB
	transport, address string
	brokers            net.Listener
	in                 io.WriteCloser
	out                *bufio.Reader
}

func newChild(t testing.TB, pump, transport string) *child {
	t.Helper()
	brokers, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newChildOf(t, pump, transport, brokers.Addr().String(), 0)
	c.brokers = brokers
	t.Cleanup(func() { brokers.Close() })
	return c
}

// newChildOf starts a child whose broker has that address, and which filters so many of
// the first connections.
func newChildOf(t testing.TB, pump, transport, broker string, filtered int) *child {
	t.Helper()
	c := &child{TB: t, transport: transport}
	cmd := childCommand(t, fmt.Sprint(pump, " ", transport, " ", broker, " ", filtered))
	c.in, _ = cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	c.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.in.Close(); _ = cmd.Wait() })
	c.address = c.line()
	return c
}

func childCommand(t testing.TB, spec string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVar+"="+spec)
	cmd.Stderr = os.Stderr
	return cmd
}

func (c *child) line() string {
	c.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		c.Fatal("child:", err)
	}
	return strings.TrimSpace(s)
}

func (c *child) usage() (memory int64, cpu time.Duration, quiet int) {
	c.Helper()
	fmt.Fprintln(c.in)
	if _, err := fmt.Sscan(c.line(), &memory, (*int64)(&cpu), &quiet); err != nil {
		c.Fatal(err)
	}
	return memory, cpu, quiet
}

// connect returns both ends of a new pair.
func (c *child) connect() (device, broker net.Conn) {
	c.Helper()
	device = c.dial()
	broker, err := c.brokers.Accept()
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { broker.Close() })
	return device, broker
}

func (c *child) dial() (device net.Conn) {
	c.Helper()
	device, err := net.Dial("tcp", c.address)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { device.Close() })
	if c.transport == "tls" {
		device = tls.Client(device, &tls.Config{InsecureSkipVerify: true})
		if err := device.(*tls.Conn).Handshake(); err != nil {
			c.Fatal(err)
		}
	}
	return device
}

// waitUntilIdle gives the relay the time to park all pairs.
func (c *child) waitUntilIdle() { <-time.After(1500 * time.Millisecond) }

func eachChild(b *testing.B, f func(b *testing.B, c *child)) {
	for _, pump := range []string{"goroutines", "parking"} {
		for _, transport := range []string{"plain", "tls"} {
			b.Run(pump+"/"+transport, func(b *testing.B) { f(b, newChild(b, pump, transport)) })
		}
	}
}

// BenchmarkIdlePair measures how much memory an idle pair costs: once it has carried a
// small message, and after some records of 16 KiB. RELAY_TEST_PAIRS is how many there
// are, 1,000 if it is not set.
func BenchmarkIdlePair(b *testing.B) {
	pairs := 1000
	_, _ = fmt.Sscan(os.Getenv("RELAY_TEST_PAIRS"), &pairs)
	eachChild(b, func(b *testing.B, c *child) {
		exchange := func(device, broker net.Conn, size int) {
			message, buf := make([]byte, size), make([]byte, size)
			go device.Write(message)
			mustRead(b, broker, buf)
		}
		device, broker := c.connect() // what is needed once
		exchange(device, broker, 200<<10)
		c.waitUntilIdle()
		before, _, _ := c.usage()
		all := make([][2]net.Conn, pairs)
		for i := range all {
			all[i][0], all[i][1] = c.connect()
			exchange(all[i][0], all[i][1], 100)
		}
		c.waitUntilIdle()
		small, _, quiet := c.usage()
		for _, pair := range all {
			exchange(pair[0], pair[1], 200<<10)
		}
		c.waitUntilIdle()
		large, _, _ := c.usage()
		for b.Loop() {
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(small-before)/float64(pairs), "B/pair")
		b.ReportMetric(float64(large-before)/float64(pairs), "B/pair-after-bulk")
		b.ReportMetric(float64(quiet), "quiet")
	})
}

// BenchmarkPaced measures the CPU time that a message of 100 bytes costs the relay when
// 200 devices send 5,000 a second in all.
func BenchmarkPaced(b *testing.B) {
	eachChild(b, func(b *testing.B, c *child) {
		const devices, rounds = 200, 10
		var readers sync.WaitGroup
		defer readers.Wait()
		all := make([]net.Conn, devices)
		for i := range all {
			device, broker := c.connect()
			all[i] = device
			readers.Go(func() { discard(broker) })
			defer broker.Close()
		}
		c.waitUntilIdle()
		message := bytes.Repeat([]byte("m"), 100)
		_, before, _ := c.usage()
		for b.Loop() {
			tick := time.NewTicker(time.Second * 5 / 5000)
			for i := range devices * rounds {
				if i%5 == 0 {
					<-tick.C
				}
				if _, err := all[i%devices].Write(message); err != nil {
					b.Fatal(err)
				}
			}
			tick.Stop()
		}
		_, after, quiet := c.usage()
		b.ReportMetric(float64(after-before)/float64(b.N*devices*rounds)/1000, "cpu-us/message")
		b.ReportMetric(float64(quiet), "quiet")
	})
}

// BenchmarkAnswerAfterQuiet measures how long a message and its answer take when nothing
// has come for a while, with a broker of its own process and with one in the process
// of the relay, whose goroutines need the thread that waits for the network.
func BenchmarkAnswerAfterQuiet(b *testing.B) {
	for _, pump := range []string{"parking", "holding"} {
		for name, broker := range map[string]string{"outside": echoServer(b), "inside": inside} {
			b.Run(pump+"/"+name, func(b *testing.B) {
				device := newChildOf(b, pump, "plain", broker, 0).dial()
				var took []time.Duration
				for b.Loop() {
					took = append(took, roundTrips(b, device, 10, 100*time.Millisecond)...)
				}
				p50, _ := quantiles(took)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(p50, "us-p50")
			})
		}
	}
}

// BenchmarkNextToFilteredFlood measures how long a message and its answer take on a pair
// that is not filtered, alone and next to 20 filtered ones, each of which sends 60 KB
// every four seconds that take 120 ms to filter: three fifths of a processor.
func BenchmarkNextToFilteredFlood(b *testing.B) {
	for _, pump := range []string{"goroutines", "parking", "holding"} {
		b.Run(pump, func(b *testing.B) {
			const floods, every = 20, 4 * time.Second
			c := newChildOf(b, pump, "plain", inside, floods)
			all := make([]net.Conn, floods)
			for i := range all {
				all[i] = c.dial()
				all[i].Write(packet("first")) // so that they come in this order
			}
			device := c.dial()
			roundTrips(b, device, 10, 10*time.Millisecond)
			alone50, alone99 := quantiles(roundTrips(b, device, 200, 10*time.Millisecond))
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				tick := time.NewTicker(every / floods)
				defer tick.Stop()
				for i, burst := 0, bytes.Repeat(packet("abc"), 60_000/7); ; i++ {
					select {
					case <-stop:
						return
					case <-tick.C:
						all[i%floods].Write(burst)
					}
				}
			}()
			var nextToOthers []time.Duration
			for b.Loop() {
				nextToOthers = append(nextToOthers, roundTrips(b, device, 500, 10*time.Millisecond)...)
			}
			p50, p99 := quantiles(nextToOthers)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(alone50, "us-p50-alone")
			b.ReportMetric(p50, "us-p50")
			b.ReportMetric(alone99, "us-p99-alone")
			b.ReportMetric(p99, "us-p99")
			b.ReportMetric(p50/alone50, "times-p50")
		})
	}
}

// roundTrips sends so many messages, each after a pause, and returns how long their
// answers took.
func roundTrips(b *testing.B, device net.Conn, number int, pause time.Duration) (took []time.Duration) {
	message := packet("message")
	for range number {
		<-time.After(pause)
		start := time.Now()
		if _, err := device.Write(message); err != nil {
			b.Fatal(err)
		}
		mustRead(b, device, make([]byte, len(message)))
		took = append(took, time.Since(start))
	}
	return took
}

// quantiles returns the median and the 99th percentile, in microseconds.
func quantiles(took []time.Duration) (p50, p99 float64) {
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1000 }
	return at(0.5), at(0.99)
}

func echoServer(b *testing.B) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	return ln.Addr().String()
}
