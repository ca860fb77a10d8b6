package tokenjwt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/clienttls"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// transport returns a transport for one request to the URL, with the current content of the
// files.
func (f TLSFiles) transport() (*http.Transport, error) {
	conf := &tls.Config{ServerName: f.ServerName, MinVersion: clienttls.MinVersion}
	if f.CA != "" {
		content, _, err := files.Read(f.CA, maxContent)
		if err != nil {
			return nil, fmt.Errorf("tls: ca: %w", err)
		}
		if conf.RootCAs, err = clienttls.Roots(content); err != nil {
			return nil, fmt.Errorf("tls: ca: %s: %w", f.CA, err)
		}
	}
	if f.Certificate != "" {
		pair, err := f.keyPair()
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		conf.Certificates = []tls.Certificate{*pair}
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    10 * time.Second,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

func (f TLSFiles) keyPair() (*tls.Certificate, error) {
	certificate, _, err := files.Read(f.Certificate, maxContent)
	key, _, keyErr := files.Read(f.Key, maxContent)
	if err := errors.Join(err, keyErr); err != nil {
		return nil, err
	}
	pair, err := clienttls.KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", f.Certificate, f.Key, err)
	}
	return pair, nil
}
