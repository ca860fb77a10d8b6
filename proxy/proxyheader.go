package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
)

// readHeader reads the header of a load balancer, if the listener requires one.
//
// Then every connection must have one: a connection from another address, or without a
// header, is closed. Otherwise a client that reaches the listener without the load balancer
// could claim any address, or hide behind that of the load balancer.
func (c *conn) readHeader() error {
	if len(c.listener.proxies) == 0 {
		return nil
	}
	if !containsAddr(c.listener.proxies, c.arrival.addr.Addr()) {
		return refuse(ProxyHeader, errors.New("the address is not one of the load balancers that this listener is for"))
	}
	header, err := proxyproto.Read(c.arrival.raw)
	switch {
	case isTimeout(err):
		return refuse(ConnectTimeout, errors.New("no complete PROXY protocol header"))
	case closedByPeer(err):
		return refuse(HealthCheck, errors.New("closed before a PROXY protocol header"))
	case err != nil:
		return refuse(ProxyHeader, err)
	}
	c.arrival.header, c.arrival.probe = header, header.Local
	if !header.Source.IsValid() {
		return nil
	}
	c.arrival.addr = header.Source
	if c.behindReverseProxy() {
		return nil
	}
	return c.countKnownAddress()
}

// countKnownAddress counts a connection whose address was not known when it was accepted.
// If it is only to be refused now, its client has little time for its CONNECT.
func (c *conn) countKnownAddress() error {
	if !c.srv.admission.countAddress(c) {
		return refuse(RateExceeded, errors.New("a flood of new connections from one address"))
	}
	if c.arrival.excess != nil {
		c.setReadDeadline(time.Now().Add(lingerTimeout))
	}
	return nil
}

// containsAddr reports whether one of the networks contains addr.
func containsAddr(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// closedByPeer reports whether the peer has closed the connection. Health checks of load
// balancers do that, many of them with a reset.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}

// asHealthCheck returns HealthCheck in place of err if the load balancer has connected on its
// own behalf and closed the connection without a CONNECT. Otherwise it returns err.
func (c *conn) asHealthCheck(err error) error {
	var refused *RefusedError
	if c.arrival.probe && errors.As(err, &refused) && (refused.Reason == ConnectionLost || refused.Reason == TLSFailed && closedByPeer(refused.Err)) {
		return refuse(HealthCheck, refused.Err)
	}
	return err
}

// proxyHeader returns what a PROXY protocol header can say to the broker about the client.
// What the header of a load balancer says takes precedence over what the proxy itself sees.
func (a *arrival) proxyHeader() *proxyproto.Header {
	h := &proxyproto.Header{Source: a.addr, Destination: addrPortOf(a.raw.LocalAddr())}
	if a.header != nil {
		h.UniqueID = a.header.UniqueID
		if a.header.Destination.IsValid() {
			h.Destination = a.header.Destination
		}
		if a.header.SSL != nil || a.tls == nil {
			h.SSL, h.Authority, h.ALPN = a.header.SSL, a.header.Authority, a.header.ALPN
			return h
		}
	}
	if a.tls != nil {
		h.SSL, h.Authority, h.ALPN = sslOf(a.tls), a.tls.ServerName, a.tls.NegotiatedProtocol
	}
	return h
}

// sslOf describes a TLS connection in the terms of the PROXY protocol.
func sslOf(s *tls.ConnectionState) *proxyproto.SSL {
	ssl := &proxyproto.SSL{
		Version: strings.Replace(tls.VersionName(s.Version), "TLS ", "TLSv", 1),
		Cipher:  opensslName(tls.CipherSuiteName(s.CipherSuite)),
	}
	if len(s.VerifiedChains) > 0 {
		ssl.Verified, ssl.Resumed = true, s.DidResume
		ssl.CommonName = s.VerifiedChains[0][0].Subject.CommonName
	}
	return ssl
}

// opensslName returns OpenSSL's name of a cipher suite. For TLS 1.3 that is the name in the
// standard; older ones have names such as ECDHE-RSA-AES128-GCM-SHA256.
func opensslName(name string) string {
	suite, ok := strings.CutPrefix(name, "TLS_")
	exchange, cipher, before13 := strings.Cut(suite, "_WITH_")
	if !ok || !before13 {
		return name
	}
	cipher = strings.NewReplacer("AES_128", "AES128", "AES_256", "AES256", "_CBC", "", "_POLY1305_SHA256", "_POLY1305").Replace(cipher)
	if exchange == "RSA" {
		return strings.ReplaceAll(cipher, "_", "-")
	}
	return strings.ReplaceAll(exchange+"-"+cipher, "_", "-")
}
