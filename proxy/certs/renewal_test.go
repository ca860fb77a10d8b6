package certs

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"
)

const day = 24 * time.Hour

func TestRenewal(t *testing.T) {
	a := newTestAuthority(t.TempDir())
	made := mustEnsure(t, a.Authority)
	src, root := mustLoad(t, a.Files()), mustParse(t, a.CertificateFile())
	first := src.Leaf()
	if left := first.NotAfter.Sub(made.RenewAt); left < 132*day || left > 133*day {
		t.Errorf("RenewAt leaves %v of 397 days", left)
	}

	before := snapshot(t, a.Dir)
	a.now = made.RenewAt.Add(-time.Second)
	if status := mustEnsure(t, a.Authority); status.CertificateMade || !status.RenewAt.Equal(made.RenewAt) {
		t.Errorf("a second too early: %+v", status)
	}
	mustDiffer(t, a.Dir, before)
	a.now = made.RenewAt
	if status := mustEnsure(t, a.Authority); !status.CertificateMade || status.AuthorityMade || !status.RenewAt.After(a.now) {
		t.Errorf("when due: %+v", status)
	}
	mustDiffer(t, a.Dir, before, serverFile)

	mustReload(t, src, true)
	if !src.Leaf().NotAfter.After(first.NotAfter) || !a.Authority.now().After(src.Leaf().NotBefore) {
		t.Errorf("renewed certificate is good from %v to %v", src.Leaf().NotBefore, src.Leaf().NotAfter)
	}
	client := trust(root)
	client.Time = func() time.Time { return first.NotAfter.Add(day) }
	if _, err := handshake(t, src.ServerConfig(Options{}), client); err != nil {
		t.Errorf("device with the old ca-root.pem: %v", err)
	}
}

// The default key identifiers of Go differ between releases. Those of a renewed authority must
// not change, or openssl rejects certificates that it issues next with the ca-root.pem on
// devices.
func TestRenewalKeepsKeyIdentifier(t *testing.T) {
	a := newTestAuthority(t.TempDir())
	mustEnsure(t, a.Authority)
	old := mustParse(t, a.CertificateFile())
	t.Setenv("GODEBUG", "x509sha256skid=0") // as in Go 1.24
	a.now = a.now.AddDate(9, 0, 0)
	if status := mustEnsure(t, a.Authority); !status.AuthorityMade || !status.CertificateMade {
		t.Fatalf("nine years later: %+v", status)
	}
	if leaf := mustParse(t, a.Files().Certificate); !bytes.Equal(leaf.AuthorityKeyId, old.SubjectKeyId) {
		t.Errorf("authority key %x, was %x", leaf.AuthorityKeyId, old.SubjectKeyId)
	}
}

// A proxy that runs for 25 years serves, on every day, a certificate that is valid for months
// and that every ca-root.pem verifies that was distributed and has not expired.
func TestRenewalForALifetime(t *testing.T) {
	a := newTestAuthority(t.TempDir())
	var roots []*x509.Certificate
	var renewals int
	for range 25 * 365 / 10 {
		status := mustEnsure(t, a.Authority)
		if status.AuthorityMade {
			roots = append(roots, mustParse(t, a.CertificateFile()))
		}
		if status.CertificateMade {
			renewals++
		}
		leaf := mustParse(t, a.Files().Certificate)
		if left := leaf.NotAfter.Sub(a.now); left < 120*day {
			t.Fatalf("%v: %v left", a.now, left)
		}
		for i, root := range roots {
			_, err := leaf.Verify(x509.VerifyOptions{DNSName: "gateway", Roots: trust(root).RootCAs, CurrentTime: a.now})
			if good := a.now.Before(root.NotAfter); good != (err == nil) {
				t.Fatalf("%v: authority %d, good until %v: %v", a.now, i, root.NotAfter, err)
			}
		}
		a.now = a.now.Add(10 * day)
	}
	if len(roots) != 4 || renewals < 25 || renewals > 50 {
		t.Errorf("%d authorities and %d certificates in 25 years", len(roots), renewals)
	}
}

func TestNamesChange(t *testing.T) {
	a := newTestAuthority(t.TempDir())
	mustEnsure(t, a.Authority)
	src, root, before := mustLoad(t, a.Files()), mustParse(t, a.CertificateFile()), snapshot(t, a.Dir)

	a.Names = []string{"LOCALHOST", "::1"}
	if status := mustEnsure(t, a.Authority); status.CertificateMade {
		t.Error("renewed though the names are covered")
	}
	mustDiffer(t, a.Dir, before)
	a.Names = []string{"localhost", "192.0.2.7", "gateway.example"}
	if status := mustEnsure(t, a.Authority); !status.CertificateMade || status.AuthorityMade {
		t.Errorf("a new address: %+v", status)
	}
	mustDiffer(t, a.Dir, before, serverFile)
	mustReload(t, src, true)
	for _, name := range a.Names {
		client := trust(root)
		client.ServerName = name
		if _, err := handshake(t, src.ServerConfig(Options{}), client); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if src.Leaf().VerifyHostname("gateway") == nil {
		t.Error("a name that is gone is still in the certificate")
	}
}

// A machine without a battery for its clock starts in 1970 until it gets the time from the
// network. Nothing that it makes before may be expired afterwards.
func TestClockStartsIn1970(t *testing.T) {
	a := newTestAuthority(t.TempDir())
	today := a.now
	mustEnsure(t, a.Authority)
	before := snapshot(t, a.Dir)

	a.now = time.Unix(0, 0)
	if status := mustEnsure(t, a.Authority); status.CertificateMade || status.AuthorityMade {
		t.Errorf("renewed in 1970: %+v", status)
	}
	mustDiffer(t, a.Dir, before)
	a.Names = append(a.Names, "192.0.2.7")
	mustEnsure(t, a.Authority)
	mustDiffer(t, a.Dir, before, serverFile)
	before = snapshot(t, a.Dir)
	a.now = today
	if status := mustEnsure(t, a.Authority); status.CertificateMade {
		t.Error("what was issued in 1970 had to be renewed")
	}
	mustDiffer(t, a.Dir, before)
	mustServe(t, mustLoad(t, a.Files()), mustParse(t, a.CertificateFile()))
}

// If the very first start is in 1970, the next Ensure with the correct time makes valid
// certificates with the same keys.
func TestClockStartedIn1970(t *testing.T) {
	a := newTestAuthority(t.TempDir())
	today := a.now
	a.now = time.Unix(0, 0)
	mustEnsure(t, a.Authority)
	old, before := mustParse(t, a.CertificateFile()), snapshot(t, a.Dir)
	a.now = today
	if status := mustEnsure(t, a.Authority); !status.CertificateMade || !status.AuthorityMade {
		t.Errorf("Ensure() = %+v", status)
	}
	mustDiffer(t, a.Dir, before, authorityFile, serverFile)
	src := mustLoad(t, a.Files())
	mustServe(t, src, mustParse(t, a.CertificateFile()))
	if err := src.Leaf().CheckSignatureFrom(old); err != nil {
		t.Errorf("devices with the ca-root.pem of 1970: %v", err)
	}
}
