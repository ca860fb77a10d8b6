package tokenjwt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// transport returns what asks the URL once, by what the files hold now.
func (f TLSFiles) transport() (*http.Transport, error) {
	conf := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		content, _, err := files.Read(f.CA, maxContent)
		if err != nil {
			return nil, fmt.Errorf("tls: ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("tls: ca: %s: no certificate in PEM in it", f.CA)
		}
	}
	if f.Certificate != "" {
		pair, err := f.keyPair()
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    10 * time.Second,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

func (f TLSFiles) keyPair() (tls.Certificate, error) {
	certificate, _, err := files.Read(f.Certificate, maxContent)
	key, _, keyErr := files.Read(f.Key, maxContent)
	if err := errors.Join(err, keyErr); err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s, %s: not a certificate and its key in PEM: %w", f.Certificate, f.Key, err)
	}
	return pair, nil
}
