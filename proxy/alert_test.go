package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
)

// TestClientWithoutTheCA: the refusal says so, also where the client's alert of TLS 1.3 is
// not encrypted, as OpenSSL's is.
func TestClientWithoutTheCA(t *testing.T) {
	refused := make(chan Refusal, 1)
	addr, _ := serveTLS(t, func(s *Server, _ *Policy) { s.Trace.Refused = func(r Refusal) { refused <- r } })
	dial := func(t *testing.T) net.Conn {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	check := func(t *testing.T, want string) {
		t.Helper()
		if r := <-refused; r.Reason != TLSFailed || !strings.Contains(r.Err.Error(), want) {
			t.Errorf("refused as %v: %v; want %q", r.Reason, r.Err, want)
		}
	}
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t)
			defer conn.Close()
			if tls.Client(conn, &tls.Config{MinVersion: version, MaxVersion: version, ServerName: "localhost"}).Handshake() == nil {
				t.Fatal("the certificate is trusted")
			}
			check(t, "does it have the file of the CA")
		})
	}
	for _, tt := range []struct{ name, sent, want string }{
		{"unknown CA", "\x15\x03\x03\x00\x02\x02\x30", "unknown certificate authority; does it have the file of the CA"},
		{"expired", "\x14\x03\x03\x00\x01\x01\x15\x03\x03\x00\x02\x02\x2d", "expired certificate; is its clock right?"},
		{"another", "\x15\x03\x03\x00\x02\x02\x28", "the client has ended the handshake: tls: handshake failure"},
		{"no alert", "\x17\x03\x03\x00\x02\x02\x30", "bad record MAC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := dial(t)
			defer conn.Close()
			_ = tls.Client(conn, &tls.Config{
				MinVersion: tls.VersionTLS13, InsecureSkipVerify: true,
				VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
					_, err := conn.Write([]byte(tt.sent))
					conn.Close()
					return err
				},
			}).Handshake()
			check(t, tt.want)
		})
	}
}

func TestLastRead(t *testing.T) {
	const sent = "0123456789abcdef"
	for piece := 1; piece <= len(sent); piece++ {
		var l lastRead
		for at := 0; at < len(sent); at += piece {
			l.add([]byte(sent[at:min(at+piece, len(sent))]))
		}
		if string(l[:]) != "9abcdef" {
			t.Errorf("in pieces of %d: %q", piece, l)
		}
	}
}
