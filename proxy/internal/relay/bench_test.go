package relay

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// BenchmarkRoundTrip is one message of 100 bytes to the broker and back.
func BenchmarkRoundTrip(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, r *rig) {
		message := bytes.Repeat([]byte("m"), 100)
		buf := make([]byte, len(message))
		for b.Loop() {
			r.send(r.device, message)
			mustRead(b, r.broker, buf)
			r.send(r.broker, message)
			mustRead(b, r.device, buf)
		}
	})
}

// BenchmarkUp and BenchmarkDown are bulk, in packets of 256 KiB.
func BenchmarkUp(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, r *rig) { bulk(b, r.device, r.broker) })
}

func BenchmarkDown(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, r *rig) { bulk(b, r.broker, r.device) })
}

func bulk(b *testing.B, from, to net.Conn) {
	message := packet(string(make([]byte, 256<<10)))
	b.SetBytes(int64(len(message)))
	done := make(chan int64)
	go func() {
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, 256<<10))
		done <- n
	}()
	sent := int64(0)
	for b.Loop() {
		n, err := from.Write(message)
		sent += int64(n)
		if err != nil {
			b.Fatal(err)
		}
	}
	closeWrite(b, from)
	if n := <-done; n != sent {
		b.Fatalf("%d of %d bytes arrived", n, sent)
	}
}

// BenchmarkStartEnd starts and ends a pair that carries nothing. It includes dialing.
func BenchmarkStartEnd(b *testing.B) {
	eachBenchmarkedPump(b, func(b *testing.B, p *Pump) {
		startAndEnd(b, p)
	})
}

func startAndEnd(b *testing.B, p *Pump) {
	newRig(b, p, "tcp", "tcp").start() // others are there, as a rule
	pair := unixPairs(b)
	for b.Loop() {
		device, client := pair()
		broker, upstream := pair()
		done := make(chan struct{})
		p.Start(Pair{Client: NewStack(client), Upstream: NewStack(upstream), Done: func(Result) { close(done) }})
		device.Close()
		discard(broker)
		broker.Close()
		<-done
	}
}

// BenchmarkCut is the same, ended by Cut with a close notice.
func BenchmarkCut(b *testing.B) {
	eachBenchmarkedPump(b, func(b *testing.B, p *Pump) {
		newRig(b, p, "tcp", "tcp").start()
		pair := unixPairs(b)
		bye := packet("bye")
		for b.Loop() {
			device, client := pair()
			broker, upstream := pair()
			done := make(chan struct{})
			s := p.Start(Pair{
				Client: NewStack(client), Upstream: NewStack(upstream),
				FromClient: &lengthFramer{}, FromUpstream: &lengthFramer{},
				Done: func(Result) { close(done) },
			})
			s.Cut(CloseNotice{Client: bye, Upstream: bye})
			discard(device)
			device.Close()
			<-done
			broker.Close()
		}
	})
}

func eachBenchmark(b *testing.B, f func(b *testing.B, r *rig)) {
	eachBenchmarkedPump(b, func(b *testing.B, p *Pump) {
		for _, client := range []string{"tcp", "tls1.3"} {
			b.Run(client, func(b *testing.B) { f(b, newRig(b, p, client, "tcp").framed().start()) })
		}
	})
}

func eachBenchmarkedPump(b *testing.B, f func(b *testing.B, p *Pump)) {
	for name, newPump := range pumps() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			f(b, newPump())
		})
	}
}

func mustRead(t testing.TB, c net.Conn, buf []byte) {
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatal(err)
	}
}

// unixPairs returns a source of connections that leaves no port behind that has to
// wait for its end.
func unixPairs(b *testing.B) func() (peer, ours net.Conn) {
	ln, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	return func() (peer, ours net.Conn) {
		if peer, err = net.Dial("unix", ln.Addr().String()); err != nil {
			b.Fatal(err)
		}
		if ours, err = ln.Accept(); err != nil {
			b.Fatal(err)
		}
		return peer, ours
	}
}
