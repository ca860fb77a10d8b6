package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// TestDeniedRightBehindTheCONNECT: what a device sends in one TLS record with its CONNECT
// is read while the session starts. A message in there that the topic rules do not allow
// is dropped like any other, and the session goes on.
func TestDeniedRightBehindTheCONNECT(t *testing.T) {
	nothing, err := authz.ParseACL([]byte(`[]`), authz.ACLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	broker := acceptCONNECTs(t)
	denied := make(chan string, 1)
	srv := &Server{Trace: Trace{Denied: func(_ *Client, d Denied) { denied <- string(d.Topic) }}}
	t.Cleanup(func() { srv.Close() })
	err = srv.SetPolicy(&Policy{
		Authorizer: authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
			return &authz.Grant{Subject: "alpha", ACL: nothing}, nil
		}),
		Upstream: DialFunc(func(ctx context.Context, _ *Client) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", broker)
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	certificate, pool := testCertificate(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(&Listener{Listener: ln, TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}})
	device, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	connect := with(4, "d", goodToken)
	if _, err := device.Write(append(connect.Append(nil), publish...)); err != nil {
		t.Fatal(err)
	}
	var ack [4]byte
	if _, err := io.ReadFull(device, ack[:]); err != nil || ack[3] != 0 {
		t.Fatalf("CONNACK % x, %v", ack, err)
	}
	if topic := <-denied; topic != "t" {
		t.Errorf("a message to %q was denied", topic)
	}
	for c := range srv.Clients() {
		if c.Subject() != "alpha" {
			t.Errorf("a session of %s", c.Subject())
		}
	}
}
