package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// adminClient returns a client for the admin side and the scheme of its URLs. With TLS, the admin
// side must show the certificate that the configuration names. Its names and its expiry do not
// count, because the address may be that of a tunnel and an expired certificate is still served.
func adminClient(c *config.Config) (*http.Client, string, error) {
	path := service.AdminCertificate(c)
	if path == "" {
		return http.DefaultClient, "http", nil
	}
	own, err := firstCertificate(path)
	if err != nil {
		return nil, "", fmt.Errorf("certificate of the admin side: %w; name the configuration and the data directory of the running proxy with --config and --data", err)
	}
	verify := func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 || !state.PeerCertificates[0].Equal(own) {
			return fmt.Errorf("it does not have the certificate in %s", path)
		}
		return nil
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: verify}, DisableKeepAlives: true}
	return &http.Client{Transport: transport}, "https", nil
}

// firstCertificate returns the first certificate in a PEM file.
func firstCertificate(path string) (*x509.Certificate, error) {
	text, _, err := files.Read(path, admin.MaxSecret)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New(path + " has no certificate")
}
