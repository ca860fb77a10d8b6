package relay

import (
	"io"
	"net"
	"testing"
)

// tcpPair returns both ends of a TCP connection over loopback.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestBytesBeforeEndOfStreamArrive(t *testing.T) {
	device, client := tcpPair(t)
	upstream, broker := tcpPair(t)
	var p Pump
	results := make(chan Result, 1)
	p.Start(Pair{Client: client, Upstream: upstream, Done: func(r Result) { results <- r }})

	if _, err := device.Write([]byte("from the device")); err != nil {
		t.Fatal(err)
	}
	if err := device.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	up, err := io.ReadAll(broker)
	if err != nil || string(up) != "from the device" {
		t.Fatalf("broker got %q, %v", up, err)
	}
	if _, err := broker.Write([]byte("from the broker")); err != nil {
		t.Fatal(err)
	}
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	down, err := io.ReadAll(device)
	if err != nil || string(down) != "from the broker" {
		t.Fatalf("device got %q, %v", down, err)
	}
	r := <-results
	if r.Err != nil || r.By != Client || r.Up != 15 || r.Down != 15 {
		t.Errorf("result %+v, want an orderly end by the client after 15 bytes each way", r)
	}
	p.Wait()
}
