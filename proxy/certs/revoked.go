package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// serial identifies a certificate as a revocation list does (RFC 5280 section 5.1.2.6).
type serial struct{ issuer, number string }

// parseRevoked parses a file of revocation lists, in PEM or as a single list in DER. Each list
// must be signed by one of the authorities, because a forged list could lock out any device.
//
// A list whose next update is overdue stays in force. Dropping it would accept revoked devices
// again; refusing every device would lock out a fleet because a cron job failed.
func parseRevoked(data []byte, authorities []*x509.Certificate) (map[serial]struct{}, error) {
	revoked := make(map[serial]struct{})
	// Skipping a truncated list would accept the devices in it again.
	blocks, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	for i, block := range blocks {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("block %d is a %q, not an X509 CRL; remove it", i+1, block.Type)
		}
		if err := addRevoked(revoked, block.Bytes, authorities); err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
	}
	if len(blocks) > 0 {
		return revoked, nil
	}
	if err := addRevoked(revoked, data, authorities); err != nil {
		return nil, fmt.Errorf("no revocation list in PEM or DER: %w", err)
	}
	return revoked, nil
}

func addRevoked(revoked map[serial]struct{}, der []byte, authorities []*x509.Certificate) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("cannot be parsed: %w; have it issued anew", err)
	}
	if !signedByAny(list, authorities) {
		return errors.New("is not signed by any of the client authorities; have the authority that issues the devices' certificates issue it")
	}
	for _, entry := range list.RevokedCertificateEntries {
		revoked[serial{string(list.RawIssuer), entry.SerialNumber.String()}] = struct{}{}
	}
	return nil
}

func signedByAny(list *x509.RevocationList, authorities []*x509.Certificate) bool {
	for _, ca := range authorities {
		if string(ca.RawSubject) == string(list.RawIssuer) && list.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// errRevoked is the error of a handshake with a revoked certificate.
var errRevoked = errors.New("the client's certificate, or that of its authority, has been revoked")

// refuseRevoked refuses a connection if every verified chain contains a revoked certificate. It
// is also called for resumed sessions.
func (s *Source) refuseRevoked(state tls.ConnectionState) error {
	if s.Revokes(state.VerifiedChains) {
		return errRevoked
	}
	return nil
}

// Revokes reports whether the current revocation lists revoke the certificate of a client that
// was verified by these chains: each chain contains a revoked certificate. Without a chain
// nothing is revoked.
func (s *Source) Revokes(chains [][]*x509.Certificate) bool {
	revoked := s.current.Load().revoked
	if len(revoked) == 0 || len(chains) == 0 {
		return false
	}
	for _, chain := range chains {
		if !anyRevoked(chain, revoked) {
			return false
		}
	}
	return true
}

// Accepts reports whether the current authorities and revocation lists accept a client that was
// verified by these chains: one of the chains leads to an authority and contains no revoked
// certificate. Accepts does not check dates. A client without a chain presented no certificate
// and is accepted. Without a ClientCA file every client is accepted.
func (s *Source) Accepts(chains [][]*x509.Certificate) bool {
	id := s.current.Load()
	if len(chains) == 0 || len(id.authorities) == 0 {
		return true
	}
	for _, chain := range chains {
		if id.trusts(chain) && !anyRevoked(chain, id.revoked) {
			return true
		}
	}
	return false
}

// trusts reports whether a current authority issued the chain. An authority whose certificate
// was renewed with the same name and key is still the same authority.
func (id *identity) trusts(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(cert *x509.Certificate) bool {
		return slices.ContainsFunc(id.authorities, func(ca *x509.Certificate) bool {
			return bytes.Equal(ca.RawSubject, cert.RawSubject) && bytes.Equal(ca.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo)
		})
	})
}

// Revoked returns the number of certificates in the current revocation lists.
func (s *Source) Revoked() int { return len(s.current.Load().revoked) }

func anyRevoked(chain []*x509.Certificate, revoked map[serial]struct{}) bool {
	for _, cert := range chain {
		if _, is := revoked[serial{string(cert.RawIssuer), cert.SerialNumber.String()}]; is {
			return true
		}
	}
	return false
}
