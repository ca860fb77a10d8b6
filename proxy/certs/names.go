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

// maxLocalNames bounds the result of LocalNames. Some hosts have thousands of addresses, and
// devices have only a few KiB for a certificate.
const maxLocalNames = 64

// LocalNames returns the names and addresses by which devices may reach this
// machine: localhost, the loopback addresses, the host's name (with and
// without its domain; with .local, as multicast DNS has it, if there is none),
// and the addresses of its interfaces, at most 64 in all. Link-local IPv6
// addresses are left out, as they mean nothing without their zone.
func LocalNames() []string {
	// If the system does not report its name or its addresses, the loopback ones remain.
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

// covers reports whether clients that use any of names for the server accept the certificate.
func covers(cert *x509.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		return cert.VerifyHostname(name) != nil
	})
}

// checkName refuses names that no client looks for in a certificate, or that x509 cannot
// encode.
func checkName(name string) error {
	if net.ParseIP(name) == nil && !isHostName(name) {
		return fmt.Errorf("%q is neither a host name nor an IP address without a zone", name)
	}
	return nil
}

// isHostName checks for RFC 1123 section 2.1, and allows the underscore that some host names
// have.
func isHostName(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, allowed) != "" || label[0] == '-' {
			return false
		}
	}
	return len(name) <= 253
}
