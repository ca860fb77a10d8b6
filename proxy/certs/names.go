package certs

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// maxLocalNames bounds what LocalNames returns: some hosts bear thousands of
// addresses, and devices have a few KiB to read a certificate into.
const maxLocalNames = 64

// LocalNames returns the names and addresses by which devices may reach this
// machine: localhost, the loopback addresses, the host's name (with and
// without its domain; with .local, as multicast DNS has it, if there is none),
// and the addresses of its interfaces, at most 64 in all. Link-local IPv6
// addresses are left out, as they mean nothing without their zone.
func LocalNames() []string {
	// A system that does not tell its name or its addresses still has the
	// loopback ones.
	host, _ := os.Hostname()
	addrs, _ := net.InterfaceAddrs()
	return localNames(host, addrs)
}

func localNames(host string, addrs []net.Addr) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	short, _, qualified := strings.Cut(host, ".")
	if qualified {
		names = append(names, host, short)
	} else {
		names = append(names, host, host+".local")
	}
	for _, addr := range addrs {
		prefix, err := netip.ParsePrefix(addr.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		if ip.IsUnspecified() || ip.IsMulticast() || ip.Is6() && ip.IsLinkLocalUnicast() {
			continue
		}
		names = append(names, ip.String())
	}
	var unique []string
	for _, name := range names {
		if !slices.Contains(unique, name) && checkName(name) == nil {
			unique = append(unique, name)
		}
	}
	return unique[:min(len(unique), maxLocalNames)]
}

// addNames makes names the subject alternative names of a certificate.
func addNames(template *x509.Certificate, names []string) {
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
}

// covers reports whether clients that know the server by any of names accept
// the certificate.
func covers(cert *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		return cert.VerifyHostname(name) != nil
	})
}

// checkName refuses what no client would look for in a certificate, or what
// x509 cannot put there.
func checkName(name string) error {
	if net.ParseIP(name) == nil && !isHostName(name) {
		return fmt.Errorf("%q is neither a host name nor an IP address without a zone", name)
	}
	return nil
}

// isHostName is RFC 1123 section 2.1, and the underscore that some hosts bear
// all the same.
func isHostName(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, allowed) != "" || label[0] == '-' {
			return false
		}
	}
	return len(name) <= 253
}
