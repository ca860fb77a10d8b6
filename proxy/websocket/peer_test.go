package websocket_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	peer "github.com/coder/websocket"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// TestAgainstAnotherImplementation sends data both ways in pieces of all sizes.
func TestAgainstAnotherImplementation(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			nc, err := ln.Accept()
			if err != nil {
				return err
			}
			defer nc.Close()
			conn, _, err := (&websocket.Endpoint{Paths: []string{"/mqtt"}}).Accept(nc, netip.Addr{})
			if err != nil {
				return err
			}
			_, err = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, make([]byte, 5000))
			return err
		}()
	}()
	ctx := context.Background()
	client, _, err := peer.Dial(ctx, "ws://"+ln.Addr().String()+"/mqtt", &peer.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	client.SetReadLimit(-1)
	conn := peer.NetConn(ctx, client, peer.MessageBinary)
	sent := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range sent {
		sent[i] = byte(r.Uint32())
	}
	go func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), r.IntN([]int{3, 130, 70_000}[r.IntN(3)]))
			if _, err := conn.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	pinged := make(chan error, 1)
	go func() { pinged <- client.Ping(ctx) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%v, the same: %v", err, bytes.Equal(got, sent))
	}
	// The pong arrives together with the data or after it.
	go io.ReadFull(conn, make([]byte, 1))
	if err := <-pinged; err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := client.Close(peer.StatusNormalClosure, "done"); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
