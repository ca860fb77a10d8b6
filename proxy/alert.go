package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// plainAlert is the size in bytes of an alert that is not encrypted: a record header and
// two bytes. An encrypted record of TLS 1.3 is longer.
const plainAlert = recordHeader + 2

const (
	recordHeader = 5
	recordAlert  = 21
)

// lastRead is the last bytes that have been read from a connection.
type lastRead [plainAlert]byte

// add appends b.
func (l *lastRead) add(b []byte) {
	if len(b) < len(l) {
		copy(l[:], l[len(b):])
	}
	copy(l[max(0, len(l)-len(b)):], b[max(0, len(b)-len(l)):])
}

// alert returns the alert in l, if there is one that was sent in plain text.
//
// A client of TLS 1.3 that does not accept the certificate should encrypt its alert.
// OpenSSL does not, because at that time it does not use its keys yet. To crypto/tls such
// an alert is a record that cannot be decrypted.
func (l *lastRead) alert() (tls.AlertError, bool) {
	if l[0] != recordAlert || l[1] != 3 || l[3] != 0 || l[4] != 2 {
		return 0, false
	}
	return tls.AlertError(l[6]), true
}

// alertOf returns the alert with which the client has ended a handshake. err is the error
// of the handshake.
func alertOf(err error, last *lastRead) (tls.AlertError, bool) {
	var op *net.OpError
	if !errors.As(err, &op) {
		return 0, false
	}
	switch op.Op {
	case "local error":
		return last.alert()
	case "remote error":
		for _, alert := range []tls.AlertError{badCertificate, unsupportedCertificate, revokedCertificate, expiredCertificate, unknownCertificate, unknownCA} {
			if alert.Error() == op.Err.Error() {
				return alert, true
			}
		}
	}
	return 0, false
}

// The alerts of a client about the certificate of the server, RFC 8446 section 6.2.
const (
	badCertificate         tls.AlertError = 42
	unsupportedCertificate tls.AlertError = 43
	revokedCertificate     tls.AlertError = 44
	expiredCertificate     tls.AlertError = 45
	unknownCertificate     tls.AlertError = 46
	unknownCA              tls.AlertError = 48
)

// alertError describes a handshake that the client has ended with an alert, and names the
// likely cause.
func alertError(alert tls.AlertError) error {
	cause := ""
	switch alert {
	case unknownCA:
		cause = "; does it have the file of the CA that has issued the certificate?"
	case badCertificate, unknownCertificate:
		cause = "; does it have the file of the CA that has issued the certificate, and is the name that it connects to in there?"
	case expiredCertificate:
		cause = "; is its clock right?"
	}
	return fmt.Errorf("the client has ended the handshake: %w%s", alert, cause)
}
